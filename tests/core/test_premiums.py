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
    worths_after,
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
    found = worths_after(world, ask)
    for had, wanted in zip(found, expected, strict=True):
        assert had == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def scarce(full, scarcity=0.9, **changes):
    """A clean region of one place and a dirty one, 1 kWh a request; ``full``: it is taken."""
    world, ask = crossing([100.0, 300.0], 0.0)
    world["rule"]["scarcity"] = scarcity
    clean = world["regions"][0]
    clean["candidates"] = [{**clean["candidates"][0], "batch": float(full), **changes}]
    return world, ask


def test_worth_rises_towards_a_share_of_what_the_room_is_worth_to_those_without():
    world, ask = scarce(full=True)
    capacity = 2.0
    risen = min(1.0, premiums.RISE / capacity) * 180.0
    # Of a full region the next place is the last one.
    assert worths_after(world, ask)[0] == pytest.approx((risen, risen))
    assert worths_after(world, ask)[1] == (0.0, 0.0)
    # 200 g/kWh are lost by going elsewhere, however often.
    assert premiums_after(world, ask, times=50) == pytest.approx([180.0, 0.0])
    assert premiums_after(*scarce(full=True, scarcity=0.0)) == [0.0, 0.0]


def test_waking_a_replica_elsewhere_is_no_measure_of_room():
    """1 kWh more at 300 g/kWh is paid for waking one, and nobody after pays it."""
    for awake in (False, True):
        world, ask = scarce(full=True)
        world["rule"].update(wake_premium=1.0, wake_energy=0.0)
        elsewhere = world["regions"][1]
        changes = {"prefill_base": 1000.0, "wake_w": 3.6e6, "awake": awake}
        elsewhere["candidates"] = [{**elsewhere["candidates"][0], **changes}]
        assert evaluate(world, ask)[1]["premium"] == pytest.approx(0.0 if awake else 300.0)
        assert premiums_after(world, ask, times=50)[0] == pytest.approx(180.0)


def test_a_gain_over_next_to_no_energy_is_no_price():
    world, ask = scarce(full=True, max_premium=600.0, j_per_request=1e-300)
    world["rule"]["weights"]["e2e"] = 1.0
    world["regions"][1]["candidates"][0]["prefill_base"] = 1e6
    assert premiums_after(world, ask, times=1000)[0] <= 540.0
    world["regions"][0]["candidates"][0]["batch"] = 0.0
    world["regions"][0]["worth"] = 540.0
    assert premiums_after(world, ask)[0] == pytest.approx(540.0 * math.exp(-1.0), rel=0.01)


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


def test_worth_falls_while_there_is_room_and_the_premium_goes_by_what_is_left():
    fall = 1.0 - premiums.FALL / 101.0
    for batch, free in ((100.0, 0.0), (99.0, 1.0), (50.0, 50.0), (0.0, 100.0)):
        world, ask = scarce(full=False, max_in_flight=100, max_batch=100, batch=batch)
        world["regions"][0]["worth"] = 100.0
        worth, premium = worths_after(world, ask)[0]
        if free:
            assert worth == pytest.approx(100.0 * fall)
        # Within the noise of what 100 independent requests take, and far beyond.
        assert premium == pytest.approx(worth * math.exp(-free / 10.0))
    world["regions"][0]["worth"] = premiums.LEAST_WORTH
    assert worths_after(world, ask)[0] == (0.0, 0.0)


def test_places_end_where_those_there_tolerate_no_more():
    """Each of 10 adds 1 ms to an iteration of 6.25: 20 ms leave room for 3.75 more."""
    llama = {**LLAMA, "j_per_token": 0.0, "j_per_request": 3.6e6, "wake_w": 0.0}
    each = {"prompts": 5.0, "tpot_cached": 2.0**-10, "cached": 3840.0}
    world, ask = scarce(
        full=False, max_in_flight=100, pace_cap=20.0, batch=10.0, **{**llama, **each}
    )
    world["regions"][0]["worth"] = 100.0
    worth, premium = worths_after(world, ask)[0]
    assert premium == pytest.approx(worth * math.exp(-3.75 / math.sqrt(13.75)))
    for other in ({"eligible": False}, {"pace_cap": math.inf}):
        candidate = world["regions"][0]["candidates"][0]
        world["regions"][0]["candidates"] = [candidate, {**candidate, **other}]
        free, total = (3.75, 13.75) if "eligible" in other else (93.75, 113.75)
        worth, premium = worths_after(world, ask)[0]
        assert premium == pytest.approx(worth * math.exp(-free / math.sqrt(total)))


def test_the_premium_sends_away_those_who_lose_least_by_it():
    """Of 1 kWh at 100 g/kWh with a premium of 150: dearer than 240 elsewhere, cheaper than 300."""
    for elsewhere, row in ((240.0, 1), (300.0, 0)):
        world, ask = crossing([100.0, elsewhere], 0.0)
        world["regions"][0]["premium"] = 150.0
        assert choose(world, ask, 0.5)[0] == row
        assert evaluate(world, ask)[0]["premium"] == pytest.approx(150.0)
        assert evaluate(world, ask)[0]["grams"] == pytest.approx(100.0)
