import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.app.probing import TICK_S
from router.contract import Probe
from router.core.health import (
    _STUCK_RUNS,
    _STUCK_S,
    _STUCK_UNKNOWN_S,
    PROBE_SHARE,
    Cause,
    Health,
    State,
    ejection_s,
)
from tests.examples import examples
from tests.factories import NOW, health_settings

T = NOW
SOME_S = 0.01


def health(**changes):
    return Health(health_settings(**changes))


def probed(one, now, answer=Probe.READY, longest_s=0.0, asked=None):
    """A probe's answer arrives at ``now``; True when it ejects."""
    one.probe_begins(now - SOME_S if asked is None else asked)
    return one.probe_ends(now, answer, 0.5, longest_s)


def refused(now=T, **changes):
    one = health(**changes)
    assert one.refuse(now)
    return one


def again_and_again(times, base_ejection_s=30.0, **changes):
    """One that was ejected so often in a row, the last time at the second time returned; it
    answered a request between."""
    one, now = refused(base_ejection_s=base_ejection_s, **changes), T
    for _ in range(times - 1):
        while one.state is State.EJECTED:
            now += 1.0
            probed(one, now)
        now += 1.0
        one.succeed(now)
        assert one.refuse(now)
    return one, now


# Definite evidence


def test_a_new_endpoint_is_healthy_and_settled():
    one = health()
    assert (one.state, one.cause, one.settled) == (State.HEALTHY, Cause.NONE, True)
    assert one.admits(0)
    assert one.admits(10_000)


def test_a_refused_connection_ejects_and_tells_so_once():
    one = health()
    assert one.refuse(T)
    assert not one.refuse(T + 1.0)
    assert (one.state, one.cause) == (State.EJECTED, Cause.UNREACHABLE)
    assert not one.admits(0)
    assert not one.settled


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Probe.NOT_READY, Cause.NOT_READY),
        (Probe.REFUSED, Cause.UNREACHABLE),
        (Probe.SILENT, Cause.SILENT),
    ],
)
def test_a_failed_probe_ejects_at_once(answer, cause):
    one = health()
    assert probed(one, T, answer)
    assert (one.state, one.cause) == (State.EJECTED, cause)
    assert not probed(one, T + 1.0, answer)


@pytest.mark.parametrize("answer", [Probe.READY, Probe.UNKNOWN])
def test_an_answer_of_a_healthy_server_changes_nothing(answer):
    one = health()
    assert not probed(one, T, answer)
    assert one.settled


def test_a_broken_connection_leaves_one_request_at_a_time_until_a_probe_tells_more():
    one = health()
    one.lose(T)
    assert (one.state, one.cause) == (State.PROBING, Cause.UNREACHABLE)
    assert (one.admits(0), one.admits(1)) == (True, False)
    assert one.probe_due(T)
    assert not probed(one, T + 0.1)
    assert (one.state, one.cause) == (State.HEALTHY, Cause.NONE)


def test_a_broken_connection_and_then_a_refused_one_is_a_dead_server():
    one = health()
    one.lose(T)
    assert one.refuse(T + 0.1)
    assert one.state is State.EJECTED


def test_many_broken_connections_do_not_put_off_the_probe():
    one = health()
    for number in range(50):
        one.lose(T + number)
        assert one.probe_due(T + number)


# The way back


def test_a_first_ejection_ends_at_the_first_ready_probe():
    one = refused()
    assert not probed(one, T + 0.5, Probe.REFUSED)
    assert one.state is State.EJECTED
    probed(one, T + 1.2)
    assert (one.state, one.cause) == (State.HEALTHY, Cause.NONE)
    assert one.admits(1000)


def test_time_alone_ends_no_ejection_of_a_dead_server():
    one, now = refused(), T
    for _ in range(2_000):
        now += 1.0
        one.watch(now, 0, 0, 0)
        if one.probe_due(now):
            probed(one, now, Probe.REFUSED)
        assert not one.admits(0)


def test_old_answers_after_an_ejection_do_not_lift_it():
    """A server that stops still sends what it had ready."""
    one = refused()
    for number in range(50):
        one.succeed(T - 1.0 + number / 100.0)
    assert one.state is State.EJECTED


