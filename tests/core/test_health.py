import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.board import Board
from router.core.health import Health, State
from router.core.layout import Layout
from tests.factories import NOW, endpoint, fleet, health_settings

T = NOW


def health(**changes):
    return Health(health_settings(**changes))


def fail_times(one, times, now=T, **options):
    options.setdefault("may_eject", True)
    return [one.fail(now, **options) for _ in range(times)]


def ejected(now=T, **changes):
    one = health(**changes)
    fail_times(one, 5, now)
    assert one.state is State.EJECTED
    return one


def test_a_new_endpoint_is_healthy_and_settled():
    one = health()
    assert (one.state, one.settled) == (State.HEALTHY, True)
    assert one.admits(0)
    assert one.admits(10_000)


def test_failures_in_a_row_eject():
    one = health(consecutive_failures=5)
    assert fail_times(one, 5) == [False, False, False, False, True]
    assert one.state is State.EJECTED
    assert not one.admits(0)
    assert not one.settled


def test_a_success_ends_the_row():
    one = health(consecutive_failures=5, min_requests=1000)
    for _ in range(20):
        assert not any(fail_times(one, 4))
        one.succeed(T)
    assert one.state is State.HEALTHY


def test_answered_errors_never_eject_by_streak():
    """A server that blames itself for one caller's bad tensor must not be taken out by them."""
    one = health(consecutive_failures=5, min_requests=100)
    assert not any(fail_times(one, 99, answered=True))
    assert one.state is State.HEALTHY


def test_answered_errors_count_towards_the_failure_percentage():
    one = health(min_requests=20, failure_percentage=50.0)
    for _ in range(10):
        one.succeed(T)
        assert not one.fail(T, True, answered=True) or one.state is State.EJECTED
    assert one.state is State.EJECTED  # 10 of 20


def test_under_the_percentage_or_under_the_minimum_nothing_happens():
    many = health(min_requests=20, failure_percentage=50.0)
    for _ in range(100):
        many.succeed(T)
        many.succeed(T)
        assert not many.fail(T, True)
    few = health(min_requests=20, failure_percentage=50.0)
    assert not any(fail_times(few, 19, answered=True))


def test_the_percentage_is_of_the_last_half_minute():
    one = health(min_requests=20, failure_percentage=50.0)
    fail_times(one, 19, T, answered=True)
    assert not one.fail(T + 30.0, True, answered=True)
    assert one.state is State.HEALTHY


def test_what_the_fleet_cannot_spare_stays():
    one = health()
    assert not any(fail_times(one, 50, may_eject=False))
    assert one.state is State.HEALTHY
    assert one.fail(T, may_eject=True)


def test_an_ejection_expires_into_probing_which_admits_one_at_a_time():
    one = ejected(base_ejection_s=30.0)
    one.tick(T + 29.9)
    assert one.state is State.EJECTED
    one.tick(T + 30.0)
    assert one.state is State.PROBING
    assert not one.settled
    assert one.admits(0)
    assert not one.admits(1)
    one.succeed(T + 31.0)
    assert (one.state, one.settled) == (State.HEALTHY, True)
    assert one.admits(7)


def test_a_failed_probe_ejects_again_for_longer_even_where_the_fleet_has_none_to_spare():
    one, now, rests = ejected(base_ejection_s=30.0, max_ejection_s=300.0), T, []
    for _ in range(6):
        begin = now
        while one.state is State.EJECTED:
            now += 1.0
            one.tick(now)
        rests.append(now - begin)
        assert one.fail(now, may_eject=False)
    assert rests == [30.0, 60.0, 120.0, 240.0, 300.0, 300.0]


def test_recoveries_shorten_the_next_ejection_again():
    one = ejected(base_ejection_s=30.0)
    one.tick(T + 30.0)
    one.fail(T + 30.0, False)  # second ejection: 60 s
    one.tick(T + 90.0)
    one.succeed(T + 90.0)
    fail_times(one, 5, T + 90.0)
    one.tick(T + 90.0 + 59.0)
    assert one.state is State.EJECTED
    one.tick(T + 90.0 + 60.0)
    assert one.state is State.PROBING


def test_a_late_success_of_an_earlier_request_does_not_end_an_ejection():
    one = ejected()
    one.succeed(T + 1.0)
    assert one.state is State.EJECTED
    assert not one.admits(0)


def test_failures_of_before_the_ejection_do_not_prolong_it():
    one = ejected(base_ejection_s=30.0)
    assert not any(fail_times(one, 40, T + 20.0))
    one.tick(T + 30.0)
    assert one.state is State.PROBING


@pytest.mark.parametrize(
    ("asked_s", "rests_s"),
    [(None, 1.0), (0.0, 0.0), (-5.0, 0.0), (7.5, 7.5), (1e9, 300.0), (math.inf, 300.0)],
)
def test_backpressure_rests_an_endpoint_for_what_it_asked_within_bounds(asked_s, rests_s):
    one = health(busy_s=1.0, max_ejection_s=300.0)
    one.mark_busy(T, asked_s)
    assert not one.admits(0)
    assert not one.settled
    assert one.state is State.HEALTHY
    one.tick(T + rests_s - 0.01)
    assert not one.admits(0)
    one.tick(T + rests_s)
    assert one.admits(3)
    assert one.settled


