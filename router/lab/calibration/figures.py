"""Live and simulated figures of the same requests, side by side, and whether they agree.

Tolerances: shares by region within 3 points, 95th percentiles within 10 %, grams within 5 %;
joules are held to the grams', the answered share to 1 point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.lab.emulator.lag import quantile_ms

SHARE_POINTS: Final = 0.03
ANSWERED_POINTS: Final = 0.01
LATENCY: Final = 0.10
GRAMS: Final = 0.05
# A 95th percentile of fewer says nothing within its tolerance, nor does a share.
LEAST_REQUESTS: Final = 500
# A request's first token waits for about four wake-ups: late ones must not fill the tolerance.
LATE_FRACTION: Final = LATENCY / 4.0
# Below this an event loop is as punctual as it gets.
PUNCTUAL_MS: Final = 2.0
# A call through the gateway takes under 1 ms (docs/benchmarks.md); the rest is room for timers.
MOST_ADDED_MS: Final = 5.0
# Of one core: beyond it a queue of its own forms in a process.
MOST_CPU: Final = 0.8
# A median of fewer says little.
LEAST_PROBES: Final = 20


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Answered requests as columns of equal length. ``region``: place in the fleet's list, -1
    where the answer did not say; ``energy_j``: attributional IT joules; ``gco2e``: facility grams.
    ``refused``: those without an answer, by reason.
    """

    region: NDArray[np.int64]
    ttft_ms: NDArray[np.float64]
    e2e_ms: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    marginal_energy_j: NDArray[np.float64]
    gco2e: NDArray[np.float64]
    met: NDArray[np.bool_]
    refused: Mapping[str, int]


class RegionFigures(NamedTuple):
    """Of one region, or of all. Latencies in ms, NaN of none; ``share`` of the answered."""

    answered: int
    share: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    e2e_p50_ms: float
    e2e_p95_ms: float
    energy_j: float
    marginal_energy_j: float
    gco2e: float


def figures(answers: Answers, region: int | None = None) -> RegionFigures:
    """Of ``region`` (its place), or of all."""
    mine = np.ones(len(answers.region), bool) if region is None else answers.region == region
    count = int(mine.sum())
    ttft = np.sort(answers.ttft_ms[mine & ~np.isnan(answers.ttft_ms)])
    e2e = np.sort(answers.e2e_ms[mine])
    return RegionFigures(
        count,
        count / max(1, len(answers.region)),
        _quantile(ttft, 0.5),
        _quantile(ttft, 0.95),
        _quantile(e2e, 0.5),
        _quantile(e2e, 0.95),
        math.fsum(answers.energy_j[mine].tolist()),
        math.fsum(answers.marginal_energy_j[mine].tolist()),
        math.fsum(answers.gco2e[mine].tolist()),
    )


def _quantile(ordered: NDArray[np.float64], q: float) -> float:
    """Nearest rank; NaN of none."""
    if not len(ordered):
        return math.nan
    return float(ordered[min(len(ordered) - 1, max(0, math.ceil(q * len(ordered)) - 1))])


class Row(NamedTuple):
    """One region, or "all": live, simulated, and the simulated share's range over its draws."""

    name: str
    live: RegionFigures
    simulated: RegionFigures
    share_range: tuple[float, float]

    @property
    def added_ms(self) -> float:
        """By how much a median first token took longer live."""
        return self.live.ttft_p50_ms - self.simulated.ttft_p50_ms