def test_old_answers_do_not_mend_a_broken_connection():
    one = health()
    one.lose(T)
    one.succeed(T - 0.5)
    one.succeed(T)
    assert one.state is State.PROBING
    one.succeed(T + 0.1)
    assert one.state is State.HEALTHY


def test_a_probe_of_before_an_ejection_does_not_lift_it():
    one = health()
    one.probe_begins(T)
    one.refuse(T + 0.1)
    one.probe_ends(T + 0.2, Probe.READY, 0.5, 0.0)
    assert one.state is State.EJECTED


def test_a_probe_of_before_a_connection_broke_does_not_mend_it():
    one = health()
    one.probe_begins(T)
    one.lose(T + 0.1)
    one.probe_ends(T + 0.2, Probe.READY, 0.5, 0.0)
    assert one.state is State.PROBING


@pytest.mark.parametrize("cause", [Probe.REFUSED, Probe.SILENT])
def test_one_that_answers_something_else_is_there(cause):
    """It may have no such question, or stand behind what answers for it."""
    one = health()
    probed(one, T, cause)
    probed(one, T + 1.0, Probe.UNKNOWN)
    assert one.settled


def test_one_that_said_that_it_is_not_ready_and_now_says_nothing_shows_it_by_a_request():
    """A proxy says so of a server that is away, and the server itself may have no such method."""
    one = health()
    probed(one, T, Probe.NOT_READY)
    probed(one, T + 1.0, Probe.UNKNOWN)
    assert (one.state, one.admits(0), one.admits(1)) == (State.PROBING, True, False)
    one.succeed(T + 2.0)
    assert one.settled


def test_one_that_is_held_back_though_it_is_ready_may_be_let_in():
    one, now = again_and_again(3, max_ejection_s=300.0)
    assert not one.held_back
    probed(one, now + 1.0)
    assert (one.state, one.held_back) == (State.EJECTED, True)
    one.readmit(now + 1.0)
    assert (one.state, one.held_back) == (State.HEALTHY, False)


@pytest.mark.parametrize("answer", [Probe.REFUSED, Probe.SILENT, Probe.NOT_READY])
def test_one_that_says_no_more_that_it_is_ready_is_not_held_back_but_out(answer):
    one, now = again_and_again(3, max_ejection_s=300.0)
    probed(one, now + 1.0)
    probed(one, now + 2.0, answer)
    assert not one.held_back


@pytest.mark.parametrize(
    ("times", "rests_s"), [(2, 30), (3, 60), (4, 120), (5, 240), (6, 300), (7, 300), (30, 300)]
)
def test_later_ejections_wait_times_that_double_and_ready_answers_do_not_shorten(times, rests_s):
    one, now = again_and_again(times, max_ejection_s=300.0)
    for second in range(1, rests_s):
        probed(one, now + second)
        assert one.state is State.EJECTED
    probed(one, now + rests_s)
    assert one.state is State.PROBING


def test_after_a_later_ejection_only_an_answered_request_makes_all_well():
    one, now = again_and_again(2)
    probed(one, now + 30.0)
    probed(one, now + 35.0)
    assert (one.state, one.admits(0), one.admits(1)) == (State.PROBING, True, False)
    one.succeed(now + 20.0)
    assert one.state is State.PROBING
    one.succeed(now + 36.0)
    assert (one.state, one.settled) == (State.HEALTHY, True)


def test_one_that_stays_in_for_long_is_as_good_as_new():
    one, now = again_and_again(5)
    probed(one, now + 240.0)
    one.succeed(now + 241.0)
    later = now + 241.0 + 6.0 * 30.0 + 1.0
    assert one.refuse(later)
    probed(one, later + 0.5)
    assert one.state is State.HEALTHY


def test_calm_is_counted_from_the_return():
    one = refused(base_ejection_s=10.0)
    probed(one, T + 70.0)
    assert one.refuse(T + 71.0)
    probed(one, T + 72.0)
    assert one.state is State.EJECTED


