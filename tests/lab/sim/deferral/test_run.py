from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from router.lab.sim.deferral.run import (
    DeferrableTraffic,
    Releases,
    Sent,
    Whole,
    sent_at,
    simulate_sent,
    tell,
    usual_of,
)
from router.lab.sim.engine.hinted import nothing_waits
from router.lab.sim.engine.run import simulate
from router.lab.sim.simulation import Outage, Simulation
from router.model import Budget, Policy
from tests import factories as f
from tests.lab.sim.worlds import Kept, simulation

COUNT = 12


def scene(deadline_s: float = 3000.0, **changes: object) -> tuple[Simulation, Policy]:
    """Every minute a request; every third may wait until ``deadline_s``."""
    fleet = f.fleet(f.endpoint("a-0", "a"))
    rows = [(60.0 * at, 0, 0, 0, 0, 10, 20, Budget()) for at in range(COUNT)]
    zones = {region.grid_zone: 100.0 for region in fleet.regions.values()}
    made = simulation(fleet, rows, zones, 3600.0, ("llama",), hours=3, **changes)
    (traffic,) = made.workload.chunks()
    limits = np.where(np.arange(COUNT) % 3 == 0, deadline_s, math.inf)
    whole = Whole(made.workload.names, replace(traffic, deadline_s=limits))
    return replace(made, workload=whole, defers=True), f.policy()


def sent(made: Simulation, asked: Policy, later_s: float = 0.0) -> Sent:
    work = DeferrableTraffic.of(made)
    at_s = np.where(work.may_wait, work.traffic.arrival_s + later_s, work.traffic.arrival_s)
    return simulate_sent(made, asked, work, Releases(at_s))


def test_sent_at_once_is_the_engine_itself() -> None:
    made, asked = scene()
    found, plain = sent(made, asked).result, simulate(made, asked)
    assert found.gco2e == plain.gco2e and found.fleet == plain.fleet
    assert (found.offered, found.completed, found.met) == (COUNT, COUNT, 1.0)


def test_what_waited_beyond_its_deadline_is_not_met() -> None:
    made, asked = scene(deadline_s=1800.0)
    found = sent(made, asked, later_s=1500.0)
    # Of those of minutes 0, 3, 6 and 9 the last two end past half an hour.
    assert found.in_time.sum() == 2
    assert found.result.completed == COUNT
    assert found.result.met == pytest.approx((COUNT - 2) / COUNT)


def test_what_was_lost_is_sent_again_and_counted_once() -> None:
    lost = Outage(frozenset({"a-0"}), 350.0, 365.0, 45.0)
    made, asked = scene(outages=(lost,))
    found = sent(made, asked)
    # The request of minute 6 is sent while nobody knows.
    assert found.owner.tolist() == [*range(COUNT), 6]
    assert found.sent_s[-1] == 420.0
    assert found.result.offered == COUNT
    assert found.result.completed == COUNT and found.result.failed == 0
    plain = simulate(made, asked)
    assert plain.failed == 1 and plain.completed == COUNT - 1


def test_rows_name_the_request_of_the_scenario() -> None:
    made, asked = scene()
    found = sent(made, asked, later_s=1000.0)
    sink = Kept()
    tell(made, asked, DeferrableTraffic.of(made), found, nothing_waits, sink, None)
    rows = sink.rows()
    assert rows["request"].tolist() == list(range(COUNT))
    assert rows["arrival_s"][[3, 4]].tolist() == [1180.0, 240.0]


def test_the_scheduler_keeps_deadlines_and_moves_nobody_else() -> None:
    made, asked = scene()
    work = DeferrableTraffic.of(made)
    released = sent_at(made, work, usual_of(made, asked), made.signal.view)
    at_s = released.at_s
    waits = work.may_wait
    assert (at_s[~waits] == work.traffic.arrival_s[~waits]).all()
    assert (at_s[waits] >= work.traffic.arrival_s[waits]).all()
    assert (at_s[waits] < work.traffic.deadline_s[waits]).all()
    assert simulate_sent(made, asked, work, released).in_time.sum() == waits.sum()


def test_within_the_warm_up_nothing_waits() -> None:
    made, _ = scene(warm_up_s=120.0)
    assert DeferrableTraffic.of(made).may_wait.sum() == 3