class Check(NamedTuple):
    """One figure held to a tolerance. ``difference``: live less simulated, in points of a share
    or relative to the simulated. ``low``, ``high``: the simulated figure over its draws.
    """

    what: str
    unit: str
    live: float
    simulated: float
    low: float
    high: float
    difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether it lies within the tolerance; an unknown figure does not."""
        return abs(self.difference) <= self.tolerance


class HostTiming(NamedTuple):
    """How well the machine kept time. Lags: how late event loops woke up, p50, p95 and p99, ms.

    ``cpu``: share of one core that each process used.
    """

    callers_lag_ms: tuple[float, float, float]
    servers_lag_ms: tuple[float, float, float]
    cpu: Mapping[str, float]


class Loopback(NamedTuple):
    """What the loopback itself adds to a first token, by probes past the gateway. ``delay_ms``:
    what the simulation is given of it, the probes' median; 0 of too few of them.
    """

    probes: int
    p50_ms: float
    p95_ms: float
    delay_ms: float


def loopback(added_ms: Sequence[float]) -> Loopback:
    """From what each probe took beyond its emulated time."""
    ordered = np.sort(np.array(added_ms, np.float64))
    middle = _quantile(ordered, 0.5)
    delay_ms = max(0.0, middle) if len(ordered) >= LEAST_PROBES else 0.0
    return Loopback(len(ordered), middle, _quantile(ordered, 0.95), delay_ms)


def host_timing(
    callers: Sequence[int], servers: Sequence[int], cpu: Mapping[str, float]
) -> HostTiming:
    """From the counts of `router.lab.emulator.lag` and the share of a core by process."""

    def lags(counts: Sequence[int]) -> tuple[float, float, float]:
        if not counts:
            return math.nan, math.nan, math.nan
        return quantile_ms(counts, 0.5), quantile_ms(counts, 0.95), quantile_ms(counts, 0.99)

    return HostTiming(lags(callers), lags(servers), dict(cpu))


def shortcomings(timing: HostTiming, offered: int, everything: Row) -> tuple[str, ...]:
    """What keeps a difference from being blamed on the simulation; empty where nothing does."""
    found = []
    if offered < LEAST_REQUESTS:
        found.append(
            f"{offered} requests are too few to tell (at least {LEAST_REQUESTS}): play for longer"
        )
    allowed_ms = max(PUNCTUAL_MS, LATE_FRACTION * everything.simulated.ttft_p95_ms)
    for who, lags in (
        ("the callers", timing.callers_lag_ms),
        ("the emulated servers", timing.servers_lag_ms),
    ):
        if not lags[1] <= allowed_ms:
            found.append(
                f"the machine did not keep time: {who} woke up over {lags[1]:.0f} ms late for "
                f"5 % of the time, {allowed_ms:.1f} ms would do"
            )
    if everything.added_ms > MOST_ADDED_MS:
        found.append(
            f"the machine was slow: a first token took {everything.added_ms:.1f} ms longer at the "
            f"median than simulated, {MOST_ADDED_MS:g} ms would do"
        )
    for name, share in timing.cpu.items():
        if share > MOST_CPU:
            found.append(f"the machine was too small: {name} used {share:.0%} of a core")
    return tuple(found)


def rows(regions: Sequence[str], live: Answers, draws: Sequence[Answers]) -> list[Row]:
    """One by region in the fleet's order, then "all"; ``draws[0]`` is the one compared."""
    found = []
    places: list[int | None] = [*range(len(regions)), None]
    for name, place in zip((*regions, "all"), places, strict=True):
        shares = [figures(draw, place).share for draw in draws]
        row = Row(name, figures(live, place), figures(draws[0], place), (min(shares), max(shares)))
        found.append(row)
    return found


def checks(
    regions: Sequence[str], live: Answers, draws: Sequence[Answers], offered: int
) -> list[Check]:
    """Every figure that is held to a tolerance."""
    theirs = [figures(draw) for draw in draws]
    ours = figures(live)
    found = [
        _points(f"share of {name}", figures(live, place).share,
                [figures(draw, place).share for draw in draws], SHARE_POINTS)
        for place, name in enumerate(regions)
    ]  # fmt: skip
    found.append(
        _points("share answered", ours.answered / offered if offered else math.nan,
                [one.answered / offered if offered else math.nan for one in theirs],
                ANSWERED_POINTS)
    )  # fmt: skip
    for what, unit, name, tolerance in (
        ("p95 TTFT", "ms", "ttft_p95_ms", LATENCY),
        ("p95 end to end", "ms", "e2e_p95_ms", LATENCY),
        ("energy", "J", "energy_j", GRAMS),
        ("emissions", "gCO2e", "gco2e", GRAMS),
    ):
        values = [float(getattr(one, name)) for one in theirs]
        value = float(getattr(ours, name))
        difference = value / values[0] - 1.0 if values[0] else math.nan
        found.append(
            Check(what, unit, value, values[0], min(values), max(values), difference, tolerance)
        )
    return found


def _points(what: str, live: float, simulated: Sequence[float], tolerance: float) -> Check:
    return Check(
        what, "", live, simulated[0], min(simulated), max(simulated), live - simulated[0],
        tolerance,
    )  # fmt: skip