def test_one_that_is_out_is_asked_ever_less_often_and_at_least_each_half_interval():
    one, now, pauses = refused(probe_s=5.0), T, []
    for _ in range(10):
        asked = now
        while not one.probe_due(now):
            now += 0.01
        pauses.append(round(now - asked, 1))
        probed(one, now, Probe.REFUSED)
    assert pauses[:4] == [0.5, 0.8, 1.1, 1.7]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 2.5


@pytest.mark.parametrize(("jitter", "after_s"), [(0.0, 4.5), (0.5, 5.0), (0.999, 5.499)])
def test_in_peace_a_probe_each_interval_give_or_take_a_tenth(jitter, after_s):
    one = health(probe_s=5.0)
    one.probe_begins(T)
    one.probe_ends(T, Probe.READY, jitter, 0.0)
    assert not one.probe_due(T + after_s - 0.01)
    assert one.probe_due(T + after_s + 0.01)


def test_how_long_a_probe_is_overdue():
    one = health(probe_s=5.0)
    assert one.overdue_s(T) == math.inf
    probed(one, T)
    assert one.overdue_s(T + 4.0) == pytest.approx(-1.0)
    assert one.overdue_s(T + 7.0) == pytest.approx(2.0)


def test_the_longer_it_is_quiet_the_longer_its_probe_is_overdue():
    one = health(detect_s=2.0)
    probed(one, T)
    quiet(one)
    assert one.overdue_s(T + 3.1) == pytest.approx(2.5)
    assert one.overdue_s(T + 4.1) == pytest.approx(3.5)


def test_a_void_probe_is_repeated_at_once_and_says_nothing():
    one = refused()
    one.probe_begins(T + 0.5)
    one.probe_is_void(T + 6.0)
    assert (one.state, one.probe_out) == (State.EJECTED, False)
    assert one.probe_due(T + 6.0)


def test_a_void_probe_of_a_healthy_one_ejects_nobody():
    one = health(probe_s=5.0)
    probed(one, T)
    one.probe_begins(T + 1.0)
    one.probe_is_void(T + 1.5)
    assert one.settled
    assert one.probe_due(T + 1.5)


def test_one_probe_at_a_time():
    one = health()
    assert one.probe_due(T)
    one.probe_begins(T)
    assert not one.probe_due(T + 100.0)
    one.probe_ends(T + 100.0, Probe.READY, 0.5, 0.0)
    assert not one.probe_due(T + 100.0)


def test_reloaded_settings_count_from_then_on():
    one, now = again_and_again(2, base_ejection_s=30.0)
    one.adopt(health_settings(base_ejection_s=1.0))
    probed(one, now + 29.0)
    assert one.state is State.EJECTED
    probed(one, now + 30.0)
    one.succeed(now + 30.5)
    one.refuse(now + 31.0)
    probed(one, now + 33.0)
    assert one.state is State.PROBING


# Events


def test_all_that_departed_before_the_first_failure_is_one_event():
    one = health()
    assert one.new_event(T - 1.0, T)
    assert not any(one.new_event(T - 0.02 * n, T + 0.02 * n) for n in range(50))
    assert one.new_event(T + 0.01, T + 2.0)


def test_an_event_is_remembered():
    one = health()
    assert not one.had_event(T - 1e9)
    one.new_event(T - 1.0, T)
    assert one.had_event(T - 5.0)
    assert not one.had_event(T + 0.1)


def test_what_hangs_at_a_silent_server_is_one_event_with_its_ejection():
    one = health()
    assert probed(one, T, Probe.SILENT)
    assert not one.new_event(T - 0.1, T + 0.1)


@given(st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 10.0)), max_size=40))
def test_no_two_charged_failures_overlap(failures):
    """Each charged request left after the last charged one had failed."""
    one, charged = health(), []
    for departed, took_s in sorted(failures, key=sum):
        if one.new_event(departed, departed + took_s):
            charged.append((departed, departed + took_s))
    assert all(before[1] < after[0] for before, after in itertools.pairwise(charged))


# Backpressure


