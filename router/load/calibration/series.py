"""What was read of an endpoint, time by time, as spans of which joules and work are both known.

Exporters move their counters every so often (DCGM exporter every 30 s by default), which their
pages do not say: a span begins and ends where the meter has just moved. Whatever happens to meters,
counters and clocks ends a span; what was begun is dropped, and counted by its reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

from router.errors import DataError
from router.load.energy_meter import MeterReading, drawn_j
from router.load.work_counters import WorkCounters

# Of the usual time between two readings: a longer one is a gap, or a clock that was set.
_GAP: Final = 5.0
# A meter that has not moved for so long is broken: exporters read theirs every minute at least.
_STILL_S: Final = 120.0
_STILL_READINGS: Final = 10.0
# One GPU draws no less while it is on, and a rack of 72 no more (`router.ledger.energy_spans`).
_LEAST_W: Final = 1.0
_MOST_W: Final = 200e3
# Of one that a page tells apart from others; the largest are sold with 1.4 kW.
_MOST_GPU_W: Final = 3e3
# What is counted; each may be unknown throughout.
_COUNTED: Final = ("answer_tokens", "prompt_tokens", "iterations", "busy_s", "requests")


class EnergyReading(NamedTuple):
    """``at``: s, of any epoch. ``watts``: of all meters, NaN where they count joules."""

    at: float
    meter: MeterReading
    work: WorkCounters
    watts: float = math.nan


class WorkStep(NamedTuple):
    """Differences between two readings, over ``seconds``. ``awake_s``: with requests in it, as far
    as gauges tell: 0, all of it, or NaN. ``running``: the fewer requests of its two ends."""

    seconds: float
    answer_tokens: float
    prompt_tokens: float
    iterations: float
    busy_s: float
    requests: float
    awake_s: float
    running: float


class WorkSpan(NamedTuple):
    """Steps over which the meter counted ``energy_j``."""

    energy_j: float
    steps: tuple[WorkStep, ...]

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return self.total("seconds")

    def total(self, name: str) -> float:
        """Of a figure of its steps."""
        return math.fsum(getattr(step, name) for step in self.steps)


@dataclass(frozen=True, slots=True)
class WorkSeries:
    """``dropped``: pieces of time that are in no span, by reason. ``by_watts``: the joules are
    watts, added up. ``begun_at``, ``ended_at``: of the first and last reading."""

    spans: tuple[WorkSpan, ...]
    dropped: Mapping[str, int]
    by_watts: bool
    begun_at: float
    ended_at: float

    @property
    def seconds(self) -> float:
        """Of all spans."""
        return math.fsum(span.seconds for span in self.spans)

    @property
    def mean_w(self) -> float:
        """Over all spans."""
        return math.fsum(span.energy_j for span in self.spans) / self.seconds


def series_of(readings: Sequence[EnergyReading], least_s: float) -> WorkSeries:
    """``least_s``: of a span. Raises DataError where the meter tells nothing, or what no server
    draws."""
    if len(readings) < 3:
        raise DataError(f"{len(readings)} readings: too few to tell anything from")
    by_watts = not any(reading.meter.joules for reading in readings)
    if by_watts and all(math.isnan(reading.watts) for reading in readings):
        raise DataError(
            "the meter told neither joules nor watts: does its page have this endpoint?"
        )
    dropped: Counter[str] = Counter()
    spans = tuple(_spans(readings, by_watts, least_s, dropped))
    if not spans:
        why = ", ".join(f"{reason} ({count})" for reason, count in dropped.most_common())
        raise DataError(f"no span of which joules and work are known: {why or 'too short'}")
    series = WorkSeries(spans, dict(dropped), by_watts, readings[0].at, readings[-1].at)
    _check_watts(series.mean_w, max(len(reading.meter.joules) for reading in readings))
    return series


def _check_watts(watts: float, gpus: int) -> None:
    most_w = _MOST_GPU_W * gpus if gpus > 1 else _MOST_W
    if watts < _LEAST_W:
        raise DataError(
            f"{watts:g} W on the mean is what no server draws: is the meter's unit larger than "
            "taken (J for mJ: 1000 times), or does it stand still?"
        )
    if watts > most_w:
        raise DataError(
            f"{watts:g} W on the mean is what no server draws: is the meter's unit smaller than "
            "taken (mJ for J: 1000 times)?"
        )


def _spans(
    readings: Sequence[EnergyReading], by_watts: bool, least_s: float, dropped: Counter[str]
) -> Iterator[WorkSpan]:
    usual_s = median([now.at - before.at for before, now in pairwise(readings)])
    start: int | None = 0 if by_watts else None
    moved_at = readings[0].at
    for at, (before, now) in enumerate(pairwise(readings), 1):
        joules = _joules(before, now, by_watts)
        why = _why_not(before, now, joules, usual_s)
        if not why and joules > 0.0:
            moved_at = now.at
        elif not why and now.at - moved_at > max(_STILL_S, _STILL_READINGS * usual_s):
            why = "the meter stood still"
        if why:
            dropped[why] += 1
            start, moved_at = (at if by_watts else None), now.at
            continue
        if joules <= 0.0 and not by_watts:
            continue
        if start is None:
            start = at
        elif now.at - readings[start].at >= least_s:
            yield _span(readings[start : at + 1], by_watts)
            start = at


def _why_not(before: EnergyReading, now: EnergyReading, joules: float, usual_s: float) -> str:
    """Why nothing is known of the time between; "" where something is."""
    seconds = now.at - before.at
    if not seconds > 0.0:
        return "the clock stood still, or went back"
    if usual_s > 0.0 and seconds > _GAP * usual_s:
        return "a gap, or a clock that was set"
    if math.isnan(joules):
        if not before.meter.joules or not now.meter.joules:
            return "the meter told nothing"
        return "the meter began anew, or its GPUs changed"
    for name in _COUNTED:
        first, last = getattr(before.work, name), getattr(now.work, name)
        if math.isnan(first) != math.isnan(last):
            return f"{name} was not told"
        if last < first:
            return f"{name} began anew"
    return ""


def _joules(before: EnergyReading, now: EnergyReading, by_watts: bool) -> float:
    if by_watts:
        return (before.watts + now.watts) / 2.0 * (now.at - before.at)
    return drawn_j(before.meter, now.meter)


def _span(readings: Sequence[EnergyReading], by_watts: bool) -> WorkSpan:
    steps = list(pairwise(readings))
    joules = math.fsum(_joules(before, now, by_watts) for before, now in steps)
    return WorkSpan(joules, tuple(_step(before, now) for before, now in steps))


def _step(before: EnergyReading, now: EnergyReading) -> WorkStep:
    counted = {name: getattr(now.work, name) - getattr(before.work, name) for name in _COUNTED}
    seconds = now.at - before.at
    running = (before.work.running, now.work.running)
    awake_s = math.nan
    if running == (0.0, 0.0) and not any(counted[name] > 0.0 for name in _COUNTED):
        awake_s = 0.0
    elif min(running) > 0.0:
        awake_s = seconds
    return WorkStep(seconds=seconds, awake_s=awake_s, running=min(running), **counted)
