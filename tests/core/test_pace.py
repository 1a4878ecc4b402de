"""Caps of the pace."""

import math

from hypothesis import given
from hypothesis import strategies as st

from router.core.pace import PACE_STEPS, PACES, floor_pace, pace_of, pace_step
from tests.core.kernel_worlds import (
    TASK,
    choose,
    evaluate,
    llamas,
)


@given(st.integers(0, PACES))
def test_a_step_is_what_its_pace_is_told_by(step):
    pace = pace_of(step)
    assert pace_step(pace) == step
    # Rounding of the logarithm may cost a step, never gain one.
    assert floor_pace(pace) in (pace, pace_of(max(step - 1, 0)), math.inf)
    assert floor_pace(pace * (1.0 + 1e-9)) == (pace if step < PACES else math.inf)


@given(st.floats(pace_of(0), pace_of(PACES - 1)))
def test_a_cap_is_never_rounded_up_and_down_by_less_than_a_step(pace):
    cap = floor_pace(pace)
    assert cap <= pace * (1.0 + 1e-12)
    assert pace < cap * 2.0 ** (1.0 / PACE_STEPS) * (1.0 + 1e-12)
    assert pace_of(pace_step(cap)) == cap
    assert 0 <= pace_step(cap) < PACES


@given(st.floats(1e-9, 1e9), st.floats(1.0, 4.0))
def test_a_longer_pace_has_no_shorter_cap(pace, times):
    assert floor_pace(pace * times) >= floor_pace(pace)


def test_ends_of_the_scale():
    assert floor_pace(0.0) == floor_pace(-5.0) == floor_pace(1e-3) == pace_of(0) == 2.0**-4
    assert floor_pace(2.0**20) == floor_pace(1e300) == floor_pace(math.inf) == math.inf
    # Half a millisecond in a hundred thousand hours is no budget that anybody has.
    assert floor_pace(math.nan) == math.inf
    assert floor_pace(2.0**20 * 0.999) < math.inf


def test_a_budget_becomes_a_cap_of_the_pace():
    world, ask = llamas(0)
    ask.update(n_out=8.0, n_out_q=16.0, tpot_budget=40.0)
    assert choose(world, ask, 0.0)[-2] == floor_pace(40.0)
    # 14.375 ms to the first token, and 16 tokens within the rest of 254.375 ms: 15 ms each.
    ask.update(e2e_budget=254.375)
    assert choose(world, ask, 0.0)[-2] == floor_pace(15.0)
    # A request that is slow by its own doing does not shut the door behind itself.
    ask.update(n_in=4096.0, e2e_budget=math.inf, tpot_budget=7.0)
    mine = evaluate(world, ask)[0]["pace"]
    assert mine == 6.375 + 256.0 / 8.0
    assert mine < choose(world, ask, 0.0)[-2] < mine * 1.004
    world["regions"][0]["candidates"][0].update(TASK)
    ask.update(tpot_budget=7.0, e2e_budget=900.0, n_in=0.0)
    assert choose(world, ask, 0.0)[-2] == math.inf
