"""What a token profile says of an iteration: SCIENCE, 1b, by hand."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model import UNBURDENED, Provenance
from tests.factories import endpoint, token_profile

# 6 + 0.1 b + 0.001 C ms, and of prompts 1.5 a piece, 0.05 a token and 0.00002 a pair of tokens.
PROFILE = token_profile(
    tpot_ms_per_cached_token=1e-3, prefill_ms_per_piece=1.5, prefill_ms_per_token2=2e-5
)
LENGTHS = st.floats(0.0, 1e6)


def piece_ms(tokens, before):
    """e + c k + a k (p + k / 2)"""
    return 1.5 + 0.05 * tokens + 2e-5 * tokens * (before + tokens / 2.0)


def test_an_iteration_is_the_sum_of_its_parts():
    assert PROFILE.tpot_ms(0.0) == 6.0
    assert PROFILE.tpot_ms(10.0) == pytest.approx(7.0)
    assert PROFILE.tpot_ms(10.0, 5000.0) == pytest.approx(12.0)
    assert PROFILE.tpot_ms(10.0, 5000.0, 3.0) == pytest.approx(15.0)


def test_a_prompt_takes_its_piece_its_tokens_and_their_pairs():
    assert PROFILE.prompt_ms(1000.0) == pytest.approx(1.5 + 50.0 + 10.0)
    assert PROFILE.prompt_ms(1000.0) == pytest.approx(piece_ms(1000.0, 0.0))
    # As many tokens as n* = c / a = 2,500: their pairs take half as long as they do.
    assert PROFILE.prompt_ms(2500.0) == pytest.approx(1.5 + 125.0 + 62.5)


def test_a_lone_prompt_also_waits_for_the_fixed_time_of_its_iteration():
    assert PROFILE.lone_ttft_ms(1000.0) == pytest.approx(10.0 + 6.0 + 61.5)
    assert PROFILE.lone_ttft_ms(0.0) == pytest.approx(10.0 + 6.0 + 1.5)


def test_a_profile_that_says_nothing_of_them_has_no_pieces_pairs_and_cached_tokens():
    plain = token_profile()
    assert plain.prompt_ms(0.0) == 0.0
    assert plain.prompt_ms(1000.0) == pytest.approx(50.0)
    assert plain.tpot_ms(10.0, 1e6) == plain.tpot_ms(10.0)
    assert math.isnan(plain.prefill_w_low)
    assert math.isnan(plain.prefill_w_high)


@given(LENGTHS, LENGTHS)
def test_a_prompt_in_two_pieces_takes_one_piece_more_and_no_less(first, second):
    """However it is cut, every pair of tokens is met once."""
    whole = PROFILE.prompt_ms(first + second)
    cut = piece_ms(first, 0.0) + piece_ms(second, first)
    assert cut == pytest.approx(whole + 1.5, rel=1e-9)


def test_a_prompt_in_any_pieces_takes_as_long_but_for_their_number():
    rng, before, total = random.Random(3), 0.0, 0.0
    for count in range(1, 40):
        tokens = float(rng.randrange(1, 600))
        total += piece_ms(tokens, before)
        before += tokens
        assert total == pytest.approx(PROFILE.prompt_ms(before) + 1.5 * (count - 1))


@given(LENGTHS, st.floats(0.0, 1.0))
def test_a_warm_prefix_saves_what_it_would_take_alone(tokens, part):
    """c m + a m^2 / 2 of m tokens that are cached."""
    warm = tokens * part
    saved = PROFILE.prompt_ms(tokens) - piece_ms(tokens - warm, warm)
    assert saved == pytest.approx(0.05 * warm + 1e-5 * warm**2, rel=1e-6, abs=1e-6)


@given(LENGTHS, LENGTHS)
def test_longer_prompts_never_take_less(one, more):
    assert PROFILE.prompt_ms(one + more) >= PROFILE.prompt_ms(one)
    assert PROFILE.lone_ttft_ms(one) > PROFILE.prompt_ms(one)


def test_nothing_adds_nothing_and_bears_all():
    assert (0.0, 0.0, 0.0, math.inf, 0.0) == UNBURDENED


@pytest.mark.parametrize(
    ("said", "on", "emulated", "kind"),
    [
        (Provenance.MEASURED, "", False, Provenance.PROFILE),
        (Provenance.ESTIMATED, "", False, Provenance.ESTIMATED),
        (Provenance.CALIBRATED, "west-0", False, Provenance.CALIBRATED),
        # Of another machine, if of its kind.
        (Provenance.CALIBRATED, "west-1", False, Provenance.PROFILE),
        (Provenance.CALIBRATED, "west-0", True, Provenance.EMULATED),
    ],
)
def test_joules_are_known_as_the_profile_is_of_that_endpoint(said, on, emulated, kind):
    profile = token_profile(provenance=said, calibrated_on=on)
    assert endpoint("west-0", emulated=emulated).kind_by(profile) is kind
