"""Which of the work that waits may begin now: what a plan over the hours ahead releases.

The plan is `router.core.deferral`'s; here is what it is made of: kinds of jobs as blocks of rows,
the forecasts in force by region, and the places that deferred work may have. What it knows nothing
of (a model without a decision when it came, a region without a forecast) is released at once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from router.app.deferral.room import Room, asked_by, room_of, shared_out
from router.app.deferral.room_ahead import Asleep, none_asleep, outlook_of
from router.core.deferral.needs import WaitingNeeds, place_needs
from router.core.deferral.planning import DeferralPlan, plan_deferral
from router.core.deferral.work import WaitingJob, WaitingWork
from router.deferral.planned import DeferredOutlook, PlannedJobs
from router.deferral.values import JobKind
from router.director import View
from router.errors import DataError
from router.gateway.openai.deferred.jobs import AtOnce, at_once_read
from router.model import Forecast

# Rows of one plan: of many jobs of a kind a row is a block, which takes as many places.
_MOST_ROWS: Final = 1024
# Room changes with every request, so a plan is made anew after so long at the latest.
_ANEW_S: Final = 60.0
# Who has begun its part of a plan plans anew so soon, for others may not have, or be no more.
_SPENT_S: Final = 2.0
# Of a share of all places: what is left of its slack counts for more than who else might come.
_ALL: Final = 1.0

# What came so much later than now came by a clock that was set back since: it has no deadline to
# speak of.
_AHEAD_S: Final = 300.0

_log = logging.getLogger(__name__)


class Released(NamedTuple):
    """Of one kind: how many jobs may begin, and how many of them whatever the room; in words."""

    jobs: int
    urgent: int
    why: str


class _Block(NamedTuple):
    key: tuple[str, str]
    jobs: int


class _Laid(NamedTuple):
    """``plan``: of ``blocks``, None where there is none."""

    kinds: Sequence[JobKind]
    plan: DeferralPlan | None
    blocks: Sequence[_Block]


_AT_ONCE: Final = Released(10**9, 0, "released: nothing is known to wait for")
# There is no place for any of it: it begins once there is.
_NOBODY_YET: Final = _AT_ONCE._replace(why="waits: none of its servers has been found so far")
_NO_PLAN: Final = "released: no forecast to plan by"


class Planner:
    """Of one process. ``view``: in force; ``share``: of each endpoint's places; ``asleep``: where
    nobody scales replicas, none."""

    def __init__(
        self, view: Callable[[], View], share: float, asleep: Asleep = none_asleep
    ) -> None:
        self._view = view
        self._share = share
        self._asleep = asleep
        self._left: dict[tuple[str, str], Released] = {}
        self._planned_at = self._until = math.nan
        self._workers = 1
        # Of some kind this process has begun all of its part.
        self._is_spent = False
        # Kinds of the last plan, with why each waits or not, until somebody has taken them.
        self._told: list[tuple[JobKind, str]] = []
        self._laid: _Laid | None = None
        self._outlook: DeferredOutlook | None = None
        self._needs: WaitingNeeds | None = None

    def allot(self, kinds: Sequence[JobKind], most: int, now: float) -> list[tuple[JobKind, int]]:
        """How many of each kind may begin now (unix s), ``most`` in all."""
        if not kinds:
            self._laid = self._outlook = self._needs = None
            return []
        view = self._view()
        asked = [asked_by(kind) for kind in kinds]
        room = room_of(view, asked, self._share)
        is_known = all(_key(kind) in self._left for kind in kinds)
        until = min(self._until, self._planned_at + _SPENT_S) if self._is_spent else self._until
        if not (is_known and self._planned_at <= now < until):
            self._is_spent = False
            self._left = self._plan(view, kinds, room, now)
            self._planned_at = now
            self._told = [(kind, self._left[_key(kind)].why) for kind in kinds]
        urgent = [kind._replace(jobs=self._left[_key(kind)].urgent) for kind in kinds]
        whole = room_of(view, asked, _ALL)
        begun = shared_out([one for one in urgent if one.jobs], whole, most)
        left = most - sum(count for _, count in begun)
        rest = [kind._replace(jobs=min(kind.jobs, self._left[_key(kind)].jobs)) for kind in kinds]
        begun += shared_out([one for one in rest if one.jobs], room, left)
        return begun

    def share_among(self, workers: int) -> None:
        """So many processes make the same plan: each releases its part of it."""
        if workers != self._workers:
            self._workers = workers
            self._until = math.nan

    def begun(self, batch_id: str, model: str) -> None:
        """One of a kind was claimed."""
        left = self._left.get((batch_id, model))
        if left is not None:
            urgent = max(0, left.urgent - 1)
            jobs = left.jobs - 1 if left.urgent == 0 else left.jobs
            self._is_spent |= self._workers > 1 and jobs < 1
            self._left[batch_id, model] = left._replace(jobs=max(0, jobs), urgent=urgent)

    def put_back(self, batch_id: str, model: str, wait_s: float) -> None:
        """One of a kind that had begun found no place, and may begin again after ``wait_s``: if
        that is before long, in this plan."""
        left = self._left.get((batch_id, model))
        if left is not None and wait_s < _ANEW_S:
            self._left[batch_id, model] = left._replace(jobs=left.jobs + 1)

    def told(self) -> list[tuple[JobKind, str]]:
        """Why each kind of the last plan waits or not; once."""
        told, self._told = self._told, []
        return told

    def outlook(self) -> DeferredOutlook | None:
        """What the last plan says of all that waited, worked out once; None while nothing waits."""
        if self._laid is not None and self._outlook is None:
            laid = self._laid
            jobs = planned_jobs(laid.kinds, laid.plan, laid.blocks)
            under_way = tuple((kind.owner, kind.under_way) for kind in laid.kinds)
            self._outlook = DeferredOutlook(self._planned_at, jobs, under_way)
        return self._outlook

    def needs(self) -> WaitingNeeds:
        """What the last plan needs of replicas, worked out once."""
        laid = self._laid
        if laid is None:
            return WaitingNeeds()
        if self._needs is None:
            under_way: dict[str, int] = {}
            for kind in laid.kinds:
                under_way[kind.model] = under_way.get(kind.model, 0) + kind.under_way
            ahead = {} if laid.plan is None else place_needs(laid.plan.planned)
            self._needs = WaitingNeeds(ahead, under_way, self._share)
        return self._needs

    def _plan(
        self, view: View, kinds: Sequence[JobKind], room: Room, now: float
    ) -> dict[tuple[str, str], Released]:
        released = {
            _key(kind): _NOBODY_YET if room.endpoints[asked_by(kind)] == () else _AT_ONCE
            for kind in kinds
        }
        self._until = now + _ANEW_S
        self._laid, self._outlook, self._needs = _Laid(kinds, None, ()), None, None
        forecasts = forecasts_of(view, now)
        known = [(kind, at_once_read(kind.at_once)) for kind in kinds]
        planned = [
            (kind, at_once)
            for kind, at_once in known
            if at_once is not None and kind.queued_at <= now + _AHEAD_S
            and room.endpoints[asked_by(kind)]
            and set(at_once.regions) & set(forecasts)
        ]  # fmt: skip
        if not planned:
            return released
        blocks, work = _work(planned)
        try:
            outlook = outlook_of(
                view, [kind for kind, _ in planned], forecasts, self._share, self._asleep, now
            )
            plan = plan_deferral(work, outlook, now)
        except DataError as error:
            _log.warning("deferred work is released without a plan: %s", error)
            return {key: one._replace(why=_NO_PLAN) for key, one in released.items()}
        self._until = min(self._until, plan.look_again_at)
        self._laid = _Laid(kinds, plan, blocks)
        for kind, _ in planned:
            released[_key(kind)] = Released(0, 0, "")
        _add_up(plan, blocks, released)
        for kind, _ in planned:
            whole = released[_key(kind)]
            released[_key(kind)] = whole._replace(jobs=math.ceil(whole.jobs / self._workers))
        return released


def forecasts_of(view: View, now: float) -> dict[str, Forecast]:
    """By region, of those that reach as far as any does from now on; others say too little."""
    snapshot = view.snapshot
    found = {
        name: forecast
        for name, region in snapshot.layout.fleet.regions.items()
        if (forecast := snapshot.forecasts.get(region.grid_zone)) is not None
        and 0.0 <= now - forecast.start < forecast.step_s * len(forecast.slots)
    }
    longest = max((len(one.slots) for one in found.values()), default=0)
    return {name: one for name, one in found.items() if 2 * len(one.slots) > longest}


def _work(planned: Sequence[tuple[JobKind, AtOnce]]) -> tuple[list[_Block], WaitingWork]:
    size = max(1, math.ceil(sum(kind.jobs for kind, _ in planned) / _MOST_ROWS))
    blocks: list[_Block] = []
    jobs: list[WaitingJob] = []
    for kind, at_once in planned:
        whole, rest = divmod(kind.jobs, size)
        for count in [size] * whole + ([rest] if rest else []):
            blocks.append(_Block(_key(kind), count))
            jobs.append(
                WaitingJob(
                    kind.queued_at,
                    kind.deadline,
                    asked_by(kind).name,
                    at_once.energy_j * count,
                    max(at_once.run_s, 1e-3),
                    float(count),
                    frozenset(at_once.regions),
                )
            )
    return blocks, WaitingWork.of(jobs)


def _add_up(
    plan: DeferralPlan, blocks: list[_Block], released: dict[tuple[str, str], Released]
) -> None:
    # The last rows of a kind wait the longest: they are what it waits for.
    last = {key: plan.explain(row).text for row, (key, _) in enumerate(blocks)}
    work, outlook = plan.planned.work, plan.planned.outlook
    # Place-seconds of this slot on replicas that are awake.
    room = outlook.awake_places[:, :, 0] * plan.planned.slots.lengths_s[0]
    for row, region, urgent in zip(
        plan.rows.tolist(), plan.region.tolist(), plan.urgent.tolist(), strict=True
    ):
        key, jobs = blocks[row]
        one = released[key]
        if not urgent:
            m = plan.planned.model_of[work.model[row]]
            size = float(work.run_s[row] * work.places[row])
            if room[m, region] < min(size, 1.0):
                # It would begin elsewhere, where there is room and the grid is dirtier.
                last[key] = f"waits for a replica that is to wake in {outlook.regions[region]}"
                continue
            room[m, region] -= size
        released[key] = one._replace(
            jobs=one.jobs + (0 if urgent else jobs), urgent=one.urgent + (jobs if urgent else 0)
        )
    for key, why in last.items():
        released[key] = released[key]._replace(why=why)


def planned_jobs(
    kinds: Sequence[JobKind], plan: DeferralPlan | None, blocks: Sequence[_Block]
) -> tuple[PlannedJobs, ...]:
    """By batch, model, place and time; ``blocks``: the rows of ``plan``, None where there is
    none."""
    known = {_key(kind): kind for kind in kinds}
    found: dict[tuple[object, ...], PlannedJobs] = {}
    for row, block in enumerate(blocks):
        assert plan is not None
        kind, told = known[block.key], plan.explain(row)
        place = (*block.key, told.reason, told.region, str(told.planned_at))
        one = found.get(place)
        if one is None:
            found[place] = PlannedJobs(
                kind.batch_id, kind.model, kind.owner, block.jobs, told.reason, told.region,
                told.planned_at, told.latest_start, kind.deadline, told.grams_now,
                told.grams_planned,
            )  # fmt: skip
        else:
            found[place] = one._replace(
                jobs=one.jobs + block.jobs,
                grams_now=one.grams_now + told.grams_now,
                grams_planned=one.grams_planned + told.grams_planned,
            )
    laid = {block.key for block in blocks}
    others = [
        PlannedJobs(
            kind.batch_id, kind.model, kind.owner, kind.jobs, None, "", math.nan, math.nan,
            kind.deadline, math.nan, math.nan,
        )
        for key, kind in known.items()
        if key not in laid
    ]  # fmt: skip
    return (*found.values(), *others)


def _key(kind: JobKind) -> tuple[str, str]:
    return kind.batch_id, kind.model
