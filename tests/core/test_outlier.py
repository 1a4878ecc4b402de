import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.health import State
from router.core.outlier import Avoidance, OutlierEjection
from tests.factories import NOW, health_settings

T = NOW
CROWD = tuple(f"caller {number}" for number in range(10))


def outlier(**changes):
    return OutlierEjection(health_settings(**changes))


def strikes(one, times, caller="acme", now=T, proven=False):
    return [one.strike(now, caller, proven) for _ in range(times)]


def served_all(one, callers=CROWD, now=T):
    for caller in callers:
        one.succeed(caller, now - 0.1)


def ejected(times=1, **changes):
    """One that was ejected at T, and again as soon as it probed; and when that was."""
    one, now = outlier(**changes), T
    one.eject(now)
    for _ in range(times - 1):
        while not one.tick(now):
            now += 1.0
        one.eject(now)
    return one, now


# One caller's finding


def test_a_new_one_is_in_and_nobody_finds_it_broken():
    one = outlier()
    assert (one.state, one.admits) == (State.HEALTHY, True)
    assert not one.should_eject(T)


def test_a_row_of_failures_of_one_caller_is_a_finding():
    assert strikes(outlier(consecutive_failures=5), 5) == [False, False, False, False, True]


def test_rows_of_several_callers_do_not_add_up():
    one = outlier(consecutive_failures=5)
    for caller in CROWD[:4]:
        assert not any(strikes(one, 4, caller))
    assert not one.should_eject(T)


def test_a_good_answer_ends_the_row():
    one = outlier(consecutive_failures=5, failure_percentage=100.0)
    for _ in range(20):
        assert not any(strikes(one, 4))
        one.succeed("acme", T)
    assert strikes(one, 5)[-1]


def test_a_good_answer_to_another_caller_does_not():
    one = outlier(consecutive_failures=5)
    strikes(one, 4)
    served_all(one)
    assert strikes(one, 1) == [True]


def mixed(one, rounds, good, proven):
    """Rounds of one failure and so many good answers; whether it was ever found broken."""
    found = False
    for _ in range(rounds):
        found |= one.strike(T, "acme", proven)
        for _ in range(good):
            one.succeed("acme", T)
    return found


def test_a_share_of_failures_that_others_answered_is_a_finding():
    assert mixed(outlier(min_requests=20, failure_percentage=10.0), 40, 5, proven=True)


def test_a_smaller_share_is_none():
    assert not mixed(outlier(min_requests=20, failure_percentage=10.0), 40, 15, proven=True)


def test_a_share_of_failures_that_nobody_else_tried_says_nothing():
    assert not mixed(outlier(min_requests=20, failure_percentage=10.0), 200, 1, proven=False)


def test_a_share_of_few_requests_says_nothing():
    one = outlier(min_requests=20, consecutive_failures=1000)
    assert not any(strikes(one, 15, proven=True))


def test_an_old_finding_is_mended_by_good_answers():
    one = outlier(min_requests=20, failure_percentage=10.0)
    strikes(one, 5, proven=True)
    assert one.should_eject(T)
    for _ in range(300):
        one.succeed("acme", T)
    assert not one.should_eject(T + 3.0)


def test_who_takes_a_finding_back_votes_for_it_again():
    one = outlier(consecutive_failures=5, failure_percentage=100.0)
    strikes(one, 5, "a")
    one.succeed("a", T + 1.0)
    strikes(one, 5, "b", now=T + 2.0)
    assert one.should_eject(T + 2.0)
    one.succeed("a", T + 3.0)
    assert not one.should_eject(T + 3.0)


@pytest.mark.parametrize("least", [1, 20, 40])
def test_a_share_can_be_reached_however_many_requests_are_asked_for(least):
    one = outlier(min_requests=least, failure_percentage=10.0, consecutive_failures=1000)
    assert any(strikes(one, 100, proven=True))


# Callers' votes


def test_sudden_death_is_seen_by_one_callers_row_though_all_were_served_before():
    one = outlier(consecutive_failures=5)
    for second in range(100):
        served_all(one, now=T - 100.0 + second)
    strikes(one, 5, now=T)
    assert one.should_eject(T)


