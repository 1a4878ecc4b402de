"""Requests gathered by slot and model, for the bound: what they amount to, and when they are there.

A *late* request may still run when its slot has ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from router.lab.sim.bound.demand import Codes, Floats, Grouping, amounts_of
from router.lab.sim.bound.presence import Presence, Stays
from router.lab.sim.bound.warm import SharedPrompts
from router.lab.sim.simulation import Simulation
from router.lab.sim.traffic.columns import Traffic


class Amounts(NamedTuple):
    """Requests of one model in one slot.

    ``early`` and ``late``: by group, arrays of shape (groups, AMOUNTS). ``last_s``: when the last
    of the late ones may end; ``late_from_s``: when the first of them comes. ``stays``: of all,
    where whole replicas are asked for. ``clear_s``: until when those of earlier slots, or those
    that do not count, may be there.
    """

    early: Floats
    late: Floats
    last_s: float
    late_from_s: float
    stays: tuple[Stays, ...]
    clear_s: float = 0.0


class Cohort(NamedTuple):
    """Requests of one model that may wait: they may run in any slot from ``first`` to ``last``, the
    one after the last slot being all time after it. ``amounts`` (groups, AMOUNTS)."""

    first: int
    last: int
    amounts: Floats


class SlotArrivals(NamedTuple):
    """What arrives in one slot, by model code."""

    slot: int
    amounts: dict[int, Amounts]


class ArrivalsBySlot:
    """Of a simulation. ``presences``: a model each, or none; ``edges``: of the slots, s since the
    start. ``requests``: how many counted, of the slots so far. Those that may wait are in no slot
    but in `cohorts`, once all slots were asked for.
    """

    def __init__(
        self,
        simulation: Simulation,
        groupings: Sequence[Grouping],
        presences: Sequence[Presence],
        edges: Floats,
    ) -> None:
        self.requests = 0
        self._simulation = simulation
        self._groupings = groupings
        self._presences = presences
        self._edges = edges
        scaling = simulation.autoscaling
        # Waiting for a replica to wake, and what no router knows of the way.
        self._delay_s = scaling.wait_s if scaling else 0.0
        self._delay_s += max(simulation.path_delay_ms.values(), default=0.0) / 2e3
        self._clear_s = [0.0] * len(groupings)
        self._cohorts: list[dict[tuple[int, int], Floats]] = [{} for _ in groupings]
        self._shared = [
            SharedPrompts(simulation, code, one.pools) for code, one in enumerate(groupings)
        ]

    def slots(self) -> Iterator[SlotArrivals]:
        """The requests of every slot that has any, in order."""
        waiting: dict[int, dict[int, Amounts]] = {}
        for traffic in self._simulation.workload.chunks():
            counted = traffic.arrival_s >= self._simulation.warm_up_s
            for code in range(len(self._groupings)):
                of_model = traffic.model == code
                if not counted.all():
                    self._leave_out(code, traffic, np.flatnonzero(of_model & ~counted))
                rows = np.flatnonzero(of_model & counted)
                self.requests += len(rows)
                if self._simulation.defers:
                    waits = np.isfinite(traffic.deadline_s[rows])
                    self._let_wait(code, traffic, rows[waits])
                    rows = rows[~waits]
                warm = self._shared[code].cached(traffic, rows)
                for slot, amounts in self._sorted(code, traffic, rows, warm):
                    models = waiting.setdefault(slot, {})
                    models[code] = _sum(models[code], amounts) if code in models else amounts
            # Chunks are in order of arrival: nothing more comes for the slots before the last.
            for slot in sorted(waiting)[:-1]:
                yield self._known(slot, waiting.pop(slot))
        for slot in sorted(waiting):
            yield self._known(slot, waiting[slot])

    def cohorts(self, code: int) -> list[Cohort]:
        """Those of a model that may wait, in order."""
        return [Cohort(*span, amounts) for span, amounts in sorted(self._cohorts[code].items())]

    def _let_wait(self, code: int, traffic: Traffic, rows: Codes) -> None:
        """Whatever slots a run reaches lie between arrival and deadline."""
        if not len(rows):
            return
        grouping, edges = self._groupings[code], self._edges
        warm = self._shared[code].cached(traffic, rows)
        groups = grouping.groups(traffic, rows, warm)
        n_in = traffic.input_tokens[rows].astype(np.float64)
        units = amounts_of(n_in, traffic.output_tokens[rows].astype(np.float64), warm)
        first = np.searchsorted(edges[1:-1], traffic.arrival_s[rows], side="right")
        last = np.searchsorted(edges, traffic.deadline_s[rows], side="left") - 1
        spans = first * (len(edges) + 1) + np.maximum(last, first)
        for span in np.unique(spans).tolist():
            mine = spans == span
            sums = [np.bincount(groups[mine], unit[mine], len(grouping.batches)) for unit in units]
            amounts: Floats = np.column_stack(sums)
            key = divmod(span, len(edges) + 1)
            before = self._cohorts[code].get(key)
            if before is not None:
                amounts[: len(before)] += before
            self._cohorts[code][key] = amounts

    def _known(self, slot: int, models: dict[int, Amounts]) -> SlotArrivals:
        """Slots come in order, so that it is known who of the earlier ones may be there."""
        found = {}
        for code, amounts in models.items():
            found[code] = amounts._replace(clear_s=self._clear_s[code])
            self._clear_s[code] = max(self._clear_s[code], amounts.last_s)
        return SlotArrivals(slot, found)

    def _leave_out(self, code: int, traffic: Traffic, rows: Codes) -> None:
        """Requests before the end of the warm-up: they may run beside those that count."""
        last_s = float(self._ends_s(code, traffic, rows).max(initial=0.0))
        self._clear_s[code] = max(self._clear_s[code], last_s)

    def _ends_s(self, code: int, traffic: Traffic, rows: Codes) -> Floats:
        longest_s = self._groupings[code].longest_s(traffic, rows)
        return np.asarray(traffic.arrival_s[rows] + longest_s + self._delay_s, np.float64)

    def _sorted(
        self, code: int, traffic: Traffic, rows: Codes, warm: Floats
    ) -> Iterator[tuple[int, Amounts]]:
        """The amounts of one model's ``rows`` by slot; rows are in order of arrival."""
        if not len(rows):
            return
        grouping = self._groupings[code]
        arrival_s = traffic.arrival_s[rows]
        slots = np.searchsorted(self._edges[1:-1], arrival_s, side="right")
        groups = grouping.groups(traffic, rows, warm)
        ends_s = self._ends_s(code, traffic, rows)
        n_in = traffic.input_tokens[rows].astype(np.float64)
        units = amounts_of(n_in, traffic.output_tokens[rows].astype(np.float64), warm)
        stays = None
        if self._presences:
            stays = self._presences[code].stays(traffic, rows, groups, warm)
        firsts = np.concatenate(([0], np.flatnonzero(np.diff(slots)) + 1, [len(rows)])).tolist()
        for first, stop in pairwise(firsts):
            slot, mine = int(slots[first]), slice(first, stop)
            late = ends_s[mine] > self._edges[slot + 1]
            key = groups[mine] * 2 + late
            sums = [np.bincount(key, unit[mine], 2 * len(grouping.batches)) for unit in units]
            amounts: Floats = np.column_stack(sums)
            last_s = float(ends_s[mine][late].max(initial=0.0))
            late_from_s = float(arrival_s[mine][late].min(initial=math.inf))
            there = (stays.part(mine),) if stays else ()
            yield slot, Amounts(amounts[::2], amounts[1::2], last_s, late_from_s, there)


def _sum(one: Amounts, other: Amounts) -> Amounts:
    """Groups only grow in number."""
    early, late = other.early.copy(), other.late.copy()
    early[: len(one.early)] += one.early
    late[: len(one.late)] += one.late
    last_s = max(one.last_s, other.last_s)
    late_from_s = min(one.late_from_s, other.late_from_s)
    return Amounts(early, late, last_s, late_from_s, one.stays + other.stays)
