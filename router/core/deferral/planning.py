"""Which waiting work is released now: a plan over the hours ahead, made anew at every look.

Of each model, and of each set of regions that jobs may run in, work is laid into the cheapest
room ahead (`router.core.deferral.filling`): the room that interactive traffic leaves, priced at

    expected g/kWh (mean of its quantiles) * PUE * joules there over joules on an awake replica

so that replicas that are awake are filled before others are woken. Enough lies early for all
deadlines to hold if the worst comes next (`router.core.deferral.safety`). What lies in the first
slot is released.

Jobs are taken by deadline; which of them lies where follows from that. A job that has no slot left
is released whatever there is of room: who refuses it then knows better. Limits: work is counted as
flowing, so the last job of a region, slot and set of regions may reach beyond its end; sets of
regions that overlap without one holding the other share room by turns; places of one model weigh
alike, whatever joules a job draws on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from router.core.deferral.filling import fill_cheapest
from router.core.deferral.outlook import DeferralOutlook
from router.core.deferral.reasons import NOWHERE, PlannedWork, WaitExplanation
from router.core.deferral.safety import must_be_done
from router.core.deferral.slots import plan_slots
from router.core.deferral.work import WaitingWork

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]
Figure = TypeVar("Figure", float, Floats)

ANYWHERE: Final = -1
# Work below this, in place-seconds, is what rounding leaves.
_DUST_S: Final = 1e-6


class DeferralRules(NamedTuple):
    """``attempts``: times its run time that a job is given before its deadline, for a retry.
    ``margin_s``: and so much more.
    """

    attempts: float = 2.0
    margin_s: float = 30.0

    def latest_start(self, deadline: Figure, run_s: Figure) -> Figure:
        """Unix s, by which a job has to be released; of many at once, too."""
        return deadline - self.attempts * run_s - self.margin_s


@dataclass(frozen=True, slots=True, eq=False)
class DeferralPlan:
    """What to do until ``look_again_at``, unix s.

    ``rows`` (released,): jobs to release, most urgent first. ``region`` (released,): of the
    outlook, that each is to run in; `ANYWHERE`: any that it may. ``urgent`` (released,): it has no
    time left to wait. ``places`` (models, regions) of the outlook: how many places other released
    work may hold at once there; interactive traffic has the rest. ``planned``: all jobs, with what
    the plan was made of.
    """

    rows: Rows
    region: Codes
    urgent: NDArray[np.bool_]
    places: NDArray[np.int64]
    look_again_at: float
    planned: PlannedWork

    def explain(self, row: int) -> WaitExplanation:
        """Why a job is released or waits."""
        return self.planned.explain(row)


class _Buckets(NamedTuple):
    """The room of a model, by time, then price; (buckets,) each. ``asleep``: 1 on replicas that
    have to be woken. ``price``: facility g for each kWh on one that is awake.
    """

    slot: Rows
    region: Codes
    asleep: Rows
    price: Floats


def plan_deferral(
    work: WaitingWork,
    outlook: DeferralOutlook,
    now: float,
    rules: DeferralRules = DeferralRules(),  # noqa: B008
) -> DeferralPlan:
    """Pure: the same arguments give the same plan. A model that the outlook does not know has no
    room. Raises DataError where the outlook does not cover ``now``.
    """
    return _Planning(work, outlook, now, rules).plan()


class _Planning:
    def __init__(
        self, work: WaitingWork, outlook: DeferralOutlook, now: float, rules: DeferralRules
    ) -> None:
        self._work, self._outlook = work, outlook
        self._slots = plan_slots(outlook, now)
        self._latest = rules.latest_start(work.deadline, work.run_s)
        self._usable = self._slots.usable(self._latest).astype(np.int32)
        self._expired = work.deadline <= now
        self._urgent = (self._usable == 0) & ~self._expired
        self._waits = ~self._urgent & ~self._expired
        self._size = work.run_s * work.places
        # By deadline: the order in which jobs are taken.
        self._order = np.argsort(self._latest, kind="stable")
        self._slot = np.full(len(work), NOWHERE, np.int32)
        self._region = np.full(len(work), NOWHERE, np.int32)
        self._price = np.full(len(work), np.nan)
        self._places = np.zeros((len(outlook.models), len(outlook.regions)), np.int64)

    def plan(self) -> DeferralPlan:
        work, outlook = self._work, self._outlook
        known = {name: m for m, name in enumerate(outlook.models)}
        model_of = tuple(known.get(name, NOWHERE) for name in work.models)
        for code, m in enumerate(model_of):
            if m != NOWHERE:
                self._plan_model(m, code)
        planned = PlannedWork(
            work, outlook, self._slots, self._latest, self._urgent, self._expired,
            self._slot, self._region, self._price, model_of,
        )  # fmt: skip
        rows = self._order[planned.released[self._order]]
        urgent = self._urgent[rows]
        region = np.where(urgent, ANYWHERE, self._region[rows]).astype(np.int32)
        return DeferralPlan(rows, region, urgent, self._places, float(self._slots.ends[0]), planned)

    def _plan_model(self, m: int, code: int) -> None:
        """Every set of regions in turn, the narrowest first; all draw on the same room."""
        buckets = self._buckets(m)
        capacity = self._capacity(m, code, buckets)
        whole = capacity.copy()
        least = self._outlook.least_places[m][:, self._slots.steps] * self._slots.lengths_s
        # Of each set: its regions, its work due and done by the end of so many slots.
        before: list[tuple[frozenset[str], Floats, Floats]] = []
        for mine, regions in self._region_sets(code):
            rows = self._order[mine[self._order]]
            allowed = np.array([name in regions for name in self._outlook.regions])
            due = self._due(rows)
            inside = [one for one in before if one[0] <= regions]
            together = due + sum(one[1] for one in inside)
            must = must_be_done(together, least[allowed]) - sum(one[2] for one in inside)
            must = np.maximum.accumulate(np.clip(must, 0.0, due[-1]))
            taken = self._fill(buckets, allowed, capacity, must, due[-1])
            self._assign(rows, buckets, taken)
            done = np.bincount(buckets.slot + 1, taken, len(self._slots) + 1)
            before.append((regions, due, np.cumsum(done)))
        self._note_places(m, buckets, whole - capacity)

    def _buckets(self, m: int) -> _Buckets:
        regions = len(self._outlook.regions)
        slot, asleep, region = np.indices((len(self._slots), 2, regions)).reshape(3, -1)
        ratio = np.stack([np.ones(regions), self._outlook.woken_ratio[m]])
        price = (self._outlook.mean_g_per_kwh.T[self._slots.steps][:, None] * ratio).ravel()
        order = np.lexsort((asleep, price, slot))
        return _Buckets(slot[order], region[order].astype(np.int32), asleep[order], price[order])

    def _capacity(self, m: int, code: int, buckets: _Buckets) -> Floats:
        """Place-seconds of every bucket, but for what is released whatever there is of room."""
        both = np.stack([self._outlook.awake_places[m], self._outlook.asleep_places[m]])
        step = self._slots.steps[buckets.slot]
        places = np.floor(both[buckets.asleep, buckets.region, step])
        capacity: Floats = places * self._slots.lengths_s[buckets.slot]
        first = buckets.slot == 0
        urgent = float(self._size[self._urgent & (self._work.model == code)].sum())
        whole = float(capacity[first].sum())
        if urgent > 0.0 and whole > 0.0:
            capacity[first] *= max(0.0, 1.0 - urgent / whole)
        return capacity

    def _region_sets(self, code: int) -> Iterator[tuple[Flags, frozenset[str]]]:
        """(which jobs of the model wait, where they may run), the narrowest first."""
        mine = self._waits & (self._work.model == code)
        every = frozenset(self._outlook.regions)
        found = []
        for at in np.unique(self._work.region_set[mine]).tolist():
            found.append((at, (self._work.region_sets[at] or every) & every))
        for at, regions in sorted(found, key=lambda one: (len(one[1]), sorted(one[1]), one[0])):
            yield mine & (self._work.region_set == at), regions

    def _due(self, rows: Rows) -> Floats:
        """Work due by the end of so many slots, cumulative (slots + 1,)."""
        count = len(self._slots) + 1
        return np.cumsum(np.bincount(self._usable[rows], self._size[rows], count))

    def _fill(
        self, buckets: _Buckets, allowed: Flags, capacity: Floats, must: Floats, whole: float
    ) -> Floats:
        """What of every bucket is used (buckets,); it goes off ``capacity``."""
        taken = np.zeros(len(capacity))
        fits = allowed[buckets.region]
        by_price = np.lexsort((buckets.slot, buckets.price))
        fill_cheapest(by_price[fits[by_price]], buckets.slot, capacity, whole - must[:-1], taken)
        left = whole - float(taken.sum())
        if left > _DUST_S:
            # Not all can be done in time: the rest as soon as there is room.
            room = np.full(len(self._slots), left)
            fill_cheapest(np.flatnonzero(fits), buckets.slot, capacity, room, taken)
        return taken

    def _assign(self, rows: Rows, buckets: _Buckets, taken: Floats) -> None:
        """Jobs by deadline into what is used of the buckets by time."""
        ends = np.cumsum(taken)
        size = self._size[rows]
        begins = np.cumsum(size) - size
        at = np.searchsorted(ends, begins + _DUST_S, side="right")
        rows, at = rows[at < len(ends)], at[at < len(ends)]
        self._slot[rows] = buckets.slot[at]
        self._region[rows] = buckets.region[at]
        self._price[rows] = buckets.price[at]

    def _note_places(self, m: int, buckets: _Buckets, taken: Floats) -> None:
        both = np.stack([self._outlook.awake_places[m], self._outlook.asleep_places[m]])
        used = np.zeros(both.shape[:2], np.bool_)
        first = (buckets.slot == 0) & (taken > 0.0)
        used[buckets.asleep[first], buckets.region[first]] = True
        self._places[m] = np.where(used, np.floor(both[:, :, 0]), 0.0).sum(axis=0)
