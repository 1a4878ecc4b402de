"""What is kept of what was learned, and what is taken back."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.board import Board
from router.core.latency import FACTOR, LEVEL, SHIFT, WAIT_ERRORS, WaitTracker, is_wait, z_of
from router.core.layout import Layout
from router.core.learned import (
    MOST_LESSONS,
    BytesLearned,
    LengthsLearned,
    all_within,
    is_keepable,
)
from router.core.lengths import LengthModel
from router.core.tokens import UNLEARNED, TokenBytesModel
from router.model import LengthPrior
from tests.factories import PRIOR, endpoint, fleet, health_settings, served, token_profile

Z = z_of(0.95)
ANY = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(ANY, max_size=4))
def test_only_numbers_within_their_ranges_are_taken(values):
    ranges = ((0.0, 1.0), (-2.0, 2.0))
    taken = all_within(values, ranges)
    assert taken == (
        len(values) == 2 and 0.0 <= values[0] <= 1.0 and -2.0 <= values[1] <= 2.0
    )  # fmt: skip


def test_names_that_no_file_could_hold_are_not_kept():
    assert is_keepable("")
    assert is_keepable("acme Übersee")
    assert not is_keepable("a" * 201)
    assert not is_keepable("\udc80")
    assert not is_keepable("a\nb")


# Latency


def board_of(*names, profile=None, z=Z):
    model = served(profile or token_profile())
    return Board(
        Layout(fleet(*[endpoint(name, "west", model) for name in names])), health_settings(), z
    )


def taught(board, ratio=1.5, times=300):
    rng = random.Random(1)
    for seat in board.seats.values():
        for _ in range(times):
            prefill_ms, queue_ms = 20.0 + 300.0 * rng.random(), 50.0 * rng.random()
            actual_ms = 4.0 + ratio * (prefill_ms + 2.0 * queue_ms * rng.random())
            seat.wait.observe(actual_ms, prefill_ms, queue_ms)
            seat.tpot_ratio.observe(ratio * (0.9 + 0.2 * rng.random()), 1.0)
        seat.publish_latency()
    board.tick(0.0)
    return board


def test_latency_errors_go_on_as_if_nothing_had_happened():
    before, after = taught(board_of("a", "b")), board_of("a", "b")
    after.restore(*before.learned())
    for name, seat in before.seats.items():
        assert after.seats[name].latency_errors == seat.latency_errors
    assert (after.live("llama", "") == before.live("llama", "")).all()
    assert after.learned() == before.learned()
    for board in (before, after):
        taught(board, times=50)
    assert after.learned()[0] == before.learned()[0]


def test_an_endpoint_that_is_new_starts_as_those_before_the_restart_did():
    before, after = taught(board_of("a", "b")), board_of("c")
    after.restore(*before.learned())
    assert after.seats["c"].latency_errors.tpot == pytest.approx(
        before.seats["a"].latency_errors.tpot, rel=0.03
    )


def test_errors_of_another_profile_are_not_inherited():
    before, after = taught(board_of("a")), board_of("a", profile=token_profile(tpot_base_ms=9.0))
    fresh = after.seats["a"].latency_errors
    after.restore(*before.learned())
    assert after.seats["a"].latency_errors == fresh


def test_at_another_quantile_the_middle_stays():
    before, after = taught(board_of("a")), board_of("a", z=z_of(0.5))
    after.restore(*before.learned())
    state = after.seats["a"].wait.state
    assert state[SHIFT] == 0.0
    assert state[LEVEL] == before.seats["a"].wait.state[LEVEL]
    assert state[FACTOR] == before.seats["a"].wait.state[FACTOR]


@pytest.mark.parametrize("place", range(WAIT_ERRORS))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, -1e300])
def test_a_state_that_cannot_be_is_left_out(place, value):
    before, after = taught(board_of("a")), board_of("a")
    fresh = after.seats["a"].latency_errors
    (one,), starts = before.learned()
    wait = list(one.wait)
    wait[place] = value
    after.restore([replace(one, wait=tuple(wait))], ())
    assert after.seats["a"].latency_errors == fresh
    after.restore([replace(one, tpot=(value, value))], ())
    after.restore([replace(one, wait_lessons=-1)], ())
    after.restore([replace(one, wait=one.wait[:-1])], [replace(starts[0], tpot=(value, 0.0))])
    assert after.seats["a"].latency_errors == fresh


@given(
    st.lists(st.floats(0.0, 60.0), min_size=WAIT_ERRORS, max_size=WAIT_ERRORS),
    st.lists(
        st.tuples(st.floats(1e-3, 1e9), st.floats(1e-3, 1e9), st.floats(0.0, 1e9)), max_size=20
    ),
)
def test_whatever_is_taken_back_predicts_and_learns_on(state, outcomes):
    if not is_wait(state):
        return
    wait = WaitTracker(Z)
    wait.restore(state, 5, Z)
    for actual_ms, prefill_ms, queue_ms in outcomes:
        wait.observe(actual_ms, prefill_ms, queue_ms)
    assert np.isfinite(wait.state).all()
    assert all(math.isfinite(error) for error in wait.errors())


@given(
    st.lists(
        st.tuples(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6), st.floats(0.0, 1e6), st.booleans()),
        max_size=60,
    )
)
def test_whatever_was_learned_is_taken_back(outcomes):
    wait = WaitTracker(Z)
    for actual_ms, prefill_ms, queue_ms, divides in outcomes:
        wait.observe(actual_ms, prefill_ms, queue_ms, divides)
    assert is_wait(wait.state.tolist())


# Lengths


def lengths_of(**priors):
    return LengthModel(priors or {"llama": PRIOR}, 0.95)


def test_lengths_go_on_by_model_and_tenant():
    before, after = lengths_of(), lengths_of()
    rng = random.Random(1)
    for _ in range(200):
        before.observe("llama", rng.choice(["", "acme"]), 300.0, 20.0 + 100.0 * rng.random())
    after.restore(before.learned())
    for tenant in ("", "acme", "unknown so far"):
        assert after.expect("llama", tenant, math.nan, math.inf) == before.expect(
            "llama", tenant, math.nan, math.inf
        )
    assert after.learned() == before.learned()


def test_what_was_learned_replaces_nothing_of_other_models():
    before = lengths_of()
    before.observe("llama", "", 300.0, 20.0)
    after = lengths_of(other=PRIOR)
    after.restore(before.learned())
    assert after.learned() == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, -41.0, 1e12])
@pytest.mark.parametrize("place", range(5))
def test_lengths_that_cannot_be_are_left_out(place, value):
    before, after = lengths_of(), lengths_of()
    before.observe("llama", "acme", 300.0, 20.0)
    kept = before.learned()
    broken = [
        replace(one, lengths=(*one.lengths[:place], value, *one.lengths[place + 1 :]))
        for one in kept
    ]
    after.restore(broken)
    after.restore([replace(one, lessons=count) for one in kept for count in (0, MOST_LESSONS + 1)])
    after.restore([replace(one, lengths=one.lengths[1:]) for one in kept])
    assert after.learned() == ()


@given(
    st.floats(1.0, 1e6),
    st.lists(st.tuples(st.floats(1.0, 1e8), st.floats(1.0, 1e8)), min_size=1, max_size=60),
)
def test_whatever_lengths_were_learned_are_taken_back(usual, answers):
    before = lengths_of(llama=LengthPrior(usual, usual, 3.0 * usual))
    after = lengths_of(llama=LengthPrior(usual, usual, 3.0 * usual))
    for input_tokens, output_tokens in answers:
        before.observe("llama", "acme", input_tokens, output_tokens)
        before.doubt("llama", "acme")
    after.restore(before.learned())
    assert after.learned() == before.learned()


def test_tenants_beyond_the_bound_are_not_taken_back_and_strange_names_not_kept():
    model = lengths_of()
    model.observe("llama", "a" * 500, 300.0, 20.0)
    assert {one.tenant for one in model.learned()} == {None}
    kept = lengths_of()
    kept.observe("llama", "acme", 300.0, 20.0)
    (one,) = (one for one in kept.learned() if one.tenant is not None)
    model.restore(replace(one, tenant=f"t{number}") for number in range(5000))
    names = [one.tenant for one in model.learned() if one.tenant is not None]
    assert len(names) == 4096
    assert names[-1] == "t4999"


# Bytes of text


def test_bytes_of_a_token_go_on():
    before, after = TokenBytesModel(), TokenBytesModel()
    rng = random.Random(1)
    for _ in range(100):
        before.observe("llama", 500.0 + 300.0 * rng.random(), 100.0)
        before.observe("gone", 500.0, 100.0)
    after.restore(before.learned(), {"llama"})
    assert after.of("llama") == before.of("llama")
    assert after.of("gone") == UNLEARNED
    for model in (before, after):
        model.observe("llama", 900.0, 100.0)
    assert after.of("llama") == before.of("llama")


@given(ANY, ANY, st.integers())
def test_bytes_of_a_token_that_cannot_be_are_left_out(log_median, sd, lessons):
    model = TokenBytesModel()
    model.restore([BytesLearned("llama", log_median, sd, lessons)], {"llama"})
    assert model.of("llama").tokens(1000.0) > 0.0
    model.observe("llama", 400.0, 100.0)
    assert math.isfinite(model.of("llama").tokens(1000.0))


@given(st.builds(LengthsLearned, st.just("llama"), st.none(), st.tuples(*5 * [ANY]), st.integers()))
def test_whatever_lengths_are_taken_back_predict(learned):
    model = lengths_of()
    model.restore([learned])
    assert all(
        math.isfinite(tokens) and tokens >= 0.0
        for tokens in model.expect("llama", "acme", math.nan, 1000.0)
    )
