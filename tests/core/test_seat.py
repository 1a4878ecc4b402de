"""One endpoint as a process sees it: load that others claim, latency that time forgives, and
prompts that are still to be read."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core import kernel_rows as k
from router.core.board import Board
from router.core.burden import burden_of
from router.core.latency import z_of
from router.core.latency_record import QUIET_S
from router.core.layout import Layout
from router.core.lease import Lease
from router.core.seat import BELIEVED_FOR, foreign_requests
from router.core.terms import MOST_STRETCH
from router.core.twins import profile_start
from router.model import UNBURDENED, Load, Outcome
from tests.factories import HOUR, NOW, endpoint, fleet, health_settings, served

# Seconds since 1970 are known to within this, ms: a quarter of a microsecond, at each sum.
ROUNDED_MS = 1e-3


def alone(z=0.0):
    """The board of one endpoint."""
    return Board(Layout(fleet(endpoint("a", "east", served(name="llama")))), health_settings(), z)


@given(st.floats(), st.floats(), st.integers(0, 500), st.integers(1, 500))
def test_whatever_a_server_says_of_its_load_it_has_between_nobody_and_its_cap(
    running, queued, own, cap
):
    assert 0.0 <= foreign_requests(Load(running, queued, 0.0, 0.0), own, cap) <= cap


def test_a_server_that_claims_to_be_busy_is_not_taken_for_awake():
    board = alone()
    seat, awake = board.seats["a"], board.live("llama", "")[k.AWAKE]
    seat.set_others(40.0)
    assert awake[0] == 0.0
    Lease(seat, UNBURDENED).close(Outcome.SUCCEEDED)
    for _ in range(BELIEVED_FOR):
        seat.set_others(40.0)
        assert awake[0] == 1.0
    seat.set_others(40.0)
    assert awake[0] == 0.0


def slow(seat, ratio=40.0, times=200):
    for prompt in range(1, times):
        seat.wait.observe(2.0 * ratio * prompt, float(prompt), float(prompt))
        seat.tpot_ratio.observe(ratio, 1.0)
    seat.publish_latency()


def test_a_quiet_endpoint_that_looks_slow_is_believed_again_within_minutes():
    board = alone(z_of(0.95))
    seat, prior = board.seats["a"], board.seats["a"].latency_errors
    slow(seat)
    learned = seat.latency_errors
    for second in range(int(QUIET_S)):
        board.tick(NOW + second)
    assert seat.latency_errors == learned
    for second in range(int(QUIET_S), 900):
        board.tick(NOW + second)
    assert seat.latency_errors == pytest.approx(prior, rel=0.02, abs=0.1)


@pytest.mark.parametrize("ratio", [1.3, 1.8, 2.5])
@pytest.mark.parametrize("queue", [0.0, 1.0])
def test_an_endpoint_that_was_steadily_slow_is_believed_again_too(ratio, queue):
    """Steadily: what is little in doubt must not pass for quick beside a prior that doubts more."""
    board = alone(z_of(0.95))
    seat, prior = board.seats["a"], board.seats["a"].latency_errors
    for step in range(600):
        prefill_ms = float(20 + 37 * step % 400)
        seat.wait.observe(ratio * prefill_ms * (1 + queue), prefill_ms, queue * prefill_ms)
    seat.publish_latency()
    for second in range(1800):
        board.tick(NOW + second)
    now = seat.latency_errors
    assert now.delay_ms + now.ttft * 100.0 <= prior.ttft * 100.0 * 1.02


def test_an_endpoint_that_is_slow_indeed_is_tried_about_once_a_minute():
    board = alone(z_of(0.95))
    seat, tried = board.seats["a"], 0
    slow(seat)
    for second in range(7200):
        board.tick(NOW + second)
        if seat.latency_errors.tpot < 20.0:
            tried += 1
            seat.tpot_ratio.observe(40.0, 1.0)
            seat.publish_latency()
    assert 1 <= tried <= 7200 / QUIET_S


def test_what_looks_quick_is_not_forgotten():
    board = alone(z_of(0.95))
    slow(board.seats["a"], ratio=0.5)
    learned = board.seats["a"].latency_errors
    for second in range(2000):
        board.tick(NOW + second)
    assert board.seats["a"].latency_errors == learned


# Prompts that are still to be read


def prompt(prompt_ms, output_tokens=200.0):
    return burden_of(prompt_ms, prompt_ms / 0.05, output_tokens, math.inf)


def shown(board):
    return board.live("llama", "")[:, 0]


def left_ms(board, now):
    """What is left of the backlog, as the kernel has it."""
    live = shown(board)
    return min(max(0.0, live[k.BACKLOG_ENDS_S] - now) * 1000.0, live[k.BACKLOG_MOST_MS])


def near(ms):
    return pytest.approx(ms, abs=ROUNDED_MS, rel=1e-5)


def test_each_prompt_is_read_after_those_before_and_time_reads_them():
    board = alone()
    seat = board.seats["a"]
    assert left_ms(board, NOW) == 0.0
    Lease(seat, prompt(100.0), now=NOW)
    assert left_ms(board, NOW) == near(100.0)
    Lease(seat, prompt(60.0), now=NOW)
    assert left_ms(board, NOW) == near(100.0 + 60.0)
    # 40 ms later as much is left as of both together.
    assert left_ms(board, NOW + 0.04) == near(100.0 + 60.0 - 40.0)
    Lease(seat, prompt(20.0), now=NOW + 0.04)
    assert left_ms(board, NOW + 0.04) == near(100.0 + 60.0 - 40.0 + 20.0)
    assert left_ms(board, NOW + 0.18) == near(0.0)
    # Then nothing is there that a further one would have to wait for.
    Lease(seat, prompt(30.0), now=NOW + 10.0)
    assert left_ms(board, NOW + 10.0) == near(30.0)


@given(st.lists(st.tuples(st.floats(0.0, 500.0), st.floats(0.0, 0.5)), max_size=30))
def test_the_backlog_is_that_of_one_who_reads_without_a_pause(arrivals):
    """The recursion of a queue: what was left when the last one came, less the time since."""
    board = alone()
    now, left = NOW, 0.0
    for prompt_ms, gap_s in arrivals:
        left = max(0.0, left - gap_s * 1000.0) + prompt_ms
        now += gap_s
        Lease(board.seats["a"], prompt(prompt_ms), now=now)
        ends_ms = (shown(board)[k.BACKLOG_ENDS_S] - now) * 1000.0
        assert ends_ms == pytest.approx(left, abs=ROUNDED_MS * (1 + len(arrivals)))


def test_alike_prompts_are_all_that_can_be_left():
    board = alone()
    leases = []
    for held in range(1, 6):
        leases.append(Lease(board.seats["a"], prompt(80.0), now=NOW))
        assert shown(board)[k.BACKLOG_MOST_MS] == pytest.approx(held * 80.0)
    for lease in leases:
        lease.close(Outcome.SUCCEEDED)
    assert shown(board)[k.BACKLOG_MOST_MS] == 0.0
    assert left_ms(board, NOW) == 0.0


@given(st.lists(st.tuples(st.floats(0.1, 500.0), st.floats(1.0, 2000.0)), min_size=1, max_size=20))
def test_after_the_clock_is_set_back_no_more_is_left_than_is_there(there):
    """The clock was an hour ahead while they came: they count until they have ended, all of their
    prompts, however unlike their answers are."""
    board = alone()
    seat, ahead = board.seats["a"], NOW + HOUR
    leases = [Lease(seat, prompt(*one), now=ahead) for one in there]
    for held in range(len(there), 0, -1):
        assert left_ms(board, NOW) == near(sum(prompt_ms for prompt_ms, _ in there[:held]))
        leases.pop().close(Outcome.SUCCEEDED)
    assert left_ms(board, NOW) == 0.0
    # What comes then counts as long as it is there, no longer.
    late = Lease(seat, prompt(50.0), now=NOW)
    assert left_ms(board, NOW) == near(50.0)
    late.close(Outcome.SUCCEEDED)
    assert left_ms(board, NOW) == 0.0


@given(st.lists(st.tuples(st.floats(0.1, 500.0), st.floats(1.0, 2000.0)), min_size=1, max_size=20))
def test_the_next_one_after_the_clock_is_set_back_sets_the_backlog_right(there):
    """From then on it is read, though those there stay."""
    board = alone()
    seat = board.seats["a"]
    for one in there:
        Lease(seat, prompt(*one), now=NOW + HOUR)
    Lease(seat, prompt(50.0), now=NOW)
    whole_ms = sum(prompt_ms for prompt_ms, _ in there) + 50.0
    assert left_ms(board, NOW) == near(whole_ms)
    assert left_ms(board, NOW + whole_ms / 2000.0) == near(whole_ms / 2.0)
    assert left_ms(board, NOW + whole_ms / 1000.0) == near(0.0)


def test_nothing_is_left_of_a_prompt_that_was_read_and_it_is_given_back_once():
    board = alone()
    first, second = (Lease(board.seats["a"], prompt(ms), now=NOW) for ms in (900.0, 40.0))
    for _ in range(2):
        first.prompt_read()
        assert left_ms(board, NOW) == near(40.0)
    first.close(Outcome.SUCCEEDED)
    first.prompt_read()
    assert left_ms(board, NOW) == near(40.0)
    second.close(Outcome.SUCCEEDED)
    assert left_ms(board, NOW) == 0.0


def test_nothing_is_left_of_a_prompt_that_was_given_up():
    board = alone()
    seat = board.seats["a"]
    long, short = (Lease(seat, prompt(ms), now=NOW) for ms in (900.0, 40.0))
    assert left_ms(board, NOW) == near(940.0)
    long.close(Outcome.IGNORED)
    assert left_ms(board, NOW) == near(40.0)
    Lease(seat, prompt(30.0), now=NOW)
    assert left_ms(board, NOW + 0.01) == near(40.0 + 30.0 - 10.0)
    short.close(Outcome.IGNORED)
    assert left_ms(board, NOW) == near(30.0)


def test_after_the_clock_is_set_forward_nothing_is_left():
    board = alone()
    Lease(board.seats["a"], prompt(500.0), now=NOW)
    assert left_ms(board, NOW + HOUR) == 0.0


@pytest.mark.parametrize("slower", [0.5, 1.5, 3.0])
def test_slower_hardware_reads_its_backlog_for_longer(slower):
    """To the kernel what is left is a time by the profile: it multiplies by the factor itself."""
    board = alone()
    seat = board.seats["a"]
    for step in range(2000):
        prefill_ms = 20.0 + 10.0 * (37 * step % 60)
        seat.wait.observe(slower * prefill_ms, prefill_ms)
    seat.publish_latency()
    # By itself it may be its queue that is long.
    assert seat.latency.slowness == 1.0
    seat.latency.share(profile_start()._replace(wait=seat.wait.state), 1.6)
    factor = seat.latency.slowness
    assert factor == pytest.approx(slower, rel=0.05)
    real_ms, now = 0.0, NOW
    for _ in range(20):
        real_ms = max(0.0, real_ms - 80.0) + factor * 100.0
        Lease(seat, prompt(100.0), now=now)
        assert left_ms(board, now) == near(real_ms / factor)
        now += 0.08


def test_of_others_no_prompt_is_known_to_be_left():
    """They count by the mean, for their share of those that are there."""
    board = alone()
    seat = board.seats["a"]
    lease = Lease(seat, prompt(100.0), now=NOW)
    seat.set_others(3.0)
    live = shown(board)
    assert live[k.FOREIGN] == 3.0 / 4.0
    assert live[k.PER_PLACE] == 1.0 / 5.0
    assert left_ms(board, NOW) == near(100.0)
    assert live[k.BACKLOG_MOST_MS] == pytest.approx(100.0)
    lease.close(Outcome.SUCCEEDED)
    assert live[k.FOREIGN] == 1.0
    assert live[k.PROMPTS_MS] > 0.0
    assert left_ms(board, NOW) == 0.0


def test_fewer_than_one_of_others_is_as_much_of_a_share():
    board = alone()
    board.seats["a"].set_others(0.25)
    assert shown(board)[k.FOREIGN] == 0.25


def test_the_other_workers_send_there_what_this_one_does():
    board = alone()
    seat = board.seats["a"]
    seat.set_peers(3)
    lease = Lease(seat, prompt(100.0), now=NOW)
    live = shown(board)
    # Its own and those of three more.
    assert left_ms(board, NOW) == near((1 + 3) * 100.0)
    assert live[k.BACKLOG_MOST_MS] == pytest.approx((1 + 3) * 100.0)
    assert live[k.FOREIGN] == 0.0
    # Of two here each stands for one and a half others; more than there are cannot be left.
    Lease(seat, prompt(300.0), now=NOW)
    ends_ms = (live[k.BACKLOG_ENDS_S] - NOW) * 1000.0
    assert ends_ms == near((2 + 3) / 2 * (100.0 + 300.0))
    assert left_ms(board, NOW) == live[k.BACKLOG_MOST_MS] == near((2 + 3) / 2 * (100.0 + 300.0))
    # None is left of those that ended.
    seat.set_peers(0)
    lease.close(Outcome.SUCCEEDED)
    assert left_ms(board, NOW) == near(300.0)


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_of_workers_that_share_the_requests_the_last_sees_what_one_alone_would(workers):
    """Requests go round; each worker learns what the others hold before it takes one."""
    boards, total = [alone() for _ in range(workers)], 12 * workers
    one = alone()
    for count in range(total):
        Lease(one.seats["a"], prompt(100.0), now=NOW)
        board = boards[count % workers]
        board.seats["a"].set_peers(count - count // workers)
        Lease(board.seats["a"], prompt(100.0), now=NOW)
    assert left_ms(boards[-1], NOW) == near(total * 100.0)
    # The first took each of its own before those of that round were there.
    missed = sum((workers - 1) / turn for turn in range(1, total // workers + 1))
    first_ms = (shown(boards[0])[k.BACKLOG_ENDS_S] - NOW) * 1000.0
    assert first_ms == near((total - missed) * 100.0)
    assert left_ms(one, NOW) == near(total * 100.0)


def test_what_is_left_outlives_a_reload():
    old = alone()
    Lease(old.seats["a"], prompt(100.0), now=NOW)
    new = Board(old.layout, health_settings(), 0.0, old)
    assert left_ms(new, NOW) == near(100.0)
    assert (shown(new) == shown(old)).all()


def paced(prompt_ms, paced_ms):
    return prompt(prompt_ms)._replace(paced_ms=paced_ms)


def test_prompts_are_paid_for_one_after_the_other():
    board = alone()
    Lease(board.seats["a"], paced(100.0, 150.0), now=NOW)
    lease = Lease(board.seats["a"], paced(100.0, 250.0), now=NOW + 0.05)
    assert shown(board)[k.PACED_UNTIL_S] == pytest.approx(NOW + 0.4)
    # Those that ended were read.
    lease.close(Outcome.SUCCEEDED)
    assert shown(board)[k.PACED_UNTIL_S] == pytest.approx(NOW + 0.4)
    Lease(board.seats["a"], paced(100.0, 150.0), now=NOW + 5.0)
    assert shown(board)[k.PACED_UNTIL_S] == pytest.approx(NOW + 5.15)


def test_a_clock_that_was_set_back_leaves_no_more_to_pay_for_than_there_is():
    board = alone()
    Lease(board.seats["a"], paced(100.0, 150.0), now=NOW + HOUR)
    Lease(board.seats["a"], paced(100.0, 150.0), now=NOW)
    assert shown(board)[k.PACED_UNTIL_S] == pytest.approx(NOW + MOST_STRETCH * 0.1 + 0.15)


def test_the_other_workers_pay_for_theirs_as_this_one_does():
    board = alone()
    board.seats["a"].set_peers(3)
    Lease(board.seats["a"], paced(100.0, 150.0), now=NOW)
    assert shown(board)[k.PACED_UNTIL_S] == pytest.approx(NOW + (1 + 3) * 0.15)


def test_what_has_no_prompt_leaves_nothing_to_read():
    board = alone()
    Lease(board.seats["a"], UNBURDENED, now=NOW)
    assert left_ms(board, NOW) == 0.0
    assert shown(board)[k.BACKLOG_MOST_MS] == 0.0
