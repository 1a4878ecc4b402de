"""What requests teach of scarce room, and what it then does."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.core import premiums
from router.core.layout import ANYWHERE
from tests.core import naive_kernel as naive
from tests.core import naive_terms
from tests.core.kernel_worlds import (
    ASKS,
    LLAMA,
    choose,
    crossing,
    evaluate,
    premiums_after,
    worlds,
)
from tests.examples import examples


@st.composite
def crowded(draw):
    """Worlds whose cleaner regions are often full, under a policy that prices room."""
    world = draw(worlds())
    world["rule"].update(scarcity=0.9, max_grams=math.inf, max_ci=math.inf)
    world["rule"]["weights"]["grams"] = 1.0
    for region in world["regions"]:
        full = draw(st.booleans())
        region["ci"] = [draw(st.floats(1.0, 1000.0))] * world["rule"]["hours"]
        for c in region["candidates"]:
            c.update(eligible=True, context=math.inf, pace_cap=math.inf)
            c["batch"] = float(c["max_in_flight"]) if full else 0.0
    return world


def unbounded(ask):
    limits = dict.fromkeys(("ttft_budget", "tpot_budget", "e2e_budget"), math.inf)
    return {**ask, **limits, "residency": ANYWHERE, "n_out": min(ask["n_out"], 200.0)}


@settings(max_examples=examples(50), deadline=None)
@given(st.tuples(worlds(), ASKS) | st.tuples(crowded(), ASKS.map(unbounded)))
def test_premiums_agree_with_the_twin(drawn):
    world, ask = drawn
    rule = world["rule"]
    for _, _, region, c in naive_terms.rows_of(world):
        assume(not naive_terms.on_the_edge(region, c, ask, rule))
        alone = {**c, "batch": 0.0}
        assume(not naive_terms.on_the_edge(region, alone, ask, rule))
    expected = naive.premiums(world, evaluate(world, ask), ask)
    assert premiums_after(world, ask) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def scarce(full, scarcity=0.9, **changes):
    """A clean region of one place and a dirty one, 1 kWh a request; ``full``: it is taken."""
    world, ask = crossing([100.0, 300.0], 0.0)
    world["rule"]["scarcity"] = scarcity
    clean = world["regions"][0]
    clean["candidates"] = [{**clean["candidates"][0], "batch": float(full), **changes}]
    return world, ask


def test_a_premium_rises_towards_a_share_of_what_the_room_is_worth_to_those_without():
    world, ask = scarce(full=True)
    capacity = 2.0
    assert premiums_after(world, ask) == pytest.approx(
        [min(1.0, premiums.RISE / capacity) * 180.0, 0.0]
    )
    # 200 g/kWh are lost by going elsewhere, however often.
    assert premiums_after(world, ask, times=50) == pytest.approx([180.0, 0.0])
    assert premiums_after(*scarce(full=True, scarcity=0.0)) == [0.0, 0.0]


def test_a_gain_over_next_to_no_energy_is_no_price():
    world, ask = scarce(full=True, max_premium=600.0, j_per_request=1e-300)
    world["rule"]["weights"]["e2e"] = 1.0
    world["regions"][1]["candidates"][0]["prefill_base"] = 1e6
    assert premiums_after(world, ask, times=1000)[0] <= 540.0
    world["regions"][0]["candidates"][0]["batch"] = 0.0
    world["regions"][0]["premium"] = 540.0
    assert premiums_after(world, ask, times=100)[0] == 0.0


def test_where_no_price_is_too_much_an_endless_one_is_none():
    world, ask = scarce(full=True, max_premium=math.inf, j_per_request=1e-308)
    world["rule"]["weights"]["e2e"] = 1.0
    world["regions"][1]["candidates"][0]["prefill_base"] = 1e6
    assert premiums_after(world, ask, times=3)[0] == 0.0


def test_whoever_lacks_only_room_counts_and_nobody_else():
    assert premiums_after(*scarce(full=True, eligible=False)) == [0.0, 0.0]
    world, ask = scarce(full=True)
    assert premiums_after(world, {**ask, "ttft_budget": 0.5}) == [0.0, 0.0]
    # Full for this request, though not for others: those who run there tolerate no more.
    llama = {**LLAMA, "j_per_token": 0.0, "j_per_request": 3.6e6, "wake_w": 0.0}
    assert premiums_after(*scarce(full=True, max_in_flight=5, pace_cap=6.375, **llama))[0] > 0.0
    # Nor for one whose prompt nobody there would bear.
    world, ask = scarce(full=True, max_in_flight=5, pace_cap=7.0, **llama)
    assert premiums_after(world, ask)[0] == 0.0
    assert premiums_after(world, {**ask, "n_in": 256.0})[0] > 0.0


def test_a_premium_falls_while_there_is_room():
    for batch, free in ((99.0, 0.01), (50.0, 0.5), (0.0, 1.0)):
        world, ask = scarce(full=False, max_in_flight=100, max_batch=100, batch=batch)
        world["regions"][0]["premium"] = 100.0
        fall = min(1.0, (premiums.FALL + premiums.FALL_EMPTY * free) / 101.0)
        assert premiums_after(world, ask)[0] == pytest.approx(100.0 * (1.0 - fall))
    world["regions"][0]["premium"] = premiums.LEAST_PREMIUM
    assert premiums_after(world, ask)[0] == 0.0


def test_the_premium_sends_away_those_who_lose_least_by_it():
    """Of 1 kWh at 100 g/kWh with a premium of 150: dearer than 240 elsewhere, cheaper than 300."""
    for elsewhere, row in ((240.0, 1), (300.0, 0)):
        world, ask = crossing([100.0, elsewhere], 0.0)
        world["regions"][0]["premium"] = 150.0
        assert choose(world, ask, 0.5)[0] == row
        assert evaluate(world, ask)[0]["premium"] == pytest.approx(150.0)
        assert evaluate(world, ask)[0]["grams"] == pytest.approx(100.0)
