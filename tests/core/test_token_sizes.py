"""The size of a token as several endpoints say, which no single one can move."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.token_sizes import LEAST_LESSONS, UNLIKE, TokenSizes, unlike
from router.core.tokens import TokenBytes

HONEST = {"a": 4.0, "b": 4.0, "c": 4.0}
FOUR = TokenBytes(math.log(4.0), 0.1)


def said(rates, times=40, sizes=None, model="llama"):
    """Each endpoint says ``times`` of 100 tokens that they have so many bytes each."""
    sizes = sizes or TokenSizes()
    for _ in range(times):
        for name, rate in rates.items():
            sizes.observe(model, name, 100.0 * rate, 100.0)
    return sizes


def test_three_who_have_said_enough_agree():
    assert said({"a": 4.0, "b": 4.0}).agreed("llama") is None
    assert said(HONEST, times=1).agreed("llama") is None
    assert said(HONEST).agreed("llama").tokens(400.0) == pytest.approx(100.0)
    assert said(HONEST).agreed("other") is None


@pytest.mark.parametrize("rate", [0.01, 1.0, 5.0, 1e5])
def test_one_of_four_moves_nobody_however_much_it_says(rate):
    sizes = said(HONEST)
    said({"liar": rate}, 400, sizes)
    assert sizes.agreed("llama").tokens(400.0) == pytest.approx(100.0)


def test_sizes_that_scatter_are_no_measure():
    sizes = TokenSizes()
    for turn in range(200):
        for name in HONEST:
            sizes.observe("llama", name, 100.0 * (1.0, 4.0, 16.0)[turn % 3], 100.0)
    assert sizes.agreed("llama") is None


def test_what_is_no_size_or_no_count_says_nothing():
    sizes = TokenSizes()
    for size, tokens in ((math.nan, 100.0), (0.0, 100.0), (400.0, math.nan), (400.0, -1.0)):
        for _ in range(50):
            for name in HONEST:
                sizes.observe("llama", name, size, tokens)
    assert sizes.agreed("llama") is None


def test_who_has_said_little_is_new():
    sizes = TokenSizes()
    assert sizes.is_new("llama", "a")
    said({"a": 4.0}, LEAST_LESSONS, sizes)
    assert not sizes.is_new("llama", "a")
    assert sizes.is_new("llama", "b")


def test_models_are_bounded():
    sizes = TokenSizes()
    for number in range(5000):
        sizes.observe(f"m{number}", "a", 400.0, 100.0)
    assert len(sizes._models) <= 1024


@given(st.floats(1.0, 1e6), st.floats(8.0, 1e6))
def test_a_count_is_unlike_where_it_is_off_by_more_than_there_is(tokens, size):
    off = unlike(tokens, size, FOUR)
    by_size = size / 4.0
    if off:
        assert off == (1 if tokens > by_size else -1)
        assert max(tokens / by_size, by_size / tokens) > UNLIKE
    else:
        most = UNLIKE * (1.0 + 1.0 / max(by_size, 1.0))
        assert max(tokens / by_size, by_size / tokens) <= most * (1.0 + 1e-9)


def test_nobody_can_tell_without_a_size():
    assert unlike(1e6, math.nan, FOUR) == unlike(1e6, 0.0, FOUR) == unlike(1e6, 4.0, None) == 0