@pytest.mark.parametrize(
    ("asked_s", "rests_s"),
    [
        (None, 1.0), (0.0, 0.0), (-5.0, 0.0), (2.5, 2.5), (250.0, 5.0), (math.inf, 5.0),
        (math.nan, 0.0),
    ],
)  # fmt: skip
def test_backpressure_rests_an_endpoint_for_what_it_asked_within_bounds(asked_s, rests_s):
    one = health(busy_s=1.0, max_busy_s=5.0)
    one.mark_busy(T, asked_s)
    assert one.state is State.HEALTHY
    one.watch(T + rests_s - 0.01, 0, 0, 0)
    assert one.admits(0) is (rests_s == 0.0 and not one.busy)
    one.watch(T + rests_s, 0, 0, 0)
    assert (one.admits(3), one.settled) == (True, True)


def test_a_shorter_mark_never_cuts_a_longer_one_short():
    one = health()
    one.mark_busy(T, 4.0)
    one.mark_busy(T + 1.0, 0.5)
    one.watch(T + 3.9, 0, 0, 0)
    assert not one.admits(0)
    one.watch(T + 4.0, 0, 0, 0)
    assert one.admits(0)


def rested(turns=7):
    """One that pushed back, and whose rest is over at T + 1, with so many requests sent so far."""
    one = health(busy_s=1.0)
    one.mark_busy(T, None)
    one.watch(T + 1.0, 0, turns, 0)
    return one


def test_after_a_rest_one_request_asks_whether_there_is_room():
    one = rested()
    assert (one.admits(3, 7), one.admits(1, 8)) == (True, False)
    one.mark_busy(T + 1.5, None)
    assert not one.admits(0, 7)


def test_an_answer_to_one_that_left_since_shows_room_and_an_older_one_does_not():
    one = rested()
    one.succeed(T + 0.9)
    assert not one.admits(0, 8)
    one.succeed(T + 1.0)
    assert (one.admits(9, 99), one.busy) == (True, False)


def test_one_that_is_not_pushed_back_for_a_while_was_taken_in():
    one = rested()
    for tick in range(20):
        assert not one.admits(1, 8)
        one.watch(T + 1.1 + tick / 19.0, 1, 8, 0)
    assert (one.admits(1, 8), one.settled) == (True, True)


def test_busy_is_not_dead():
    one = health()
    for _ in range(50):
        one.mark_busy(T, None)
    assert one.is_there
    one.end_rest()
    assert (one.admits(7), one.settled) == (True, True)


# Silence


class Frozen:
    """A server that streams until 0 s and answers nothing from then on, watched as `Prober` does.

    ``first_tick_s``: before 0; each tick is ``late_s`` late. An answer takes ``answer_s``.
    """

    def __init__(self, detect_s, first_tick_s, late_s=0.0, answer_s=0.001, longest_s=30.0):
        self.health = health(detect_s=detect_s, probe_s=1.0)
        self.tick_at = first_tick_s
        self.step_s = TICK_S + late_s
        self.timeout_s = PROBE_SHARE * detect_s
        self.answer_s = answer_s
        self.longest_s = longest_s
        self.probe = (math.inf, Probe.READY)

    def ejected_at(self):
        while self.health.is_there:
            ends_at, answer = self.probe
            if ends_at <= self.tick_at:
                self.probe = (math.inf, Probe.READY)
                self.health.probe_ends(ends_at, answer, 0.5, self.longest_s)
                at = ends_at
            else:
                at = self.tick_at
                self.tick(at)
        return at

    def tick(self, now):
        self.tick_at += self.step_s
        # Until 0 s every tick finds another sign of life.
        self.health.watch(now, 1, 1, round(now * 1e6) if now < 0.0 else 1)
        if self.health.probe_due(now):
            self.health.probe_begins(now)
            answered_at = now + self.answer_s
            hangs = (now + self.timeout_s, Probe.SILENT)
            self.probe = (answered_at, Probe.READY) if answered_at < 0.0 else hangs


@settings(max_examples=examples(133), deadline=None)
@given(
    st.floats(1.0, 60.0), st.floats(-8.0, -TICK_S), st.floats(0.0, 0.01), st.floats(0.0, 0.3)
)  # fmt: skip
def test_a_server_that_freezes_is_out_within_the_promised_time(detect_s, first, late_s, answer_s):
    one = Frozen(detect_s, first, late_s, min(answer_s, 0.4 * detect_s))
    assert 0.0 < one.ejected_at() <= detect_s
    assert one.health.cause is Cause.SILENT