def test_one_that_fails_one_caller_and_serves_the_others_stays():
    one, now = outlier(consecutive_failures=5), T
    for _ in range(100):
        now += 0.1
        served_all(one, now=now)
        found = one.strike(now, "acme", True)
        assert not one.should_eject(now)
    assert found


def test_two_callers_of_three_are_most():
    one = outlier(consecutive_failures=5)
    strikes(one, 5, "a")
    one.succeed("c", T + 1.0)
    assert not one.should_eject(T + 1.0)
    strikes(one, 5, "b", now=T + 2.0)
    assert one.should_eject(T + 2.0)


def test_an_answer_to_what_left_before_the_trouble_is_no_vote():
    """Answers still arrive from a server that just broke."""
    one = outlier(consecutive_failures=5)
    strikes(one, 5, "a")
    for caller in CROWD:
        one.succeed(caller, T - 0.1)
    assert one.should_eject(T + 1.0)


def test_who_was_served_since_and_then_failed_is_no_vote_for_it():
    one = outlier(consecutive_failures=5)
    strikes(one, 5, "a")
    for caller in CROWD:
        one.succeed(caller, T + 1.0)
    assert not one.should_eject(T + 1.0)
    for caller in CROWD:
        one.strike(T + 2.0, caller, True)
    assert one.should_eject(T + 2.0)


def test_one_that_fails_many_callers_once_each_is_out_after_as_many_as_make_a_row():
    """None of them meets it often enough for a row of its own."""
    one = outlier(consecutive_failures=5)
    for caller in CROWD[:5]:
        assert not one.should_eject(T)
        one.strike(T, caller, True)
    assert one.should_eject(T)


def test_many_callers_that_each_failed_once_are_outvoted_by_one_served_since():
    one = outlier(consecutive_failures=5)
    for caller in CROWD:
        one.strike(T, caller, True)
    one.succeed("other", T + 1.0)
    assert not one.should_eject(T + 1.0)


def test_failures_of_many_callers_long_ago_do_not_add_up():
    one = outlier(consecutive_failures=5, base_ejection_s=10.0)
    for number in range(100):
        now = T + 10.0 * number
        one.strike(now, f"caller {number}", True)
        assert not one.should_eject(now)


def test_those_who_were_served_long_ago_do_not_outvote_those_who_fail_now():
    one = outlier(base_ejection_s=10.0, consecutive_failures=5, failure_percentage=100.0)
    # A caller in trouble ever since.
    for number in range(200):
        one.strike(T + 10.0 * number, "acme", True)
        one.succeed("acme", T + 10.0 * number + 1.0)
    for number in range(20):
        one.succeed(f"gone {number}", T + 1.0)
    for caller in ("acme", *CROWD[:5]):
        strikes(one, 10, caller, now=T + 2_000.0, proven=True)
    assert one.should_eject(T + 2_000.0)


def test_a_finding_is_forgotten_after_three_base_ejections():
    one = outlier(base_ejection_s=10.0)
    strikes(one, 5)
    assert one.should_eject(T + 29.0)
    assert not one.should_eject(T + 31.0)


@given(st.integers(1, 20), st.integers(0, 20))
def test_the_majority_of_those_it_met_decides(broken, well):
    one = outlier(consecutive_failures=5)
    for number in range(broken):
        strikes(one, 5, f"broken {number}")
    for number in range(well):
        one.succeed(f"well {number}", T + 1.0)
    assert one.should_eject(T + 1.0) is (broken > well)


# The way out and back


def test_it_is_out_for_a_time_and_then_takes_one_request_at_a_time():
    one, _ = ejected(base_ejection_s=30.0)
    assert not one.tick(T + 29.9)
    assert not one.admits
    assert one.tick(T + 30.0)
    assert (one.state, one.admits) == (State.PROBING, True)
    one.in_flight = 1
    assert not one.admits


def test_only_an_answer_to_a_request_that_left_since_brings_it_back():
    one, _ = ejected(base_ejection_s=30.0)
    one.succeed("acme", T - 1.0)
    assert one.state is State.EJECTED
    one.tick(T + 30.0)
    one.succeed("acme", T + 29.0)
    assert one.state is State.PROBING
    one.succeed("acme", T + 31.0)
    assert (one.state, one.admits) == (State.HEALTHY, True)


