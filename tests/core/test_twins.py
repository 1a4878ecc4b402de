"""What endpoints of one kind learn in common, and what an untried one starts from."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.board import Board
from router.core.latency import (
    DELAY_MS,
    FACTOR,
    LEVEL,
    RatioTracker,
    WaitTracker,
    ratio_factor,
    wait_errors,
    z_of,
)
from router.core.latency_record import QUIET_S, RELAX_KEEPS
from router.core.layout import Layout
from router.core.twins import FULL_VOTE, Twins, Voter, kind_key, kind_of, profile_start
from tests.factories import (
    NOW,
    endpoint,
    fleet,
    health_settings,
    served,
    task_profile,
    token_profile,
)

Z = z_of(0.95)
MODEL = served(token_profile())


def voter(wait_ratio, tpot_ratio=None, lessons=100, delay_ms=0.0, seed=1):
    """One that runs so many times as slow as its profile says, behind a path of its own."""
    rng, wait, ratio = random.Random(seed), WaitTracker(Z), RatioTracker()
    for _ in range(lessons):
        prefill_ms = 20.0 + 400.0 * rng.random()
        wait.observe(delay_ms + wait_ratio * prefill_ms, prefill_ms)
        ratio.observe(tpot_ratio or wait_ratio, 1.0)
    return Voter(wait, ratio)


def hardware(start):
    """(wait, TPOT) over the profile's, in the middle."""
    assert start.wait[DELAY_MS] == 0.0
    return start.wait[FACTOR] * math.exp(start.wait[LEVEL]), ratio_factor(start.ratio, 0.0)


def learned(*voters):
    twins = Twins()
    twins.learn(voters, RELAX_KEEPS)
    return hardware(twins.start)


