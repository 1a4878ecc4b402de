"""How long replicas take from asked-for to ready."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.wake_times import LONGEST_S, MOST_TAKEN, WakeTimes

SITE = ("llama", "west")


def measured(times, takes_s, at=0.0, site=SITE):
    """One replica is asked for, and comes."""
    times.note(site, 1, 1, at)
    times.note(site, 2, 1, at + 5.0)
    taught = times.note(site, 2, 2, at + 5.0 + takes_s)
    times.note(site, 1, 1, at + 6.0 + takes_s)
    return taught


def test_what_was_never_seen_is_assumed_then_measured_there_or_of_the_model_elsewhere():
    times = WakeTimes(180.0)
    assert times.expected(SITE) == (180.0, 0)
    assert measured(times, 40.0)
    # One quick start proves little.
    assert times.expected(SITE) == (180.0, 1)
    for n in range(2):
        measured(times, 50.0, 1000.0 * (n + 1))
    assert times.expected(SITE) == (50.0, 3)
    assert times.expected(("llama", "east")) == (50.0, 3)
    assert times.expected(("other", "west")) == (180.0, 0)


def test_a_slow_start_counts_at_once_and_nine_in_ten_are_in_time():
    times = WakeTimes(60.0)
    for n in range(20):
        measured(times, 300.0 if n in (3, 9) else 40.0 + n, 1000.0 * n)
    found = times.expected(SITE)
    assert found.s == 59.0 and found.measured == 20


def test_a_replica_that_fails_and_recovers_was_not_asked_for():
    times = WakeTimes(180.0)
    times.note(SITE, 2, 2, 0.0)
    times.note(SITE, 2, 1, 5.0)
    assert not times.note(SITE, 2, 2, 10.0)
    assert times.expected(SITE) == (180.0, 0)


def test_who_is_asked_for_in_turn_comes_in_turn_and_who_is_given_up_is_no_measure():
    times = WakeTimes(10.0)
    times.note(SITE, 1, 1, 0.0)
    times.note(SITE, 2, 1, 10.0)
    times.note(SITE, 4, 1, 20.0)
    # Of the three one is not wanted any more: the last.
    times.note(SITE, 3, 1, 30.0)
    times.note(SITE, 3, 3, 100.0)
    assert times.taken() == {SITE: (90.0, 80.0)}


def test_what_is_wanted_in_vain_is_not_reckoned_with_for_a_while():
    times = WakeTimes(180.0)
    times.note(SITE, 1, 1, 0.0)
    times.note(SITE, 3, 1, 0.0)
    times.note(SITE, 3, 1, 600.0)
    assert times.in_vain(SITE, 600.0) == 0
    times.note(SITE, 3, 1, 601.0)
    assert times.in_vain(SITE, 601.0) == 2
    # Whoever plans with that wants fewer, and is not fooled into wanting more again.
    times.note(SITE, 1, 1, 700.0)
    assert times.in_vain(SITE, 700.0) == 2
    times.note(SITE, 1, 2, 800.0)
    assert times.in_vain(SITE, 800.0) == 1
    assert times.in_vain(SITE, 601.0 + 3600.0) == 0
    times.forget(SITE)
    assert times.in_vain(SITE, 900.0) == 0


def test_what_was_measured_before_is_taken_up_but_for_nonsense():
    times = WakeTimes(180.0)
    times.take_up({SITE: [30.0, -1.0, float("nan"), float("inf"), LONGEST_S + 1.0, 40.0, 45.0]})
    assert times.taken() == {SITE: (30.0, 40.0, 45.0)}
    times.take_up({SITE: [70.0] * (MOST_TAKEN + 5)})
    assert len(times.taken()[SITE]) == MOST_TAKEN


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.floats(0.1, 5000.0)), max_size=60)
)
def test_whatever_happens_it_is_bounded(steps):
    times, now = WakeTimes(180.0), 0.0
    for wanted, ready, passed_s in steps:
        now += passed_s
        times.note(SITE, wanted, ready, now)
        assert 0 <= times.in_vain(SITE, now) <= 6
    assert all(0.0 < s <= LONGEST_S for s in times.taken().get(SITE, ()))
    assert times.expected(SITE).s == pytest.approx(times.expected(SITE).s)
