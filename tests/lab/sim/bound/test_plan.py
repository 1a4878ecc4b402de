import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.sim.bound.plan import Plans, plans
from router.lab.sim.bound.run import bound
from router.lab.sim.simulation import Autoscaling, Outage
from router.model import Budget
from tests.factories import HOUR, policy
from tests.lab.sim.bound.cases import ask, cases, fleet, profile, simulation

pytest.importorskip("scipy")

POLICY = policy()
FLAT = {"Z-clean": [100.0, 100.0], "Z-dirty": [400.0, 400.0]}
PUE, HOST = 1.2, 1.3
ONE = profile(prefill_ms_per_token=0.1)
# Evenly for two minutes: two a second of 500 tokens of prompt and 200 of answer.
STEADY = [ask(i * 0.5, 500, 200, budget=Budget(tpot_ms=14.0)) for i in range(240)]


def in_order(found: Plans) -> None:
    assert found.whole.busy_above_g + 1e-9 >= 0.0
    assert found.whole.busy_above_g <= found.mixed.busy_above_g * (1.0 + 1e-3) + 1e-6
    assert found.mixed.busy_above_g <= found.kept.busy_above_g * (1.0 + 1e-3) + 1e-6


def test_a_steady_load_needs_the_next_whole_number_of_replicas():
    """Of eight places there is work for 0.8 replicas; one is awake."""
    the_fleet = fleet({"clean": 4}, one=ONE, max_in_flight=8)
    of = simulation(STEADY, the_fleet, FLAT, POLICY, duration_s=120.0)
    found = plans(of, POLICY, each_hour=20)
    least = bound(of, POLICY)
    each_s = 0.050 + 199 * (0.010 / 8 + 0.0005)
    busy = 2.0 * each_s
    assert 0.75 < busy < 0.85
    # One whole replica, but for the seconds in which the first come and the last go.
    per_replica_g = 477 * HOST * PUE / 3.6e6 * 100.0 * 120.0
    assert found.whole.awake == pytest.approx(1.0, abs=0.06)
    assert found.whole.busy_above_g == pytest.approx((1.0 - busy) * per_replica_g, rel=0.35)
    assert found.whole.gap <= 1e-3 and found.whole.unserved == 0.0
    assert found.whole.busy_above_g < least.busy_g
    # Each reads 0.25 ms of prompt for a token: at 14 ms only 5.3 are there, work for 1.05 replicas.
    assert found.mixed.awake > 1.8
    in_order(found)


@given(cases(), st.sampled_from([1, 20]))
@settings(max_examples=25, deadline=None)
def test_each_plan_gives_up_something_that_the_one_before_has(case, each_hour):
    of, _, chosen = case
    found = plans(of, chosen, each_hour)
    if max(found.whole.unserved, found.mixed.unserved, found.kept.unserved) > 0.0:
        return
    in_order(found)
    assert found.policy == chosen.name
    assert math.isnan(found.whole.fleet_above_g) is (of.autoscaling is not None)


def test_the_same_again_gives_the_same():
    of = simulation(STEADY, fleet({"clean": 1, "dirty": 1}), FLAT, POLICY, duration_s=120.0)
    assert plans(of, POLICY, 5) == plans(of, POLICY, 5)


def test_what_is_down_serves_nothing():
    the_fleet = fleet({"clean": 2, "dirty": 2}, one=ONE, max_in_flight=8)
    of = simulation(STEADY, the_fleet, FLAT, POLICY, duration_s=120.0)
    lost = Outage(frozenset({"clean-0", "clean-1"}), 0.0, 120.0, 5.0)
    found = plans(replace(of, outages=(lost,)), POLICY, 10)
    # What is dirty costs four times as much; so does what is awake for nothing.
    as_it_is = plans(of, POLICY, 10)
    whole = as_it_is.whole.busy_above_g
    assert found.whole.busy_above_g == pytest.approx(4.0 * whole, rel=0.01)
    later = replace(lost, start_s=500.0)
    assert plans(replace(of, outages=(later,)), POLICY, 10) == as_it_is


def test_more_than_fits_is_told():
    many = [ask(i * 0.05, 100, 200) for i in range(2400)]
    of = simulation(many, fleet({"clean": 1}, one=ONE, max_in_flight=8), FLAT, POLICY,
                    duration_s=120.0)  # fmt: skip
    assert plans(of, POLICY, 5).whole.unserved > 0.5


def test_without_requests_there_is_nothing_above_the_bound():
    of = simulation([], fleet({"clean": 1}), FLAT, POLICY, duration_s=HOUR)
    found = plans(of, POLICY, 2)
    assert found.whole.busy_above_g == found.kept.fleet_above_g == 0.0
    scaled = replace(of, autoscaling=Autoscaling(60.0, 5.0, 100.0))
    assert np.isnan(plans(scaled, POLICY, 2).kept.fleet_above_g)
