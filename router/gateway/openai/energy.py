"""A receipt in the terms of HTTP: ``usage.energy``.

``usage.energy`` has the names of the Green Web Foundation's draft (C. Adams, gist 16525c1a), with
units as SI has them: 3,600 J are a watt-hour. Its joules are the facility's, which the grams are
of.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from router.model import Provenance, Receipt
from router.units import J_PER_WH

_DIGITS: Final = 6


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
