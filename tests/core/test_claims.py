import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core import claims
from router.model import Request

anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@given(anything)
def test_a_count_is_within_its_bounds_or_none_at_all(value):
    count = claims.tokens(value)
    assert math.isnan(count) or (1.0 <= count <= claims.MAX_TOKENS and count == value)


@pytest.mark.parametrize(
    "value", [0, -1, 0.999, 1e-300, 1e8 + 1, 2**64 - 1, 9e18, 1e308, math.inf, math.nan, True, "7"]
)
def test_what_no_request_can_have_is_no_count(value):
    assert math.isnan(claims.tokens(value))


@given(st.floats())
def test_a_budget_is_within_its_bounds_or_none_at_all(value):
    budget_ms = claims.budget_ms(value)
    assert math.isnan(budget_ms) or 0.0 < budget_ms == value <= claims.MAX_BUDGET_MS


@pytest.mark.parametrize(
    ("input_tokens", "payload_bytes", "fits"),
    [
        (math.nan, 60, True), (10.0, 60, True), (60.0, 60, True), (8182.0, 60, False),
        (1.0, 4096, True), (1.0, 4097, False), (576.0, 1_350_000, True),
    ],
)  # fmt: skip
def test_a_prompt_has_at_least_a_byte_a_token_and_not_megabytes(input_tokens, payload_bytes, fits):
    request = Request("m", input_tokens=input_tokens, payload_bytes=payload_bytes)
    assert claims.fits_payload(request) == fits


@given(st.floats(), st.floats())
def test_both_counts_are_what_can_be_or_say_nothing(said_input, said_limit):
    given_input, limit, ignored = claims.counts(said_input, said_limit)
    assert math.isnan(given_input) or 1.0 <= given_input <= claims.MAX_TOKENS
    assert limit == math.inf or 1.0 <= limit <= claims.MAX_TOKENS
    odd_input = not math.isnan(said_input) and given_input != said_input
    assert (claims.INPUT_TOKENS_IGNORED in ignored) == odd_input
    assert (claims.OUTPUT_LIMIT_IGNORED in ignored) == (limit != said_limit)


def test_what_was_ignored_before_is_said_once():
    flags = (claims.INPUT_TOKENS_IGNORED,)
    assert claims.counts(1e300, 5.0, flags)[1:] == (5.0, flags)
