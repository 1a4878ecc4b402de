"""A receipt in the terms of HTTP: the ``x-carbon`` field, and ``usage.energy``.

``usage.energy`` has the names of the Green Web Foundation's draft (C. Adams, gist 16525c1a), with
units as SI has them: 3,600 J are a watt-hour. Its joules are the facility's, which the grams are
of.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from router.director.dispatcher import STATE_STORE_FAILING
from router.model import Decision, Provenance, Receipt
from router.units import J_PER_WH

_DIGITS: Final = 6


def carbon_field(decision: Decision, decision_id: str, receipt: Receipt | None = None) -> str:
    """The decision in one header field, a dictionary as of RFC 9651; of an answer that is whole
    with what it took."""
    endpoint, intensity = decision.endpoint, decision.intensity
    parts = [
        f'id="{decision_id}"',
        f'region="{_quoted(endpoint.region)}"',
        f'endpoint="{_quoted(endpoint.name)}"',
    ]
    if intensity is not None and math.isfinite(decision.run_g_per_kwh):
        parts.append(f"g_per_kwh={decision.run_g_per_kwh:.1f}")
        parts.append(f"kind={intensity.kind}")
        parts.append(f"basis={intensity.signal.basis}")
    if receipt is not None and math.isfinite(receipt.gco2e):
        parts.append(f"gco2e={receipt.gco2e:.9f}")
        parts.append(f"energy_j={receipt.energy_j:.3f}")
        parts.append(f"energy_kind={receipt.energy_kind}")
    if receipt is not None and receipt.doubts:
        parts.append(f'ignored="{" ".join(receipt.doubts)}"')
    if receipt is not None and receipt.carbon_budget is not None:
        parts.append(f"budget_left={receipt.carbon_budget.left:.3f}")
    if STATE_STORE_FAILING in decision.flags:
        # True, as a dictionary says it.
        parts.append(STATE_STORE_FAILING)
    return ", ".join(parts)


def usage_energy(receipt: Receipt) -> dict[str, Any]:
    """What ``usage.energy`` says; a figure that is not known has no key."""
    decision, intensity = receipt.decision, receipt.decision.intensity
    joules = receipt.facility_energy_j
    told: dict[str, Any] = {
        "joules": _rounded(joules),
        "wh": _rounded(joules / J_PER_WH),
        "g_co2e": _rounded(receipt.gco2e),
        "source": str(receipt.energy_kind),
        "method": _method(receipt),
        "decision_id": receipt.decision_id,
        "region": receipt.region,
    }
    if intensity is not None:
        told["grid_carbon_intensity"] = _rounded(decision.run_g_per_kwh)
        if joules > 0.0 and math.isfinite(receipt.gco2e):
            # What the grams were reckoned with: the mean over the run.
            told["grid_carbon_intensity"] = _rounded(receipt.gco2e * J_PER_WH * 1e3 / joules)
        told["kind"] = str(intensity.kind)
        told["basis"] = f"{intensity.signal.basis}/{intensity.signal.factors}"
    if receipt.energy_low_j < receipt.energy_high_j < math.inf and receipt.energy_j > 0.0:
        per_joule = joules / receipt.energy_j
        ends = (receipt.energy_low_j * per_joule, receipt.energy_high_j * per_joule)
        told["range"] = {"joules": [_rounded(end) for end in ends]}
    if receipt.doubts:
        told["ignored"] = list(receipt.doubts)
    return {key: value for key, value in told.items() if value is not None}


def energy_json(receipt: Receipt) -> bytes:
    """`usage_energy` as JSON, in one line."""
    return msgspec.json.encode(usage_energy(receipt))


def _method(receipt: Receipt) -> str:
    if receipt.energy_kind is Provenance.MEASURED:
        return "reported by the server"
    return f"profile {receipt.decision.served.profile.name}, {receipt.tokens_kind} tokens"


def _rounded(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _quoted(text: str) -> str:
    """A name as a quoted string may hold it: what is not printable ASCII becomes ``?``."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(one if one.isascii() and one.isprintable() else "?" for one in text)
    return text.replace("\\", "\\\\").replace('"', '\\"')