@settings(max_examples=examples(100), deadline=None)
@given(st.floats(0.0, TICK_S), st.floats(1.0, 60.0))
def test_a_request_to_a_server_that_froze_before_waits_no_longer(phase_s, detect_s):
    """It was idle, so nobody knew: the request leaves at 0 s, between two ticks."""
    one = Frozen(detect_s, phase_s)
    probed(one.health, phase_s - TICK_S)
    one.health.watch(phase_s - TICK_S, 0, 0, 1)
    assert one.ejected_at() <= detect_s


def test_the_shortest_promise_that_a_configuration_may_make_is_kept():
    latest = max(Frozen(1.0, -3.0 - n / 1000, 0.03).ejected_at() for n in range(200))
    assert latest <= 1.0


def test_the_default_promise_is_kept_with_a_margin_for_a_busy_loop():
    latest = max(Frozen(2.0, -5.0 - n / 1000, 0.03).ejected_at() for n in range(200))
    assert 1.0 <= latest <= 1.8


def quiet(one, now=T):
    """Requests wait there, and nothing is heard since ``now``."""
    one.watch(now, 1, 1, 7)
    one.watch(now + TICK_S, 1, 1, 8)
    one.watch(now + 2 * TICK_S, 1, 1, 8)
    return one


def test_one_that_is_quiet_with_requests_is_probed_soon():
    one = health(detect_s=2.0)
    probed(one, T)
    quiet(one)
    assert not one.probe_due(T + 0.55)
    assert one.probe_due(T + 0.65)


def test_one_that_is_quiet_without_requests_is_in_peace():
    one = health()
    probed(one, T)
    for tick in range(40):
        one.watch(T + tick * TICK_S, 0, 5, 7)
        assert not one.probe_due(T + tick * TICK_S)


