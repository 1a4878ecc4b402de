from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.providers.budget import CallBudget, CallLimit


def test_without_a_limit_everything_is_allowed() -> None:
    budget = CallBudget()
    assert [budget.take(0.0) for _ in range(1000)] == [0.0] * 1000
    assert budget.left(0.0) == math.inf


def test_a_burst_up_to_the_limit_then_a_wait_until_it_left_the_window() -> None:
    budget = CallBudget(CallLimit(3, 60.0))
    assert [budget.take(10.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    wait_s = budget.take(10.0)
    assert 60.0 <= wait_s <= 61.0
    assert budget.left(10.0) == 0
    assert budget.take(10.0 + 59.9) > 0.0
    assert budget.take(10.0 + wait_s) == 0.0
    assert budget.left(10.0 + wait_s) == 2


def test_a_refused_call_costs_nothing_in_any_limit() -> None:
    budget = CallBudget(CallLimit(1, 1.0), CallLimit(100, 3600.0))
    assert budget.take(0.0) == 0.0
    assert all(budget.take(0.5) > 0.0 for _ in range(50))
    assert budget.left(2.0) == 1
    assert CallBudget(CallLimit(100, 3600.0)).left(2.0) == 100
    taken = sum(budget.take(2.0 * second) == 0.0 for second in range(1, 200))
    assert taken == 99


def test_time_that_steps_back_stands_still() -> None:
    budget = CallBudget(CallLimit(2, 10.0))
    assert budget.take(1000.0) == 0.0
    assert budget.take(0.0) == 0.0
    assert budget.take(0.0) > 0.0
    assert budget.take(1011.0) == 0.0


@pytest.mark.parametrize("limit", [(0, 1.0), (1, 0.0), (1, math.inf), (1, math.nan)])
def test_a_limit_that_allows_nothing_is_refused(limit: tuple[int, float]) -> None:
    with pytest.raises(ValueError, match="must allow"):
        CallBudget(CallLimit(*limit))


@given(
    calls=st.integers(1, 20),
    per_s=st.floats(0.5, 1000.0),
    gaps=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=200),
)
def test_no_window_ever_holds_more_than_the_limit_and_the_wait_is_enough(
    calls: int, per_s: float, gaps: list[float]
) -> None:
    budget = CallBudget(CallLimit(calls, per_s))
    now, made = 0.0, []
    for gap in gaps:
        now += gap * per_s / 4
        wait_s = budget.take(now)
        if wait_s > 0.0:
            assert wait_s <= per_s * (1 + 1 / 60) + 2e-3
            now += wait_s
            assert budget.take(now) == 0.0 or budget.take(now + 1e-6 * per_s + 2e-3) == 0.0
        made.append(now)
    for index, at in enumerate(made[calls:]):
        assert at - made[index] >= per_s * (1 - 1e-9)
