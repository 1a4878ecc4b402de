"""One endpoint as a process sees it: load that others claim, and latency that time forgives."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core import kernel as k
from router.core.board import Board
from router.core.latency import z_of
from router.core.layout import Layout
from router.core.lease import Lease
from router.core.seat import BELIEVED_FOR, QUIET_S, foreign_requests
from router.model import Load, Outcome
from tests.factories import NOW, endpoint, fleet, health_settings, served


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
    Lease(seat, math.inf).close(Outcome.SUCCEEDED)
    for _ in range(BELIEVED_FOR):
        seat.set_others(40.0)
        assert awake[0] == 1.0
    seat.set_others(40.0)
    assert awake[0] == 0.0


def slow(seat, ratio=40.0, times=200):
    for prompt in range(1, times):
        seat.wait.observe(ratio * prompt, float(prompt))
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