def test_whoever_found_it_broken_finds_it_anew():
    one, _ = ejected(consecutive_failures=5, base_ejection_s=30.0)
    strikes(one, 4)
    one.tick(T + 30.0)
    one.succeed("other", T + 30.0)
    assert not any(strikes(one, 4, now=T + 32.0))


def test_one_failure_of_a_probing_one_is_enough():
    one, _ = ejected()
    one.tick(T + 30.0)
    one.strike(T + 30.0, "acme", False)
    assert one.should_eject(T + 30.0)


def test_failures_of_requests_from_before_an_ejection_are_stale():
    one, _ = ejected(base_ejection_s=30.0)
    assert one.is_stale(T - 1.0)
    assert one.is_stale(T + 1.0)
    one.tick(T + 30.0)
    assert (one.is_stale(T + 29.9), one.is_stale(T + 30.0)) == (True, False)
    one.succeed("acme", T + 31.0)
    assert not one.is_stale(T + 30.5)


def test_nothing_is_stale_at_one_that_was_never_out():
    one = outlier()
    strikes(one, 4)
    assert not one.is_stale(T - 1e9)


def test_ejections_in_a_row_double_up_to_the_longest():
    rests = []
    for times in range(1, 8):
        one, now = ejected(times, base_ejection_s=30.0, max_ejection_s=300.0)
        rest_s = 0
        while not one.tick(now + rest_s):
            rest_s += 1
        rests.append(rest_s)
    assert rests == [30, 60, 120, 240, 300, 300, 300]


def test_one_that_behaves_for_long_is_as_good_as_new():
    one, now = ejected(4, base_ejection_s=30.0)
    later = now + 240.0 + 6.0 * 30.0 + 1.0
    one.tick(later)
    one.eject(later)
    assert not one.tick(later + 29.0)
    assert one.tick(later + 30.0)


@pytest.mark.parametrize("state", State)
def test_a_model_that_the_server_does_not_have_takes_nothing_in_any_state(state):
    one = outlier()
    one.state, one.ready = state, False
    assert not one.admits


def test_reloaded_settings_count_from_then_on():
    one = outlier(consecutive_failures=5)
    one.adopt(health_settings(consecutive_failures=2, base_ejection_s=1.0))
    assert strikes(one, 2) == [False, True]
    one.eject(T)
    assert one.tick(T + 1.0)


# What it served, and whose blame is doubted


def test_it_remembers_whom_it_served():
    one = outlier(base_ejection_s=10.0)
    one.succeed("acme", T)
    one.succeed("other", T + 5.0)
    assert one.rejects("acme", T + 29.0, b"one")
    assert not one.rejects("acme", T + 31.0, b"one")
    assert not one.rejects("stranger", T + 31.0, b"one")


def test_one_that_answered_nobody_of_late_is_doubted_from_the_second_request_that_it_blames():
    one = outlier(base_ejection_s=10.0)
    assert not any(one.rejects("acme", T, b"one") for _ in range(200))
    assert one.rejects("acme", T, b"two")
    assert not one.rejects("acme", T + 9.0, b"one")
    assert one.rejects("acme", T + 10.0, b"one")
    one.succeed("other", T)
    assert not one.rejects("acme", T + 29.0, b"two")


def test_what_it_blamed_before_it_served_somebody_is_no_evidence_any_more():
    one = outlier(base_ejection_s=10.0)
    one.rejects("acme", T, b"one")
    one.succeed("other", T + 1.0)
    assert not one.rejects("acme", T + 60.0, b"two")
    assert one.rejects("acme", T + 61.0, b"three")


def test_one_that_was_shown_at_fault_is_doubted_like_one_that_served():
    one = outlier(base_ejection_s=10.0)
    one.strike(T, "acme", True)
    one.succeed("other", T + 5.0)
    assert one.rejects("acme", T + 29.0, b"one")
    assert not one.rejects("acme", T + 31.0, b"one")


def test_callers_cost_bounded_memory():
    one = outlier()
    for number in range(10_000):
        one.succeed(f"good {number}", T)
        one.strike(T, f"bad {number}", True)
    assert len(one._callers) <= 256


# Avoidance


