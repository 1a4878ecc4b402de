"""How long an answer was, by its bytes and by its time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.tokens import (
    PRIOR_BYTES,
    UNLEARNED,
    PromptBytesModel,
    TokenBytes,
    TokenBytesModel,
    estimate_tokens,
    tokens_by_time,
)
from router.model import TokensKind

LEARNED = TokenBytes(math.log(5.0), 0.1)


def estimated(output_bytes=math.nan, learned=UNLEARNED, decode_ms=700.0, most=math.inf, **changes):
    values = {"token_ms": 7.0, "most_decode_ms": decode_ms, **changes}
    return estimate_tokens(output_bytes, learned, decode_ms=decode_ms, most=most, **values)


def test_time_alone_is_an_assumption_with_a_range():
    found = estimated()
    assert (found.tokens, found.kind) == (pytest.approx(100.0), TokensKind.ASSUMED)
    assert found.low == pytest.approx(100.0 / math.exp(1.645 * 0.45), rel=1e-3)
    assert found.high == pytest.approx(100.0 * math.exp(1.645 * 0.45), rel=1e-3)


def test_where_bytes_and_time_agree_the_surer_counts_for_more():
    unsure, sure = estimated(600.0), estimated(600.0, LEARNED)
    assert unsure.kind is sure.kind is TokensKind.ESTIMATED
    assert 100.0 < sure.tokens < 120.0  # 120 by bytes, 100 by time
    assert sure.tokens == pytest.approx(120.0, rel=0.02)
    assert sure.high / sure.low < unsure.high / unsure.low < estimated().high / estimated().low


@pytest.mark.parametrize("output_bytes", [1.0, 50.0, 1e6, 0.0, -1.0, math.nan])
def test_bytes_that_contradict_the_time_are_no_measure(output_bytes):
    assert estimated(output_bytes) == estimated()


def test_an_answer_that_was_held_up_is_as_long_as_its_proven_bytes_say():
    held_up = estimated(500.0, LEARNED, decode_ms=60_000.0)
    assert (held_up.tokens, held_up.kind) == (pytest.approx(100.0), TokensKind.ESTIMATED)
    assert estimated(500.0, decode_ms=60_000.0).kind is TokensKind.ASSUMED
    # But none is made in no time.
    assert estimated(50_000.0, LEARNED).kind is TokensKind.ASSUMED


def test_a_tenth_of_a_second_has_no_five_hundred_tokens():
    assert estimated(50_000.0, decode_ms=110.0).high < 50.0
    assert estimated(2_000.0, decode_ms=110.0).high < 50.0


def test_a_round_trip_that_the_table_overrates_widens_the_range_upwards():
    found = estimated(decode_ms=-5.0, most_decode_ms=70.0)
    assert (found.tokens, found.low) == (1.0, 1.0)
    assert found.high > 10.0


def test_what_the_request_allows_bounds_all_of_it():
    found = estimated(most=16.0)
    assert (found.tokens, found.low, found.high) == (16.0, 16.0, 16.0)


@given(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(math.log(0.25), math.log(1e7)),
    st.floats(0.1, 3.0),
    st.floats(1e-3, 1e4),
    st.floats(-1e7, 1e9),
    st.floats(1.0, 1e6),
)
def test_any_estimate_is_ordered_and_within_its_bounds(size, median, sd, token_ms, decode_ms, most):
    found = estimate_tokens(size, TokenBytes(median, sd), token_ms, decode_ms, decode_ms, most)
    assert 1.0 <= found.low <= found.tokens * (1 + 1e-9)
    assert found.tokens <= found.high * (1 + 1e-9) <= most * (1 + 1e-9)


# What a model's tokens weigh


def learned_from(*pairs):
    model = TokenBytesModel()
    for output_bytes, tokens in pairs:
        model.observe("m", output_bytes, tokens)
    return model.of("m")


def test_before_any_answer_a_token_has_four_bytes():
    assert TokenBytesModel().of("m") == UNLEARNED
    assert math.exp(UNLEARNED.log_median) == pytest.approx(PRIOR_BYTES)


@pytest.mark.parametrize("bytes_per_token", [1.5, 4.0, 9.0, 4096.0])
def test_the_bytes_of_a_token_are_learned(bytes_per_token):
    found = learned_from(*[(bytes_per_token * 100.0, 100.0)] * 400)
    assert math.exp(found.log_median) == pytest.approx(bytes_per_token, rel=0.05)
    assert found.sd == pytest.approx(0.1)


def test_a_few_answers_prove_nothing():
    assert learned_from(*[(500.0, 100.0)] * 5).sd > 0.2 > learned_from(*[(500.0, 100.0)] * 10).sd


def test_answers_of_one_size_whatever_their_tokens_teach_that_bytes_tell_nothing():
    found = learned_from(*[(50.0, 10.0 * 4.0 ** (i % 5)) for i in range(1000)])
    assert found.sd > 1.0


def test_one_answer_in_three_that_lies_moves_little():
    honest, lie = (400.0, 100.0), (1e9, 8.0)
    found = learned_from(*[lie if i % 3 == 0 else honest for i in range(3000)])
    assert math.exp(found.log_median) == pytest.approx(4.0, rel=0.1)


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True),
            st.floats(allow_nan=True, allow_infinity=True),
        ),
        max_size=50,
    )
)
def test_nothing_that_is_seen_takes_it_out_of_its_bounds(pairs):
    found = learned_from(*pairs)
    assert math.log(0.25) <= found.log_median <= math.log(1e7)
    assert 0.1 <= found.sd <= 3.0


def test_short_answers_teach_nothing():
    assert learned_from(*[(100.0, 2.0)] * 50) == UNLEARNED


def test_models_beyond_a_bound_are_forgotten():
    model = TokenBytesModel()
    model.observe("first", 1000.0, 100.0)
    for number in range(4096):
        model.observe(f"m{number}", 1000.0, 100.0)
    assert model.of("first") == UNLEARNED
    assert model.of("m4095") != UNLEARNED


def taught(model, tenant, bytes_per_token, times=50):
    for _ in range(times):
        model.observe("m", tenant, bytes_per_token * 100.0, 100.0)


def bytes_of(model, tenant):
    return math.exp(model.of("m", tenant).log_median)


def test_what_one_tenant_asks_moves_no_other():
    model = PromptBytesModel()
    taught(model, "texts", 4.0)
    taught(model, "codes", 2.0, times=1000)
    assert bytes_of(model, "codes") == pytest.approx(2.0, rel=0.05)
    assert bytes_of(model, "texts") == pytest.approx(4.0, rel=0.05)
    # One that nobody knows starts between what the first of all were like.
    assert 2.0 <= bytes_of(model, "new") <= 4.1


def test_many_tenants_teach_what_a_new_one_starts_from():
    model = PromptBytesModel()
    for number in range(100):
        taught(model, f"t{number}", 2.0, times=4)
    assert bytes_of(model, "new") == pytest.approx(2.0, rel=0.05)


def test_without_tenants_all_that_was_learned_is_kept():
    model, again = PromptBytesModel(), PromptBytesModel()
    taught(model, "", 3.0)
    again.restore(model.learned(), ["m"])
    assert bytes_of(again, "") == bytes_of(again, "new") == bytes_of(model, "")


def test_tenants_beyond_a_bound_are_forgotten():
    model = PromptBytesModel()
    for number in range(4098):
        model.observe("m", f"t{number}", 200.0 if number else 800.0, 100.0)
    assert model.of("m", "t0") == model.of("m", "never seen")
    assert len(model._lessons) == 4096


def test_of_what_was_cut_short_time_alone_tells_and_it_may_have_been_none():
    found = tokens_by_time(7.0, 700.0, 770.0, math.inf)
    assert (found.tokens, found.low, found.kind) == (pytest.approx(100.0), 0.0, TokensKind.ASSUMED)
    assert found.high == pytest.approx(110.0 * math.exp(1.645 * 0.45), rel=1e-3)
    assert tokens_by_time(7.0, -5.0, 0.0, math.inf)[:3] == (0.0, 0.0, 0.0)
    assert tokens_by_time(7.0, 700.0, 770.0, 40.0)[:3] == (40.0, 0.0, 40.0)
