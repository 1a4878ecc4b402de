"""What became of every request, live or replayed, and the figures that a report needs of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from router.core.latency import PACE_TOKENS
from router.model import Budget


class Record(NamedTuple):
    """One answered request as its caller saw it. ``serial``: its place in the list of
    requests. ``at_s``: arrival, wall seconds after the start.

    ``energy_j`` and ``marginal_energy_j`` are IT energy (GPU and host); ``gco2e`` counts
    attributional facility energy. ``ttft_ms`` is NaN where the answer came in one piece.
    """

    serial: int
    label: str
    origin: str
    region: str
    endpoint: str
    at_s: float
    ttft_ms: float
    e2e_ms: float
    output_tokens: float
    energy_j: float
    marginal_energy_j: float
    gco2e: float
    met: bool


class Summary(NamedTuple):
    """Figures over a set of requests. Latencies in ms, NaN where none was measured.

    ``met`` is the share of *offered* requests that were answered within every budget: a refused
    request counts against it. Joules and grams are totals over the completed ones.
    ``tpot_*``: of answers of two tokens or more whose TTFT is known.
    """

    offered: int
    completed: int
    met: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    ttft_p99_ms: float
    e2e_p50_ms: float
    e2e_p95_ms: float
    e2e_p99_ms: float
    tpot_p50_ms: float
    tpot_p95_ms: float
    energy_j: float
    marginal_energy_j: float
    gco2e: float

    @property
    def j_per_request(self) -> float:
        """Mean attributional J of a completed request; NaN without one."""
        return self.energy_j / self.completed if self.completed else math.nan

    @property
    def g_per_request(self) -> float:
        """Mean attributional gCO2e of a completed request; NaN without one."""
        return self.gco2e / self.completed if self.completed else math.nan


@dataclass(frozen=True, slots=True)
class FleetEnergy:
    """What the whole fleet drew, facility energy (PUE included), idle draw apart.

    ``busy_*``: replicas with at least one request. ``idle_*``: replicas with none, until the end
    of the period: zero where idle replicas are released. Grams at the intensity of each hour.
    """

    busy_j: float
    idle_j: float
    busy_g: float
    idle_g: float

    @property
    def total_j(self) -> float:
        """Energy with every replica kept on."""
        return self.busy_j + self.idle_j

    @property
    def total_g(self) -> float:
        """Grams with every replica kept on."""
        return self.busy_g + self.idle_g


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One policy over a list of requests. ``refused``: by reason. ``fleet`` None: not known."""

    policy: str
    offered: int
    records: tuple[Record, ...]
    refused: Mapping[str, int]
    fleet: FleetEnergy | None

    def summary(self) -> Summary:
        """Over every request."""
        return summarise(self.records, self.offered)

    def shares(self) -> dict[str, float]:
        """Share of the completed requests by region."""
        counts = Counter(record.region for record in self.records)
        return {region: count / len(self.records) for region, count in sorted(counts.items())}


def meets(budget: Budget, ttft_ms: float, e2e_ms: float, output_tokens: float) -> bool:
    """Whether an answer kept its budget. An unknown TTFT (NaN) is not held against it.

    The pace is the mean time per output token after the first, of PACE_TOKENS at the least; unknown
    where TTFT is.
    """
    pace_ms = (e2e_ms - ttft_ms) / max(output_tokens - 1.0, PACE_TOKENS - 1.0)
    limits = ((ttft_ms, budget.ttft_ms), (pace_ms, budget.tpot_ms), (e2e_ms, budget.e2e_ms))
    return not any(actual > limit for actual, limit in limits)


def mean_tpot_ms(ttft_ms: float, e2e_ms: float, output_tokens: float) -> float:
    """TPOT of an answer of two tokens and more: (end to end - TTFT) / tokens after the first; NaN
    where TTFT is."""
    return (e2e_ms - ttft_ms) / max(output_tokens - 1.0, 1.0)


def summarise(records: Sequence[Record], offered: int) -> Summary:
    """Figures of ``records`` out of ``offered`` requests."""
    ttft = sorted(r.ttft_ms for r in records if not math.isnan(r.ttft_ms))
    e2e = sorted(record.e2e_ms for record in records)
    # One token has no time between tokens.
    tpot = sorted(
        mean_tpot_ms(r.ttft_ms, r.e2e_ms, r.output_tokens)
        for r in records
        if r.output_tokens >= 2.0 and not math.isnan(r.ttft_ms)
    )
    return Summary(
        offered,
        len(records),
        sum(record.met for record in records) / offered if offered else math.nan,
        percentile(ttft, 0.5),
        percentile(ttft, 0.95),
        percentile(ttft, 0.99),
        percentile(e2e, 0.5),
        percentile(e2e, 0.95),
        percentile(e2e, 0.99),
        percentile(tpot, 0.5),
        percentile(tpot, 0.95),
        math.fsum(record.energy_j for record in records),
        math.fsum(record.marginal_energy_j for record in records),
        math.fsum(record.gco2e for record in records),
    )


def percentile(ordered: Sequence[float], q: float) -> float:
    """The ``q`` quantile of sorted values, nearest rank; NaN of none."""
    if not ordered:
        return math.nan
    return ordered[min(len(ordered) - 1, max(0, math.ceil(q * len(ordered)) - 1))]
