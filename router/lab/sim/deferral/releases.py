"""A scenario's waiting requests through the product's scheduler, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from router.core.deferral.outlook import DeferralOutlook
from router.core.deferral.planning import DeferralPlan, DeferralRules, plan_deferral
from router.core.deferral.work import WaitingWork
from router.lab.sim.deferral.room import FleetRoom
from router.lab.sim.traffic.columns import Names, Traffic

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

Sees = Callable[[float], DeferralOutlook]
Planned = Callable[[float, DeferralPlan], None]


def waiting_work(
    traffic: Traffic, names: Names, room: FleetRoom, start: float, end_s: float
) -> WaitingWork:
    """``traffic``, all of it deferrable, as jobs. Nobody waits beyond ``end_s`` of the scenario.

    What a router knows: the prompt's length, and how long answers of the model usually are.
    """
    tokens = np.array([pace.output_tokens for pace in room.paces])[traffic.model]
    token_s = np.array([pace.token_s for pace in room.paces])[traffic.model]
    place_w = np.array([pace.place_w for pace in room.paces])[traffic.model]
    run_s = np.maximum(tokens * token_s, 1e-3)
    return WaitingWork(
        arrived_at=start + traffic.arrival_s,
        deadline=start + np.minimum(traffic.deadline_s, end_s),
        joules=run_s * place_w,
        run_s=run_s,
        places=np.ones(len(traffic)),
        model=traffic.model,
        region_set=np.zeros(len(traffic), np.int32),
        models=names.models,
        region_sets=(frozenset(),),
    )


def releases(
    work: WaitingWork,
    sees: Sees,
    end: float,
    rules: DeferralRules = DeferralRules(),  # noqa: B008
    news: Sequence[float] = (),
    planned: Planned = lambda now, plan: None,
) -> Floats:
    """When each job is released, unix s; (jobs,). Jobs in order of arrival.

    Looks where each plan says that the next one is due, and at ``news`` (rising, unix s), such as
    that a region is gone; who cannot wait for it goes on arrival. What a plan releases into a
    region starts as its places come free, and what has not by the next look waits on.
    ``planned``: is told each plan, and when it was made.
    """
    released = np.full(len(work), np.nan)
    latest = rules.latest_start(work.deadline, work.run_s)
    waiting = np.empty(0, np.intp)
    come, count = 0, len(work)
    now = float(work.arrived_at[0]) if count else end
    while now < end and (come < count or len(waiting)):
        until = int(np.searchsorted(work.arrived_at, now, side="right"))
        waiting = np.concatenate((waiting, np.arange(come, until)))
        come = until
        plan = plan_deferral(work.taken(waiting), sees(now), now, rules)
        planned(now, plan)
        goes = waiting[plan.rows]
        starts = now + _starts(plan, work, goes, latest[goes] - now)
        now = min(plan.look_again_at, end, next((at for at in news if at > now), end))
        begun = (starts < now) | plan.urgent
        released[goes[begun]] = starts[begun]
        waiting = waiting[np.isnan(released[waiting])]
        # In the meantime.
        until = int(np.searchsorted(work.arrived_at, now, side="left"))
        fresh = np.arange(come, until)
        hasty = latest[fresh] < now
        released[fresh[hasty]] = work.arrived_at[fresh[hasty]]
        waiting, come = np.concatenate((waiting, fresh[~hasty])), until
    left = np.isnan(released)
    released[left] = np.maximum(work.arrived_at[left], now)
    return released


def _starts(plan: DeferralPlan, work: WaitingWork, goes: Rows, slack_s: Floats) -> Floats:
    """Seconds from the look until each of the plan's jobs finds a place; those without time to
    wait by turns wherever there is one, and within their ``slack_s`` at the latest.
    """
    begins = np.zeros(len(goes))
    size = work.run_s[goes] * work.places[goes]
    code = np.array(plan.planned.model_of)[work.model[goes]]
    outlook = plan.planned.outlook
    for m in range(len(outlook.models)):
        whole = float((outlook.awake_places + outlook.asleep_places)[m, :, 0].sum())
        turns = [(plan.urgent, whole)]
        for region, places in enumerate(plan.places[m].tolist()):
            turns.append((plan.region == region, float(places)))
        for which, places in turns:
            mine = which & (code == m)
            if places > 0.0:
                begins[mine] = (np.cumsum(size[mine]) - size[mine]) / places
    return np.where(plan.urgent, np.minimum(begins, np.maximum(slack_s, 0.0)), begins)