def test_every_sign_of_life_begins_the_silence_anew():
    one = health()
    probed(one, T)
    for tick in range(40):
        one.watch(T + tick * TICK_S, 3, 3 + tick, tick // 4)
        assert not one.probe_due(T + tick * TICK_S)


def test_a_ready_answer_begins_the_silence_anew():
    one = health(detect_s=2.0)
    quiet(one)
    probed(one, T + 1.0)
    assert not one.probe_due(T + 1.4)
    assert one.probe_due(T + 1.6)


def came_back_from_silence(silence_s=6.0):
    """It answered nothing for so long, and was in again at once: it may have worked."""
    one = health(detect_s=2.0, base_ejection_s=10.0)
    assert probed(one, T - silence_s, Probe.SILENT)
    probed(one, T)
    assert one.state is State.HEALTHY
    return one


def test_a_server_that_blocks_while_it_works_is_given_time():
    one = quiet(came_back_from_silence(6.0))
    # 1.5 x (6 s out and 2 s before).
    for after_s in (1.5, 5.0, 11.9):
        assert not probed(one, T + after_s, Probe.SILENT, longest_s=20.0)
    assert probed(one, T + 12.5, Probe.SILENT, longest_s=20.0)


def test_one_that_is_given_time_is_asked_now_and_then():
    one = quiet(came_back_from_silence(6.0))
    probed(one, T + 2.0, Probe.SILENT, longest_s=20.0, asked=T + 1.1)
    assert not one.probe_due(T + 1.5)
    assert one.probe_due(T + 2.0)


def test_one_that_was_stuck_is_given_no_time():
    """It answered probes all the while: it does not fall silent when it works."""
    one = quiet(health(detect_s=2.0, base_ejection_s=1.0))
    at = mute(one, T + 2 * TICK_S, T + 60.0) + 2.0
    probed(one, at)
    one.succeed(at + 0.1)
    one.watch(at + TICK_S, 1, 2, 9)
    one.watch(at + 2 * TICK_S, 1, 2, 9)
    assert probed(one, at + 1.5, Probe.SILENT, longest_s=20.0)


def test_the_time_it_is_given_begins_with_its_last_answer():
    one = quiet(came_back_from_silence(6.0))
    probed(one, T + 11.0)
    assert not probed(one, T + 13.0, Probe.SILENT, longest_s=20.0)


def test_it_is_given_no_more_than_twice_what_its_requests_take():
    one = quiet(came_back_from_silence(100.0))
    assert not probed(one, T + 3.9, Probe.SILENT, longest_s=2.0)
    assert probed(one, T + 4.2, Probe.SILENT, longest_s=2.0)


def test_it_is_given_no_time_without_requests():
    assert probed(came_back_from_silence(), T + 1.0, Probe.SILENT, longest_s=0.0)


@given(st.floats(0.1, 1e6), st.floats(0.0, 1e6))
def test_no_server_is_given_more_than_half_a_minute(silence_s, longest_s):
    one = quiet(came_back_from_silence(silence_s))
    assert probed(one, T + 31.0, Probe.SILENT, longest_s)


def test_a_connection_that_is_refused_is_never_excused_by_work():
    one = quiet(came_back_from_silence(100.0))
    assert probed(one, T + 1.0, Probe.REFUSED, longest_s=1e3)


def test_a_gateway_that_stood_still_blames_nobody():
    one = health(detect_s=2.0)
    probed(one, T)
    quiet(one)
    one.excuse(T + 3.0)
    assert not one.probe_due(T + 3.4)
    assert one.probe_due(T + 3.6)


def test_a_gateway_that_stood_still_begins_to_listen_to_one_that_was_not_quiet_before():
    one = health(detect_s=2.0)
    probed(one, T)
    one.watch(T + 0.1, 1, 1, 5)
    one.watch(T + 0.2, 1, 1, 6)
    one.watch(T + 3.0, 1, 1, 6)
    one.excuse(T + 3.0)
    assert not one.probe_due(T + 3.4)
    assert one.probe_due(T + 3.6)


def test_standing_still_makes_nobody_stuck():
    one = quiet(health())
    one.excuse(T + 1000.0)
    assert not probed(one, T + 1000.1)
    assert mute(one, T + 1000.1, T + 1100.0) > T + 1000.0 + _STUCK_S


# Stuck: it answers probes, and no request


def hangs(one, now, in_flight=1, turns=1, signs=8, longest_s=0.5):
    """A tick at which requests wait in vain and probes are answered; True when it ejects."""
    one.watch(now, in_flight, turns, signs)
    return one.probe_due(now) and probed(one, now, longest_s=longest_s)


def mute(one, now, until, **changes):
    """When one of which requests are answered no more is ejected, else None."""
    while now < until:
        now += TICK_S
        if hangs(one, now, **changes):
            return now
    return None


def test_one_that_answers_probes_and_no_request_is_out_at_last():
    one = quiet(health())
    at = mute(one, T + 2 * TICK_S, T + 60.0)
    assert T + _STUCK_S <= at <= T + _STUCK_S + 1.0
    assert (one.state, one.cause) == (State.EJECTED, Cause.SILENT)


def test_one_of_which_no_request_has_told_yet_is_given_more_time():
    """It may load its model first."""
    one = health()
    one.watch(T, 0, 0, 0)
    at = next(at for at in itertools.count(T, TICK_S) if hangs(one, at, signs=0))
    assert T + _STUCK_UNKNOWN_S <= at <= T + _STUCK_UNKNOWN_S + 1.0


def test_long_runs_are_waited_for():
    one = quiet(health())
    at = mute(one, T + 2 * TICK_S, T + 700.0, longest_s=30.0)
    assert 0.0 <= at - T - 30.0 * _STUCK_RUNS <= 1.0


def test_one_that_answers_requests_is_not_stuck():
    one = health()
    for tick in range(3_000):
        now = T + tick * TICK_S
        assert not hangs(one, now, 5, 5 + tick, 8 + tick // 140, 0.1)


def test_an_idle_one_is_not_stuck():
    one = quiet(health())
    one.watch(T + 1.0, 0, 1, 8)
    one.watch(T + 1.1, 0, 1, 8)
    assert mute(one, T + 1.1, T + 100.0, in_flight=0) is None


def test_a_new_server_with_a_request_at_the_first_tick_is_not_stuck():
    one = health()
    one.watch(T, 1, 1, 0)
    assert not probed(one, T + 0.01, longest_s=1.0)
    assert one.settled


def test_a_stuck_one_stays_out_for_a_while_though_its_probes_are_ready():
    one = quiet(health(base_ejection_s=10.0))
    at = mute(one, T + 2 * TICK_S, T + 60.0)
    probed(one, at + 9.9)
    assert not one.admits(0)
    probed(one, at + 10.0)
    assert (one.state, one.admits(0), one.admits(1)) == (State.PROBING, True, False)


def stuck_again_and_again(times):
    """Seconds from each return to the ejection after it, of one that never answers a request."""
    one, now, waited = health(base_ejection_s=1.0, max_ejection_s=1.0), T, []
    for turn in range(times):
        one.watch(now, 0, turn, 8)
        at = mute(one, now, now + 10_000.0, turns=turn + 1)
        waited.append(at - now)
        now = at + 2.0
        one.watch(now, 0, turn + 1, 8)
        probed(one, now)
    return waited


def test_each_time_without_an_answer_between_it_gets_twice_the_time():
    """A server that is much slower than its profile says shall live to tell so."""
    waited = stuck_again_and_again(9)
    limits = [_STUCK_S * 2.0 ** min(turn, 6) for turn in range(9)]
    assert all(limit <= it <= limit + 1.0 for limit, it in zip(limits, waited, strict=True))


def test_an_answer_between_makes_it_short_again():
    one = quiet(health(base_ejection_s=1.0, max_ejection_s=1.0))
    at = mute(one, T + 2 * TICK_S, T + 60.0) + 2.0
    probed(one, at)
    one.watch(at, 0, 1, 9)
    one.succeed(at + 0.1)
    one.watch(at + TICK_S, 1, 2, 8)
    assert mute(one, at + TICK_S, at + 100.0, turns=2) < at + _STUCK_S + 2.0


def test_what_no_answer_follows_admits_one_request_at_a_time():
    """Ready probes alone do not mend one that answered probes all the time."""
    one = quiet(health(base_ejection_s=1.0))
    at = mute(one, T + 2 * TICK_S, T + 60.0)
    for second in range(1, 10):
        probed(one, at + second)
    assert (one.state, one.admits(1)) == (State.PROBING, False)
    one.succeed(at + 10.0)
    assert one.settled


# Callers that give up


def test_callers_that_give_up_are_no_sign_of_life():
    one = health(detect_s=2.0)
    probed(one, T)
    one.watch(T, 0, 0, 7)
    for tick in range(1, 7):
        # Each sends a request and leaves at once.
        one.watch(T + tick * TICK_S, 0, tick, 7)
    assert one.probe_due(T + 6 * TICK_S)
    assert probed(one, T + 1.5, Probe.SILENT)


def test_a_ready_answer_tells_that_they_left_of_themselves():
    one = health(detect_s=2.0)
    probed(one, T)
    one.watch(T, 0, 0, 7)
    one.watch(T + TICK_S, 0, 1, 7)
    probed(one, T + 0.7)
    one.watch(T + 0.8, 0, 1, 7)
    assert not one.probe_due(T + 4.0)


def test_a_caller_that_gives_up_after_the_first_look_leaves_a_silence():
    one = health(detect_s=2.0)
    probed(one, T)
    one.watch(T, 1, 1, 0)
    one.watch(T + TICK_S, 0, 1, 0)
    assert one.probe_due(T + 0.6)


def test_an_answer_tells_of_all_that_left_before_it():
    one = health(detect_s=2.0)
    probed(one, T)
    for tick, (in_flight, turns, signs) in enumerate([(0, 0, 7), (2, 2, 7), (0, 2, 8), (0, 2, 8)]):
        one.watch(T + tick * TICK_S, in_flight, turns, signs)
    assert not one.probe_due(T + 4.0)


def test_what_was_given_up_before_the_first_look_counts_for_nothing():
    one = health(detect_s=2.0)
    probed(one, T)
    for tick in range(20):
        one.watch(T + tick * TICK_S, 0, 1_000, 7)
        assert not one.probe_due(T + tick * TICK_S)


# Ejection times


@given(st.integers(0, 10_000), st.floats(0.1, 100.0), st.floats(0.1, 1000.0))
def test_ejection_times_double_up_to_the_longest(before, base_s, longest_s):
    settings = health_settings(base_ejection_s=base_s, max_ejection_s=longest_s)
    this_s, next_s = ejection_s(before, settings), ejection_s(before + 1, settings)
    assert min(base_s, longest_s) <= this_s <= next_s <= longest_s
    assert next_s <= 2.0 * this_s


# Any order of calls

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "succeed", "old answer", "lose", "refuse", "busy", "end_rest", "watch", "quiet",
                "left", "begin", "void", "excuse", "event", *Probe,
            ]
        ),
        st.floats(0.0, 100.0),
        st.none() | st.floats(),
    ),
    max_size=60,
)  # fmt: skip


