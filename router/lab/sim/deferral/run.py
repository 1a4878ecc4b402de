"""A policy over a scenario in which some requests wait: when each is sent, and what comes of it.

A request that may wait and is lost or refused is sent again, as whoever owns a queue does; it is
counted once, by what became of it at last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.deferral.planning import DeferralRules
from router.lab.sim.deferral.needs import PlannedNeeds
from router.lab.sim.deferral.releases import releases, waiting_work
from router.lab.sim.deferral.room import SimulatedOutlook, View, fleet_room, usual_load
from router.lab.sim.deferral.rows import RequestFigures
from router.lab.sim.engine.hinted import Needs, nothing_waits
from router.lab.sim.engine.run import simulate
from router.lab.sim.result import REASONS, Columns, MinuteSink, PolicyResult, Sink
from router.lab.sim.simulation import Simulation
from router.lab.sim.traffic.columns import Names, Traffic, joined
from router.lab.sim.traffic.generate import CHUNK_ROWS, rechunk
from router.model import Policy

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.intp]

# What others usually take is that of other draws: of the scenario under a seed so much later.
ANOTHER_SEED: Final = 1_000_003
# A job that is lost or refused is sent again, so often, so much later each time.
_ATTEMPTS: Final = 5
_AGAIN_S: Final = 60.0


@dataclass(slots=True, eq=False)
class Whole:
    """A Workload in memory."""

    names: Names
    traffic: Traffic

    def chunks(self) -> list[Traffic]:
        """As it is."""
        return list(rechunk(iter([self.traffic]), CHUNK_ROWS)) if len(self.traffic) else []


class DeferrableTraffic(NamedTuple):
    """All requests of a scenario. ``may_wait`` (requests,): it has a deadline, and comes after the
    warm-up."""

    traffic: Traffic
    may_wait: Flags

    @classmethod
    def of(cls, simulation: Simulation) -> DeferrableTraffic:
        """In memory, some 100 bytes a request."""
        traffic = joined(list(simulation.workload.chunks()))
        waits = np.isfinite(traffic.deadline_s) & (traffic.arrival_s >= simulation.warm_up_s)
        return cls(traffic, waits)


class Releases(NamedTuple):
    """``at_s`` (requests,): when each is sent first, seconds since the start. ``needs``: what was
    planned of replicas, for whoever scales them by hints."""

    at_s: Floats
    needs: Needs = nothing_waits

    @classmethod
    def at_once(cls, work: DeferrableTraffic) -> Releases:
        """As they come."""
        return cls(work.traffic.arrival_s)


class Sent(NamedTuple):
    """``owner``, ``sent_s`` (attempts,): which request is sent when; the first attempts are those
    of all requests in order. ``rows``: what became of each attempt. ``result``: each request
    counted once; one that may wait counts as ``met`` where it ended by its deadline. ``in_time``
    (requests,): it may wait, and did."""

    result: PolicyResult
    rows: RequestFigures
    owner: Rows
    sent_s: Floats
    in_time: Flags


def usual_of(others: Simulation, policy: Policy) -> Floats:
    """What requests that do not wait take by hour, alone, as `usual_load`. ``others``: the scenario
    under another seed, so that nobody knows the requests to come."""
    traffic = joined(list(others.workload.chunks()))
    urgent = traffic.taken(np.flatnonzero(np.isinf(traffic.deadline_s)))
    rows = RequestFigures(len(urgent))
    if len(urgent):
        alone = replace(others, workload=Whole(others.workload.names, urgent), outages=())
        simulate(alone, policy, rows)
    return usual_load(others, urgent, rows)


def sent_at(
    simulation: Simulation,
    work: DeferrableTraffic,
    usual: Floats,
    view: View,
    rules: DeferralRules = DeferralRules(),  # noqa: B008
) -> Releases:
    """When the scheduler lets each request go; those that may not wait as they come. ``view``: what
    it knows of the grids."""
    traffic, may_wait = work
    at_s, needs = traffic.arrival_s.copy(), PlannedNeeds()
    if may_wait.any():
        room = fleet_room(simulation, traffic.taken(np.flatnonzero(~may_wait)))
        start, end_s = simulation.start, simulation.duration_s
        waits = traffic.taken(np.flatnonzero(may_wait))
        jobs = waiting_work(waits, simulation.workload.names, room, start, end_s)
        sees = SimulatedOutlook(simulation, room, usual, view)
        end = start + end_s
        released = releases(jobs, sees, end, rules, sees.news(), needs.note)
        at_s[may_wait] = released - start
    return Releases(at_s, needs)


def simulate_sent(
    simulation: Simulation,
    policy: Policy,
    work: DeferrableTraffic,
    released: Releases,
    progress: Callable[[float], None] | None = None,
) -> Sent:
    """Raises what `simulate` raises."""
    at_s, needs = released
    owner = np.arange(len(at_s))
    sent_s = np.asarray(at_s)
    for attempt in range(_ATTEMPTS):
        rows = RequestFigures(len(owner))
        run = _Run(simulation, policy, work.traffic, needs)
        result = run.told((owner, sent_s), rows, None, progress)
        ended = np.zeros(len(at_s), np.bool_)
        ended[owner[rows.answered]] = True
        lost = np.flatnonzero(work.may_wait & ~ended)
        if not len(lost) or attempt == _ATTEMPTS - 1:
            break
        last_s = np.zeros(len(at_s))
        np.maximum.at(last_s, owner, sent_s)
        owner = np.concatenate((owner, lost))
        sent_s = np.concatenate((sent_s, last_s[lost] + _AGAIN_S * 2.0**attempt))
    in_time = np.zeros(len(at_s), np.bool_)
    kept = rows.figure("end_s") <= work.traffic.deadline_s[owner]
    in_time[owner[work.may_wait[owner] & kept]] = True
    return Sent(_once_each(result, rows, owner, work, in_time), rows, owner, sent_s, in_time)


def tell(
    simulation: Simulation,
    policy: Policy,
    work: DeferrableTraffic,
    sent: Sent,
    needs: Needs,
    sink: Sink | None,
    minutes: MinuteSink | None,
) -> None:
    """The rows of a run, to who takes rows: a request's `request` is that of the scenario, and its
    `arrival_s` when it was sent."""
    run = _Run(simulation, policy, work.traffic, needs)
    run.told((sent.owner, sent.sent_s), sink, minutes, None)


class _Run(NamedTuple):
    """Of a policy; ``traffic``: as it came."""

    simulation: Simulation
    policy: Policy
    traffic: Traffic
    needs: Needs

    def told(
        self,
        attempts: tuple[Rows, Floats],
        sink: Sink | None,
        minutes: MinuteSink | None,
        progress: Callable[[float], None] | None,
    ) -> PolicyResult:
        """Rows of a `RequestFigures` lie by attempt; those of another sink name the request."""
        owner, sent_s = attempts
        order = np.argsort(sent_s, kind="stable")
        sent = replace(self.traffic.taken(owner[order]), arrival_s=sent_s[order])
        workload = Whole(self.simulation.workload.names, sent)
        there = replace(self.simulation, workload=workload)
        number = order if isinstance(sink, RequestFigures) else owner[order]
        numbered = None if sink is None else _Numbered(sink, number)
        return simulate(there, self.policy, numbered, progress, minutes=minutes, needs=self.needs)


class _Numbered:
    """A sink behind it is told other numbers of requests."""

    def __init__(self, behind: Sink, number: Rows) -> None:
        self._behind, self._number = behind, number

    def requests(self, columns: Columns) -> None:
        number = self._number[np.asarray(columns["request"], np.int64)]
        self._behind.requests({**columns, "request": number})

    def replicas(self, columns: Columns) -> None:
        self._behind.replicas(columns)


def _once_each(
    result: PolicyResult,
    rows: RequestFigures,
    owner: Rows,
    work: DeferrableTraffic,
    in_time: Flags,
) -> PolicyResult:
    """Of each request the last attempt alone, which counts by its deadline."""
    last = np.zeros(len(owner), np.bool_)
    last[len(owner) - 1 - np.unique(owner[::-1], return_index=True)[1]] = True
    again = rows.seen & ~last
    gone = np.bincount(rows.code("shed_reason")[again], minlength=len(REASONS))
    refused = {
        reason: count - int(gone[REASONS.index(reason)]) for reason, count in result.refused.items()
    }
    failed = result.failed - int(gone[REASONS.index("upstream_fault")])
    met = (rows.code("budget_met") == 1) & (in_time[owner] | ~work.may_wait[owner])
    offered = result.offered - int(again.sum())
    return replace(
        result,
        offered=offered,
        refused={reason: count for reason, count in refused.items() if count},
        failed=failed,
        met=float(met[rows.seen & last].sum()) / offered if offered else result.met,
    )