def test_a_caller_goes_round_what_it_found_broken_and_nobody_else_does():
    avoidance = Avoidance()
    assert not avoidance
    avoidance.add("llama", "acme", "a", T + 10.0)
    avoidance.add("llama", "acme", "b", T + 20.0)
    assert set(avoidance.of("llama", "acme", T)) == {"a", "b"}
    assert avoidance.of("llama", "other", T) == ()
    assert avoidance.of("image", "acme", T) == ()


def test_avoidance_expires_by_time_alone():
    avoidance = Avoidance()
    avoidance.add("llama", "acme", "a", T + 10.0)
    avoidance.add("llama", "acme", "b", T + 20.0)
    assert avoidance.of("llama", "acme", T + 10.0) == ("b",)
    avoidance.tick(T + 10.0)
    assert avoidance.of("llama", "acme", T + 10.0) == ("b",)
    avoidance.tick(T + 20.0)
    assert not avoidance


def test_avoidance_costs_bounded_memory():
    avoidance = Avoidance()
    for number in range(10_000):
        avoidance.add("llama", f"caller {number}", "a", T + 10.0)
    assert len(avoidance._until) <= 256
    assert avoidance.of("llama", "caller 9999", T) == ("a",)


@given(st.integers(1, 12), st.floats(0.1, 100.0), st.floats(0.1, 1000.0))
def test_a_caller_goes_round_for_twice_the_ejection(times, base_s, longest_s):
    one, now = outlier(base_ejection_s=base_s, max_ejection_s=longest_s), T
    assert one.avoided_until(T) == pytest.approx(T + 2.0 * min(base_s, longest_s))
    for _ in range(times):
        one.eject(now)
    assert one.avoided_until(now) <= now + 2.0 * longest_s


# Any order of calls

CALLERS = st.sampled_from(CROWD[:4])
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["strike", "proven", "answer", "old answer", "tick", "not ready", "ready"]),
        CALLERS,
        st.floats(0.0, 50.0),
    ),
    max_size=80,
)


def play(one, what, caller, now):
    if what in ("strike", "proven"):
        one.strike(now, caller, what == "proven")
        if one.state is not State.EJECTED and one.should_eject(now):
            one.eject(now)
    elif what in ("answer", "old answer"):
        one.succeed(caller, now if what == "answer" else now - 1e3)
    elif what == "tick":
        one.tick(now)
    else:
        one.ready = what == "ready"


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_nothing_lasts_for_ever(events):
    """After any history, time alone lets one request in, and its answer makes all well."""
    one, now = outlier(max_ejection_s=100.0), T
    for what, caller, wait_s in events:
        now += wait_s
        play(one, what, caller, now)
    one.ready = True
    now += 100.0
    one.tick(now)
    assert one.admits
    one.succeed("acme", now + 0.5)
    assert (one.state, one.admits) == (State.HEALTHY, True)
    assert not one.should_eject(now + 100.0)


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_no_order_of_calls_and_no_time_raises(events, times):
    one = outlier()
    for (what, caller, wait_s), now in zip(events, times, strict=False):
        play(one, what, caller, now)
        one.avoided_until(now)
        one.rejects(caller, now + wait_s, b"one")
        assert all(row.outcomes >= row.failures >= 0.0 for row in one._callers.values())


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_a_finding_is_what_a_plain_count_says(outcomes):
    """A slow twin: a decayed sum over the whole history, from the first failure on."""
    one = outlier(consecutive_failures=5, min_requests=20, failure_percentage=50.0)
    for place, failed in enumerate(outcomes):
        found = one.strike(T, "acme", True) if failed else one.succeed("acme", T)
        known = outcomes[outcomes.index(True) : place + 1] if True in outcomes[: place + 1] else []
        weights = [0.98**age for age in reversed(range(len(known)))]
        share = math.fsum(w for w, bad in zip(weights, known, strict=True) if bad)
        row = known[-5:] == [True] * 5
        most = math.fsum(weights) >= 20.0 and share >= 0.5 * math.fsum(weights) + 1e-9
        least = math.fsum(weights) >= 20.0 and share >= 0.5 * math.fsum(weights) - 1e-9
        assert not failed or row or found in (most, least)
        assert not (failed and row) or found