def test_a_shorter_mark_never_cuts_a_longer_one_short():
    one = health()
    one.mark_busy(T, 10.0)
    one.mark_busy(T + 1.0, 2.0)
    one.tick(T + 5.0)
    assert not one.admits(0)
    one.tick(T + 10.0)
    assert one.admits(0)


def test_backpressure_is_no_fault():
    one = health(consecutive_failures=2)
    for _ in range(50):
        one.mark_busy(T, None)
    assert one.state is State.HEALTHY
    assert not one.fail(T, True)


def test_a_failed_readiness_probe_ejects_and_a_good_one_lets_in_early():
    one = health(base_ejection_s=30.0)
    assert one.readiness(T, False, may_eject=True)
    assert one.state is State.EJECTED
    assert not one.readiness(T + 1.0, True, may_eject=True)
    assert one.state is State.PROBING
    assert one.admits(0)
    one.succeed(T + 2.0)
    assert one.state is State.HEALTHY


def test_an_endpoint_that_keeps_saying_not_ready_stays_out():
    one, now = health(base_ejection_s=30.0), T
    for _ in range(100):
        now += 5.0
        one.tick(now)
        one.readiness(now, False, may_eject=True)
        assert one.state is State.EJECTED
    one.tick(now + 30.0)
    assert one.state is State.PROBING


def test_readiness_respects_what_the_fleet_can_spare():
    one = health()
    assert not one.readiness(T, False, may_eject=False)
    assert one.state is State.HEALTHY
    probing = ejected()
    probing.tick(T + 30.0)
    assert probing.readiness(T + 31.0, False, may_eject=False)
    assert probing.state is State.EJECTED


def test_a_ready_answer_changes_nothing_for_a_healthy_endpoint():
    one = health()
    assert not one.readiness(T, True, may_eject=True)
    assert one.settled


def test_reloaded_settings_count_from_then_on():
    one = ejected(base_ejection_s=30.0)
    one.adopt(health_settings(base_ejection_s=1.0, consecutive_failures=1))
    one.tick(T + 29.0)
    assert one.state is State.EJECTED
    one.tick(T + 30.0)
    one.succeed(T + 30.0)
    assert one.fail(T + 31.0, True)
    one.tick(T + 32.0)
    assert one.state is State.PROBING


def seats(count, **changes):
    layout = Layout(fleet(*[endpoint(f"e{number}", "west") for number in range(count)]))
    return Board(layout, health_settings(**changes), 1.645)


@pytest.mark.parametrize(
    ("count", "fraction", "at_most"), [(10, 0.5, 5), (10, 0.1, 1), (3, 0.5, 1), (4, 1.0, 4)]
)
def test_a_failing_fleet_keeps_the_fraction_that_it_may_not_lose(count, fraction, at_most):
    board = seats(count, max_ejected_fraction=fraction)
    for _ in range(20):
        for seat in board.seats.values():
            seat.health.fail(T, board.may_eject())
            seat.publish_load()
    out = [s for s in board.seats.values() if s.health.state is State.EJECTED]
    assert len(out) == at_most


def test_what_is_probing_is_in_again_and_makes_room_for_another_ejection():
    board = seats(2, max_ejected_fraction=0.5, base_ejection_s=30.0)
    first, second = board.seats.values()
    fail_times(first.health, 5)
    assert not board.may_eject()
    board.tick(T + 30.0)
    assert board.may_eject()
    assert fail_times(second.health, 5, T + 30.0, may_eject=board.may_eject())[-1]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["succeed", "fail", "answered", "busy", "ready", "not_ready", "tick"]),
        st.floats(0.0, 400.0),
        st.booleans(),
        st.none() | st.floats(),
    ),
    max_size=60,
)


def play(one, events):
    """Feed events; the time of the last one."""
    now = T
    for what, wait_s, may_eject, retry_after_s in events:
        now += wait_s
        if what == "succeed":
            one.succeed(now)
        elif what in ("fail", "answered"):
            one.fail(now, may_eject, answered=what == "answered")
        elif what == "busy":
            one.mark_busy(now, retry_after_s)
        elif what in ("ready", "not_ready"):
            one.readiness(now, what == "ready", may_eject)
        else:
            one.tick(now)
    return now


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_nothing_lasts_for_ever(events):
    """After any history, time alone lets one request in, and its success makes all well."""
    one = health(max_ejection_s=300.0)
    now = play(one, events) + 300.0
    one.tick(now)
    assert one.state is not State.EJECTED
    assert one.admits(0)
    one.succeed(now)
    assert (one.state, one.settled) == (State.HEALTHY, True)
    assert one.admits(1000)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.integers(0, 50))
def test_what_each_state_admits(events, in_flight):
    one = health()
    now = play(one, events)
    one.tick(now)
    if one.state is State.EJECTED:
        assert not one.admits(in_flight)
    if one.state is State.PROBING and in_flight:
        assert not one.admits(in_flight)
    if one.settled:
        assert one.admits(in_flight)