def play(one, what, now, figure):
    """Feed one event; True when it ejects."""
    if isinstance(what, Probe):
        return one.probe_ends(now, what, 0.5, figure or 0.0)
    calls = {
        "succeed": lambda: one.succeed(now),
        "old answer": lambda: one.succeed(now - 1e3),
        "lose": lambda: one.lose(now),
        "refuse": lambda: one.refuse(now),
        "busy": lambda: one.mark_busy(now, figure),
        "end_rest": one.end_rest,
        "watch": lambda: one.watch(now, 1, 1, int(now)),
        "quiet": lambda: one.watch(now, 1, 1, -1),
        "left": lambda: one.watch(now, 0, int(now), -1),
        "begin": lambda: one.probe_begins(now),
        "void": lambda: one.probe_is_void(now),
        "excuse": lambda: one.excuse(now),
        "event": lambda: one.new_event(now - 1.0, now),
    }
    return calls[what]()


@settings(max_examples=examples(100), deadline=None)
@given(EVENTS)
def test_once_all_faults_end_it_takes_requests_within_the_longest_ejection(events):
    one, now = health(base_ejection_s=5.0, max_ejection_s=20.0, probe_s=2.0), T
    for what, wait_s, figure in events:
        now += wait_s
        play(one, what, now, figure)
    probed(one, now)
    ended = now
    while not one.admits(0):
        now += TICK_S
        one.watch(now, 0, 0, 0)
        if one.probe_due(now):
            probed(one, now)
        assert now <= ended + 20.0 + 2.0
    one.succeed(now + 1.0)
    assert (one.state, one.settled) == (State.HEALTHY, True)


