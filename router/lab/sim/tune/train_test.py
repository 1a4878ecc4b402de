"""A part of a scenario as a scenario of its own: what tuning trains on, and what it reports on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from router.errors import ConfigError
from router.lab.sim.grid.signal_columns import signal_columns
from router.lab.sim.simulation import GridSignal, Outage, Simulation, Workload
from router.lab.sim.traffic.columns import Traffic
from router.units import DAY_S, HOUR_S

# Requests of a span that are kept in memory (64 bytes each); more are read or made at every pass.
KEPT_ROWS: Final = 2_000_000


class Spans(NamedTuple):
    """A scenario in two, one after the other. Both begin with empty replicas and the scenario's
    warm-up, and neither knows what the other learned.
    """

    train: Simulation
    test: Simulation


def split(simulation: Simulation, train_share: float) -> Spans:
    """The first ``train_share`` of the duration, and the rest: cut at the nearest whole day where
    there are two, so that both see every hour of the day, else at the nearest hour where there are
    two. Raises ConfigError when a part would not outlast the warm-up.
    """
    duration_s = simulation.duration_s
    at_s = duration_s * train_share
    if duration_s >= 2.0 * DAY_S:
        days = math.floor(at_s / DAY_S + 0.5)
        at_s = DAY_S * min(max(1, days), math.floor(duration_s / DAY_S) - 1)
    elif duration_s >= 2.0 * HOUR_S:
        hours = math.floor(at_s / HOUR_S + 0.5)
        at_s = HOUR_S * min(max(1, hours), math.ceil(duration_s / HOUR_S) - 1)
    if min(at_s, duration_s - at_s) <= simulation.warm_up_s:
        text = (
            f"spans of {at_s:g} s and {duration_s - at_s:g} s, of which the first "
            f"{simulation.warm_up_s:g} s warm up, leave nothing to count; take a longer scenario, "
            "or another --train-share"
        )
        raise ConfigError("--train-share", [("", text)])
    return Spans(window(simulation, 0.0, at_s), window(simulation, at_s, duration_s))


def window(simulation: Simulation, from_s: float, to_s: float) -> Simulation:
    """The span [``from_s``, ``to_s``), seconds since the start, with its own clock from 0.

    A request still running at the end of the span before is not there; an outage that has begun
    before it begins with it.
    """
    return replace(
        simulation,
        start=simulation.start + from_s,
        duration_s=to_s - from_s,
        workload=_Part(simulation.workload, from_s, to_s),
        outages=tuple(_shifted(simulation.outages, from_s, to_s)),
    )


def precompute(signal: GridSignal, spans: Spans) -> None:
    """Have a signal that keeps its columns of a span make those of all of them once, in order."""
    for span in spans:
        signal_columns(signal, span.start, span.start + span.duration_s)


def _shifted(outages: Iterable[Outage], from_s: float, to_s: float) -> Iterator[Outage]:
    for outage in outages:
        if outage.start_s < to_s and outage.end_s > from_s:
            begins_s = max(0.0, outage.start_s - from_s)
            yield replace(outage, start_s=begins_s, end_s=outage.end_s - from_s)


class _Part:
    """The requests of a span; a Workload. A small one is kept after its first whole pass."""

    def __init__(self, whole: Workload, from_s: float, to_s: float) -> None:
        self.names = whole.names
        self._whole = whole
        self._span = from_s, to_s
        self._kept: list[Traffic] | None = None

    def __getstate__(self) -> dict[str, object]:
        # What was kept is cheaper made again than sent to another process.
        return {**self.__dict__, "_kept": None}

    def chunks(self) -> Iterator[Traffic]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Traffic] | None = []
        rows = 0
        for traffic in self._cut():
            rows += len(traffic)
            if kept is not None:
                kept.append(traffic)
                kept = kept if rows <= KEPT_ROWS else None
            yield traffic
        self._kept = kept

    def _cut(self) -> Iterator[Traffic]:
        from_s, to_s = self._span
        for traffic in self._whole.chunks():
            first, stop = np.searchsorted(traffic.arrival_s, (from_s, to_s), side="left").tolist()
            if first < stop:
                mine = traffic.taken(slice(first, stop))
                yield replace(
                    mine, arrival_s=mine.arrival_s - from_s, deadline_s=mine.deadline_s - from_s
                )
            if stop < len(traffic):
                return
