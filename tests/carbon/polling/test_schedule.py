from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.polling.schedule import EveryPlan, NewsPlan, Rest, backoff_s

HOUR = 3600.0
T0 = 1_652_486_400.0
DRAWS = st.floats(0.0, 1.0, exclude_max=True)


@given(st.integers(1, 10_000), DRAWS, st.floats(1.0, 100.0), st.floats(100.0, 1e5))
def test_backing_off_grows_within_its_bounds(
    failures: int, draw: float, shortest: float, longest: float
) -> None:
    wait = backoff_s(failures, draw, shortest, longest)
    assert 0.75 * shortest <= wait <= 1.25 * longest
    assert backoff_s(failures + 1, draw, shortest, longest) >= wait


@pytest.mark.parametrize("lag_s", [-3000.0, 0.0, 1000.0, 3500.0, 8000.0])
def test_the_lag_is_enclosed(lag_s: float) -> None:
    plan = NewsPlan(HOUR)
    now = T0 + 1234.0
    for _ in range(60):
        plan.heard(math.floor((now - lag_s) / HOUR) * HOUR, now, 0.5)
        assert plan.due_at > now
        now = plan.due_at
        slack = 10 * HOUR / 500
        assert plan.lag_low_s - slack <= lag_s <= plan.lag_high_s
    assert plan.lag_high_s - lag_s <= 2 * plan.tolerance_s


@given(
    st.lists(st.tuples(st.floats(0.0, 30 * HOUR), st.floats(-HOUR, 50 * HOUR), DRAWS), min_size=1),
    st.sampled_from([300.0, 1800.0, HOUR]),
)
def test_whatever_it_hears_the_next_call_is_ahead_and_not_for_ever(
    heard: list[tuple[float, float, float]], period_s: float
) -> None:
    plan, now = NewsPlan(period_s), T0
    for wait_s, lag_s, draw in heard:
        now += wait_s
        plan.heard(now - lag_s, now, draw)
        assert now + 0.7 * plan.tolerance_s <= plan.due_at <= now + 2.5 * period_s + HOUR
        assert plan.lag_low_s <= plan.lag_high_s


def test_an_interval_is_kept_spread_and_hastened_only_while_it_works() -> None:
    plan = EveryPlan(HOUR)
    plan.heard(T0, 0.0)
    assert plan.due_at == T0 + 0.95 * HOUR
    plan.hasten(T0 + 60.0)
    assert plan.due_at == T0 + 60.0
    plan.failed(900.0, T0 + 60.0)
    plan.hasten(T0 + 70.0)
    assert (plan.due_at, plan.failures) == (T0 + 960.0, 1)


def test_a_source_rests_after_three_failures_in_a_row_and_when_told() -> None:
    rest = Rest(60.0, 900.0)
    for place in range(2):
        rest.failed(T0 + place, 0.5)
    rest.succeeded()
    for place in range(2):
        rest.failed(T0 + place, 0.5)
    assert rest.until == -math.inf
    rest.failed(T0, 0.5)
    assert rest.until == T0 + 60.0
    rest.failed(T0, 0.5)
    assert rest.until == T0 + 120.0
    rest.wait(4000.0, T0)
    rest.wait(10.0, T0)
    assert rest.until == T0 + 4000.0