@settings(max_examples=examples(100), deadline=None)
@given(EVENTS, st.integers(0, 50))
def test_what_each_state_admits(events, in_flight):
    one, now = health(), T
    for what, wait_s, figure in events:
        now += wait_s
        assert not (play(one, what, now, figure) and what != "event" and one.is_there)
        if one.state is State.EJECTED:
            assert not one.admits(in_flight)
        elif one.busy:
            assert not one.admits(in_flight, math.inf)
        elif one.state is State.PROBING:
            assert one.admits(in_flight) is (in_flight == 0)
        else:
            assert one.admits(in_flight)
        assert (one.state is State.HEALTHY) == (one.cause is Cause.NONE)


@given(st.lists(st.tuples(EVENTS, st.floats(allow_nan=False, allow_infinity=False)), max_size=3))
def test_no_order_of_calls_and_no_time_raises(rounds):
    one = health()
    for events, now in rounds:
        for what, wait_s, figure in events:
            play(one, what, now + wait_s, figure)
            assert one.overdue_s(now) == one.overdue_s(now)
            assert isinstance(one.admits(1), bool)


@pytest.mark.parametrize("answer", [Probe.NOT_READY, Probe.REFUSED, Probe.SILENT])
def test_a_whole_fleet_may_be_out(answer):
    fleet = [health(max_ejected_fraction=0.1) for _ in range(50)]
    assert all(probed(one, T, answer) for one in fleet)
    assert not any(one.admits(0) for one in fleet)