@pytest.mark.parametrize("ratio", [0.6, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("count", [1, 2, 3, 200])
def test_what_all_say_is_what_a_further_one_starts_from(ratio, count):
    assert learned(*[voter(ratio)] * count) == pytest.approx((ratio, ratio), rel=0.06)


def test_wait_and_pace_are_told_apart():
    assert learned(*[voter(2.0, 1.3)] * 3) == pytest.approx((2.0, 1.3), rel=0.03)


@pytest.mark.parametrize("lie", [0.02, 0.5, 3.0, 50.0])
@pytest.mark.parametrize("honest", [2, 3, 9])
def test_one_that_lies_moves_nobody(lie, honest):
    told = [voter(1.5)] * honest
    assert learned(*told, voter(lie)) == pytest.approx((1.5, 1.5), rel=0.05)


@pytest.mark.parametrize("lie", [0.02, 50.0])
def test_of_one_that_is_alone_no_more_is_believed_than_a_profile_may_be_wrong(lie):
    wait, tpot = learned(voter(lie))
    assert 0.25 * 0.99 <= min(wait, tpot) <= max(wait, tpot) <= 4.0 * 1.01


def test_where_two_disagree_the_profile_decides():
    assert learned(voter(1.5), voter(40.0)) == pytest.approx((1.5, 1.5), rel=0.05)
    assert learned(voter(0.5), voter(1.5)) == pytest.approx((1.0, 1.0), rel=0.05)


def test_the_first_lessons_of_one_are_no_vote_yet():
    assert learned(voter(3.0, lessons=int(FULL_VOTE / 2) - 1)) == (1.0, 1.0)


def test_a_delay_of_the_path_is_not_shared():
    assert learned(*[voter(1.0, delay_ms=40.0, lessons=2000)] * 3) == pytest.approx(
        (1.0, 1.0), rel=0.05
    )


def test_how_sure_twins_are_is_shared_too():
    twins = Twins()
    twins.learn([voter(1.0, lessons=400)] * 3, RELAX_KEEPS)
    assert wait_errors(twins.start.wait, Z)[2] < 0.6 * wait_errors(profile_start().wait, Z)[2]
    assert ratio_factor(twins.start.ratio, Z) < ratio_factor(profile_start().ratio, Z)


def test_while_nobody_is_learned_of_the_profile_is_believed_by_and_by():
    twins = Twins()
    twins.learn([voter(3.0)] * 3, RELAX_KEEPS)
    seen = [hardware(twins.start)[0]]
    for _ in range(900):
        twins.learn([], RELAX_KEEPS)
        seen.append(hardware(twins.start)[0])
    assert seen == sorted(seen, reverse=True)
    assert max(a / b for a, b in pairwise(seen)) < 1.03
    assert seen[-1] == pytest.approx(1.0, abs=0.02)


def test_nothing_is_told_before_it_makes_a_difference():
    twins = Twins()
    before = twins.start
    assert not twins.learn([], RELAX_KEEPS)
    assert twins.start is before
    assert twins.learn([voter(2.0)], RELAX_KEEPS)
    assert not twins.learn([voter(2.0)], RELAX_KEEPS)


@given(
    st.lists(
        st.tuples(st.floats(0.02, 50.0), st.floats(0.02, 50.0), st.integers(0, 60)), max_size=7
    )
)
def test_what_is_common_lies_within_what_was_said_and_the_profile(said):
    waits, tpots = learned(*[voter(*one) for one in said])
    for common, ratios in ((waits, [one[0] for one in said]), (tpots, [one[1] for one in said])):
        assert min([1.0, *ratios]) * 0.9 <= common <= max([1.0, *ratios]) * 1.1
        assert math.isfinite(common)


# Kinds


def test_twins_serve_the_same_with_the_same_latency_profile():
    profile = token_profile()
    kind = kind_of(endpoint("a", "west", served(profile)))
    dearer = replace(profile, base_w=2.0 * profile.base_w, target_batch=1)
    assert kind == kind_of(endpoint("b", "east", served(dearer), max_in_flight=7))
    slower = replace(profile, tpot_base_ms=1.5 * profile.tpot_base_ms)
    others = [
        endpoint("b", "west", served(slower)),
        endpoint("b", "west", served(profile, "other")),
        endpoint("b", "west", served(profile), served(task_profile(), "image")),
        replace(endpoint("b", "west", served(profile)), emulated=not kind[0]),
    ]
    kinds = {kind, *(kind_of(one) for one in others)}
    assert len(kinds) == len({kind_key(one) for one in kinds}) == 1 + len(others)


# On a board


def fleet_of(*names, model=MODEL):
    return Layout(fleet(*[endpoint(name, "west", model) for name in names]))


def teach(seat, ratio, times=200, delay_ms=0.0):
    for step in range(times):
        prefill_ms = 20.0 + 7.0 * (37 * step % 60)
        seat.wait.observe(delay_ms + ratio * 2.0 * prefill_ms, prefill_ms, prefill_ms)
        seat.tpot_ratio.observe(ratio, 1.0)
    seat.publish_latency()


def near(seat, twin, rel=0.06):
    return seat.latency_errors == tuple(
        pytest.approx(value, rel=rel, abs=0.5) for value in twin.latency_errors
    )


@pytest.mark.parametrize("ratio", [0.7, 1.5])
def test_an_untried_endpoint_looks_as_its_twins_do(ratio):
    board = Board(fleet_of("a", "b", "c"), health_settings(), Z)
    a, b, c = board.seats.values()
    for seat in (a, b):
        teach(seat, ratio)
    board.tick(NOW)
    assert near(c, a)
    live = board.live("llama", "")
    assert live[:, 2] == pytest.approx(live[:, 0], rel=0.06, abs=0.5)


def test_one_of_another_kind_is_no_twin():
    other = served(token_profile(prefill_base_ms=11.0))
    layout = Layout(fleet(endpoint("a", "west", MODEL), endpoint("b", "west", other)))
    board = Board(layout, health_settings(), Z)
    before = board.seats["b"].latency_errors
    teach(board.seats["a"], 2.0)
    board.tick(NOW)
    assert board.seats["b"].latency_errors == before


def test_one_that_a_reload_adds_looks_as_its_twins_do_at_once():
    board = Board(fleet_of("a", "b"), health_settings(), Z)
    for seat in board.seats.values():
        teach(seat, 1.5)
    board.tick(NOW)
    after = Board(fleet_of("a", "b", "c"), health_settings(), Z, board)
    assert near(after.seats["c"], after.seats["a"])


def test_errors_of_a_profile_that_a_reload_replaces_are_forgotten():
    board = Board(fleet_of("a", "b"), health_settings(), Z)
    prior = board.seats["a"].latency_errors
    for seat in board.seats.values():
        teach(seat, 1.5)
    board.tick(NOW)
    right = served(token_profile(tpot_base_ms=9.0))
    after = Board(fleet_of("a", "b", model=right), health_settings(), Z, board)
    assert after.seats["a"].latency_errors == pytest.approx(prior, rel=1e-6, abs=1e-6)


def test_what_one_endpoint_learned_is_not_moved_by_its_twins():
    board = Board(fleet_of("a", "b", "c"), health_settings(), Z)
    a, b, c = board.seats.values()
    teach(a, 1.0)
    teach(b, 1.0)
    teach(c, 40.0)
    before = [seat.latency_errors for seat in (a, b, c)]
    board.tick(NOW)
    assert [seat.latency_errors for seat in (a, b, c)] == before


def test_one_that_is_slow_and_quiet_is_believed_to_be_as_its_twins_are():
    board = Board(fleet_of("a", "b", "c"), health_settings(), Z)
    a, b, c = board.seats.values()
    teach(c, 10.0)
    for second in range(int(QUIET_S) + 600):
        for seat in (a, b):
            teach(seat, 1.5, times=2)
        board.tick(NOW + second)
    assert near(c, a)


def test_one_that_comes_back_looks_as_its_twins_do_behind_its_own_path():
    board = Board(fleet_of("a", "b", "c"), health_settings(), Z)
    a, b, c = board.seats.values()
    for seat in (a, b):
        teach(seat, 1.5)
    teach(c, 0.8, times=1000, delay_ms=30.0)
    path_ms = c.latency_errors.delay_ms
    assert path_ms > 15.0
    c.health.refuse(NOW)
    board.tick(NOW + 1.0)
    c.health.readmit(NOW + 2.0)
    board.tick(NOW + 2.5)
    assert c.latency_errors._replace(delay_ms=0.0) == pytest.approx(
        a.latency_errors._replace(delay_ms=0.0), rel=0.06
    )
    assert c.latency_errors.delay_ms == pytest.approx(path_ms)
    assert not np.isnan(c.wait.state).any()
