"""Receipt -> trailing metadata (``x-carbon-*``): what the caller learns of its request.

Values are ASCII; a figure that is not known has no key. Joules are of IT equipment (GPU and host)
unless the key says ``facility``; ``x-carbon-energy-kind`` says how they came to be, and the
``intensity-*`` keys how the grid's figure did. Predicted latency is at the policy's quantile.
"""

from __future__ import annotations

import math
from functools import lru_cache

from router.contract import Metadata
from router.model import Intensity, Receipt

_MAX_TEXT = 256


def trailers(receipt: Receipt) -> list[tuple[str, str]]:
    """The receipt of one request as metadata, in one pass: it is on the hot path."""
    decision = receipt.decision
    decision_id = receipt.decision_id
    items = [
        ("x-carbon-decision-id", decision_id if decision_id.isascii() else _ascii(decision_id)),
        *_place(receipt.policy, receipt.region, receipt.grid_zone, decision.endpoint.name),
        ("x-carbon-energy-j", f"{receipt.energy_j:.6g}"),
        ("x-carbon-energy-kind", receipt.energy_kind),
        ("x-carbon-marginal-energy-j", f"{receipt.marginal_energy_j:.6g}"),
        ("x-carbon-facility-energy-j", f"{receipt.facility_energy_j:.6g}"),
        ("x-carbon-gco2e", f"{receipt.gco2e:.6g}"),
        ("x-carbon-predicted-ttft-ms", f"{decision.ttft_ms:.1f}"),
        ("x-carbon-predicted-e2e-ms", f"{decision.e2e_ms:.1f}"),
        ("x-carbon-actual-ttft-ms", f"{receipt.ttft_ms:.1f}"),
        ("x-carbon-actual-e2e-ms", f"{receipt.e2e_ms:.1f}"),
        # Comparable with each other: both are predictions, made at once and alike.
        ("x-carbon-predicted-gco2e", f"{decision.gco2e:.6g}"),
        ("x-carbon-latency-first-endpoint", _ascii(decision.latency_first_endpoint)),
        ("x-carbon-latency-first-gco2e", f"{decision.latency_first_gco2e:.6g}"),
    ]
    if receipt.marginal is not None and math.isfinite(receipt.marginal_gco2e):
        items.append(("x-carbon-marginal", _marginal(receipt.marginal, receipt.marginal_gco2e)))
    if receipt.attempts > 1:
        items.append(("x-carbon-attempts", str(receipt.attempts)))
    intensity = decision.intensity
    if intensity is not None:
        # Said only of a run that leaves the hour: each key costs a microsecond inside gRPC.
        if decision.run_g_per_kwh != intensity.g_per_kwh:
            items.append(("x-carbon-run-g-per-kwh", f"{decision.run_g_per_kwh:.6g}"))
        items += _intensity(intensity)
        age_s = receipt.finished_at - intensity.observed_at
        items.append(("x-carbon-intensity-age-s", f"{age_s:.0f}" if age_s > 0.0 else "0"))
    if decision.flags:
        items.append(("x-carbon-flags", ",".join(map(_ascii, decision.flags))))
    if decision.relaxed:
        items.append(("x-carbon-relaxed", ",".join(decision.relaxed)))
    known = (
        receipt.energy_j
        + receipt.marginal_energy_j
        + receipt.facility_energy_j
        + receipt.gco2e
        + receipt.ttft_ms
        + receipt.e2e_ms
        + decision.run_g_per_kwh
        + decision.ttft_ms
        + decision.e2e_ms
        + decision.gco2e
        + decision.latency_first_gco2e
    )
    if math.isfinite(known) and decision.latency_first_endpoint:
        return items
    return [item for item in items if item[1] not in _UNKNOWN]


_UNKNOWN = frozenset(("", "nan", "inf", "-inf"))


class StreamReceipts:
    """The receipts of one stream: grams and joules in total, everything else of the last one."""

    __slots__ = ("_last", "_marginal_g", "_totals", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self._last: Receipt | None = None
        self._totals = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        self._marginal_g = 0.0

    def add(self, receipt: Receipt) -> None:
        """Count one request in."""
        energy_j, marginal_j, facility_j, gco2e, predicted, latency_first = self._totals
        self.requests += 1
        self._last = receipt
        self._marginal_g += receipt.marginal_gco2e
        self._totals = (
            energy_j + receipt.energy_j,
            marginal_j + receipt.marginal_energy_j,
            facility_j + receipt.facility_energy_j,
            gco2e + receipt.gco2e,
            predicted + receipt.decision.gco2e,
            latency_first + receipt.decision.latency_first_gco2e,
        )

    def trailers(self) -> Metadata:
        """Metadata for the end of the stream; ``x-carbon-requests`` says how many it sums up.

        A total with a part that is not known has no key.
        """
        count = ("x-carbon-requests", str(self.requests))
        if self._last is None:
            return [count]
        energy_j, marginal_j, facility_j, gco2e, predicted, latency_first = self._totals
        last = self._last
        summed = last._replace(
            energy_j=energy_j,
            marginal_energy_j=marginal_j,
            facility_energy_j=facility_j,
            gco2e=gco2e,
            marginal_gco2e=self._marginal_g,
            decision=last.decision._replace(gco2e=predicted, latency_first_gco2e=latency_first),
        )
        return [count, *trailers(summed)]


def _marginal(intensity: Intensity, grams: float) -> str:
    """A consequential estimate, in one key: each costs a microsecond inside gRPC."""
    return (
        f"gco2e={grams:.6g}; g-per-kwh={intensity.g_per_kwh:.6g}; kind={intensity.kind}; "
        f"source={_ascii(intensity.source)}; estimate=consequential"
    )


@lru_cache(maxsize=1024)
def _intensity(intensity: Intensity) -> tuple[tuple[str, str], ...]:
    """The grid's figure and where it is from: the same for all requests until the next refresh."""
    return (
        ("x-carbon-g-per-kwh", f"{intensity.g_per_kwh:.6g}"),
        (
            "x-carbon-g-per-kwh-interval",
            f"{intensity.low_g_per_kwh:.6g}-{intensity.high_g_per_kwh:.6g}",
        ),
        ("x-carbon-basis", intensity.signal.basis),
        ("x-carbon-factors", intensity.signal.factors),
        ("x-carbon-intensity-kind", intensity.kind),
        ("x-carbon-intensity-source", _ascii(intensity.source)),
    )


@lru_cache(maxsize=4096)
def _place(policy: str, region: str, grid_zone: str, endpoint: str) -> tuple[tuple[str, str], ...]:
    return (
        ("x-carbon-policy", _ascii(policy)),
        ("x-carbon-region", _ascii(region)),
        ("x-carbon-grid-zone", _ascii(grid_zone)),
        ("x-carbon-endpoint", _ascii(endpoint)),
    )


@lru_cache(maxsize=4096)
def _ascii(text: str) -> str:
    """``text`` as a metadata value may be: what is not printable ASCII becomes ``?``."""
    safe = text if text.isascii() and text.isprintable() else "".join(map(_printable, text))
    return safe[:_MAX_TEXT].strip()


def _printable(character: str) -> str:
    return character if character.isascii() and character.isprintable() else "?"
