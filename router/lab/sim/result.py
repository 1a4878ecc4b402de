"""What a simulated policy came to: figures in bounded memory, and rows for those who want them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from router.lab.sim.histogram import Histogram
from router.model import Relax

# Why a request has no answer; the first one: it has.
REASONS: Final = (
    "",
    "shed",
    "budget_impossible",
    "no_feasible_endpoint",
    "policy_excludes_all",
    "residency_excluded",
    "upstream_fault",
)

Columns = Mapping[str, NDArray[np.float64] | NDArray[np.int64]]


class MinuteSink(Protocol):
    """Takes rows of replicas as they come, in columns of equal length; arrays are its to keep."""

    def replicas(self, columns: Columns) -> None:
        """One row a replica and minute: ``minute_s``, ``endpoint``, ``model`` (codes), mean
        ``batch``, mean ``power_w`` (IT) and ``active``, the share of the minute with work.
        """
        ...


class Sink(MinuteSink, Protocol):
    """Takes rows of requests too."""

    def requests(self, columns: Columns) -> None:
        """Requests in order of their end. Integer columns ``origin``, ``model``, ``region``,
        ``endpoint`` and ``shed_reason`` are codes into `RowNames` (-1: none); times are seconds
        since the start, ``ttft_s`` a duration from arrival; energies are IT joules (GPU and
        host); grams are facility grams. NaN where a request had no answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class RowNames:
    """What the codes in rows stand for. ``shed_reasons[0]`` is "": answered."""

    origins: tuple[str, ...]
    models: tuple[str, ...]
    regions: tuple[str, ...]
    endpoints: tuple[str, ...]
    shed_reasons: tuple[str, ...] = REASONS


@dataclass(frozen=True, slots=True)
class FleetAccount:
    """What a fleet drew, facility energy (PUE and host included), over a span.

    ``busy_*``: replicas with a request; ``idle_*``: awake without one; ``wake_*``: waking up;
    ``spared_*``: what idle draw would have been while replicas were released or down. Grams at
    the intensity that really was.
    """

    busy_j: float
    idle_j: float
    wake_j: float
    spared_j: float
    busy_g: float
    idle_g: float
    wake_g: float
    spared_g: float

    @property
    def total_j(self) -> float:
        """Energy drawn: the consequential figure of a policy."""
        return self.busy_j + self.idle_j + self.wake_j

    @property
    def total_g(self) -> float:
        """Grams emitted: the consequential figure of a policy."""
        return self.busy_g + self.idle_g + self.wake_g


@dataclass(frozen=True, slots=True, eq=False)
class RegionSums:
    """Of the answered requests by region, in the order of the fleet; joules are IT joules.

    ``prompt_energy_j``: of ``energy_j``, what reading the prompts took.
    """

    completed: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    marginal_energy_j: NDArray[np.float64]
    gco2e: NDArray[np.float64]
    marginal_gco2e: NDArray[np.float64]
    prompt_energy_j: NDArray[np.float64]


class PromptTokens(NamedTuple):
    """Of the answered requests: tokens of their prompts, and those of them that replicas had cached
    and did not read."""

    input: float
    cached: float

    @property
    def cached_share(self) -> float:
        """NaN of no tokens."""
        return self.cached / self.input if self.input else math.nan


NO_PROMPTS: Final = PromptTokens(0.0, 0.0)


class VariantCount(NamedTuple):
    """Requests for an ``alias`` that ``model`` answered, whose ``quality`` is by the alias's
    source."""

    alias: str
    model: str
    quality: float
    completed: int


@dataclass(frozen=True, slots=True, eq=False)
class PolicyResult:
    """One policy over a scenario; requests that came before the end of the warm-up not counted.

    ``refused``: by reason. ``failed``: lost with their replica. ``met``: share of the offered
    requests that were answered within each of their own budgets. ``tpot_ms``: (end to end - TTFT) /
    tokens, of answers of two tokens or more; one token has no time between tokens.
    ``hourly_requests`` (hours, regions): decided, by hour of arrival from the clock hour of the
    start. ``fleet_hours``: the fleet's account by hour, the tail after the end with the last.
    ``moved``: at every update of the carbon signal but the first, (seconds since the start, share
    of the traffic whose region differs from the interval before: half the sum over regions of the
    change of share, by origin and model). ``peak_over_cap``: most in flight over
    ``max_in_flight``, less 1, of any endpoint.
    ``relaxed``: rungs of the ladder taken, by name.
    """

    policy: str
    regions: tuple[str, ...]
    offered: int
    completed: int
    refused: Mapping[str, int]
    failed: int
    met: float
    ttft_ms: Histogram
    e2e_ms: Histogram
    tpot_ms: Histogram
    by_region: RegionSums
    hourly_requests: NDArray[np.int64]
    fleet: FleetAccount
    fleet_hours: tuple[FleetAccount, ...]
    moved: tuple[tuple[float, float], ...]
    peak_over_cap: float
    relaxed: Mapping[str, int]
    prompts: PromptTokens = NO_PROMPTS
    variants: tuple[VariantCount, ...] = ()

    @property
    def mean_quality(self) -> float:
        """Of the answered requests for aliases; NaN where there were none."""
        count = sum(one.completed for one in self.variants)
        total = math.fsum(one.quality * one.completed for one in self.variants)
        return total / count if count else math.nan

    @property
    def energy_j(self) -> float:
        """Attributional IT joules of the answered requests."""
        return float(self.by_region.energy_j.sum())

    @property
    def prompt_energy_j(self) -> float:
        """Of `energy_j`, what reading the prompts took."""
        return float(self.by_region.prompt_energy_j.sum())

    @property
    def marginal_energy_j(self) -> float:
        """Short-run marginal IT joules of the answered requests."""
        return float(self.by_region.marginal_energy_j.sum())

    @property
    def gco2e(self) -> float:
        """Attributional facility grams of the answered requests."""
        return float(self.by_region.gco2e.sum())

    @property
    def marginal_gco2e(self) -> float:
        """Short-run marginal facility grams of the answered requests."""
        return float(self.by_region.marginal_gco2e.sum())

    def shares(self) -> dict[str, float]:
        """Share of the answered requests by region."""
        counts = self.by_region.completed
        total = max(float(counts.sum()), 1.0)
        return {name: float(n) / total for name, n in zip(self.regions, counts, strict=True)}


def by_rung(ladder: Sequence[Relax], counts: Sequence[float]) -> dict[str, int]:
    """Requests decided with each rung, by its name; 0 for one that is not of the ``ladder``."""
    found = {rung.value: 0 for rung in Relax}
    for rung, count in zip(ladder, counts, strict=True):
        found[rung.value] = round(count)
    return found
