"""Which replica requests want awake, and what those that sleep are to a decision."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.core import waking
from router.core.layout import ANYWHERE
from tests.core import naive_kernel as naive
from tests.core import naive_terms
from tests.core.kernel_worlds import ASKS, choose, crossing, evaluate, wanted_awake, worlds
from tests.examples import examples

NOW = 8.0
# Idle for longer than it may be; 60 s to wake, 0.1 kWh.
RELEASED = {"releases_at": NOW - 1.0, "waking_ms": 60_000.0, "waking_j": 0.36e6}
WAKING = {"woken_at": NOW + 30.0, "waking_ms": 60_000.0, "waking_j": 0.36e6}
BUSY = {"batch": 50.0, "own": 50.0, "awake": True}


@st.composite
def sleepy(draw):
    """Worlds in which most are well and few are busy, and a request that most would serve."""
    world, ask = draw(worlds()), draw(ASKS)
    world["rule"].update(max_grams=math.inf, max_ci=math.inf)
    for _, _, region, c in naive_terms.rows_of(world):
        region["label"] = 7
        c.update(eligible=True, context=math.inf, pace_cap=math.inf)
        c["batch"] = draw(st.sampled_from([0.0, 0.0, 1.0, 4.0, c["batch"]]))
        c["max_in_flight"] = draw(st.sampled_from([16, 64, 100]))
    limits = dict.fromkeys(("ttft_budget", "tpot_budget", "e2e_budget"), math.inf)
    return world, {**ask, **limits, "residency": ANYWHERE, "n_out": min(ask["n_out"], 200.0)}


PAID = st.sampled_from([0.0, 1.0, 1e4, math.inf]) | st.floats(0.0, 1e9)


@settings(max_examples=examples(50), deadline=None)
@given(st.tuples(worlds(), ASKS) | sleepy(), PAID)
def test_what_is_wanted_agrees_with_the_twin(drawn, paid):
    world, ask = drawn
    rule = world["rule"]
    for _, _, region, c in naive_terms.rows_of(world):
        assume(not naive_terms.on_the_edge(region, naive_terms.awake(c), ask, rule))
    row, unserved = wanted_awake(world, ask, paid)
    expected, then = naive.wanted_awake(world, ask, paid)
    assert unserved == pytest.approx(then, rel=1e-6, abs=1e-9)
    if row != expected:
        # Two that cost the same but for rounding.
        assert min(row, expected) >= 0
        costs = [
            naive_terms.figures(region, naive_terms.awake(c), ask, rule)["cost"]
            for at, _, region, c in naive_terms.rows_of(world)
            if at in (row, expected)
        ]
        assert costs[0] == pytest.approx(costs[1], rel=1e-9)


def fleet(ci, *states, **changes):
    """One replica a region, of 100 places, 1 kWh a request; in a state each."""
    world, ask = crossing(list(ci), 0.0)
    for region, state in zip(world["regions"], states, strict=True):
        c = region["candidates"][0]
        region["candidates"] = [{**c, "max_in_flight": 100, "max_batch": 100, **state}]
    return world, {**ask, "now": NOW, "ttft_budget": 1500.0, **changes}


def test_the_time_to_wake_is_part_of_the_time_to_the_first_token():
    alone_ms = 1000.0
    for state, waits_ms in ((RELEASED, 60_000.0), (WAKING, 30_000.0), ({}, 0.0)):
        world, ask = fleet([100.0], state)
        found = evaluate(world, ask)[0]
        assert found["ttft"] == pytest.approx(alone_ms + waits_ms)
        assert found["reason"] == ("ttft" if waits_ms else "feasible")
        assert (choose(world, ask, 0.0)[0] == 0) is (waits_ms == 0.0)


def test_who_will_be_awake_in_time_takes_requests():
    world, ask = fleet([100.0], {**WAKING, "woken_at": NOW + 0.25})
    assert choose(world, ask, 0.0)[0] == 0
    assert choose(world, {**ask, "ttft_budget": 1200.0}, 0.0)[0] == -1
    world, ask = fleet([100.0], RELEASED, ttft_budget=math.inf)
    assert choose(world, ask, 0.0)[0] == 0


def test_waking_has_its_joules():
    world, ask = fleet([100.0, 100.0], RELEASED, WAKING, ttft_budget=math.inf)
    world["rule"].update(wake_energy=1.0)
    released, waking_one = evaluate(world, ask)
    assert released["energy"] - waking_one["energy"] == pytest.approx(0.36e6)
    world["rule"].update(wake_energy=0.0, wake_premium=0.5)
    released, waking_one = evaluate(world, ask)
    assert released["energy"] == waking_one["energy"]
    assert released["premium"] - waking_one["premium"] == pytest.approx(5.0)
    # Somebody is on the way there: that one woke it.
    world, ask = fleet([100.0], {**RELEASED, "batch": 1.0, "awake": True}, ttft_budget=math.inf)
    world["rule"].update(wake_energy=1.0)
    assert evaluate(world, ask)[0]["energy"] == pytest.approx(3.6e6)


def test_the_cheapest_spare_is_kept_awake():
    paid = 100.0
    assert wanted_awake(*fleet([100.0, 300.0, 200.0], BUSY, {}, {}), paid)[0] == 2
    assert wanted_awake(*fleet([100.0, 300.0, 200.0], BUSY, {}, WAKING), paid)[0] == 2
    assert wanted_awake(*fleet([100.0, 300.0, 200.0], BUSY, {}, {"eligible": False}), paid)[0] == 1
    assert wanted_awake(*fleet([100.0, 300.0], BUSY, BUSY), paid)[0] == -1


def test_without_a_spare_the_cheapest_that_sleeps_is_woken():
    assert wanted_awake(*fleet([100.0, 300.0, 200.0], BUSY, RELEASED, RELEASED), 100.0)[0] == 2
    # Even where nobody awake would serve it.
    assert wanted_awake(*fleet([100.0, 300.0], BUSY, RELEASED), math.inf)[0] == 1
    spare = 100.0 * waking.SPARE_SHARE
    for batch, row in ((math.floor(spare), 1), (math.ceil(spare), 2)):
        there = {"batch": float(batch), "own": float(batch), "awake": True}
        assert wanted_awake(*fleet([100.0, 300.0, 400.0], BUSY, there, RELEASED), 100.0)[0] == row


def test_who_sleeps_is_woken_once_doing_without_cost_as_much_as_waking():
    """1 kWh at 300 instead of 100 g; one in four tells; waking is 0.1 kWh at 100 g."""
    world, ask = fleet([300.0, 400.0, 100.0], BUSY, {}, {**RELEASED, "waking_j": 36e6})
    clean = world["regions"][2]["candidates"][0]
    assert wanted_awake(world, ask, 300.0) == (1, pytest.approx([0.0, 0.0, 800.0]))
    clean["unserved"] = 199.0
    assert wanted_awake(world, ask, 300.0) == (1, pytest.approx([0.0, 0.0, 999.0]))
    clean["unserved"] = 201.0
    assert wanted_awake(world, ask, 300.0) == (2, [0.0, 0.0, 0.0])
    # Nothing is lost by doing without.
    clean["unserved"] = 999.0
    assert wanted_awake(world, ask, 100.0) == (1, [0.0, 0.0, 999.0])
