"""What a server's answers mean, and what is no answer at all."""

from __future__ import annotations

import math
from typing import Any

import pytest

from router.state.redis.answers import MAX_VALUE_BYTES, number_of, room_of, value_of
from router.state.redis.failures import UnexpectedAnswerError

STRANGE = [None, 5, 1.5, math.nan, True, "text", {b"a": b"b"}, {1}, [b"a", b"b", b"c"]]


@pytest.mark.parametrize("answer", [*STRANGE, [b"a"], []])
def test_a_value_is_bytes(answer: Any) -> None:
    with pytest.raises(UnexpectedAnswerError):
        value_of(answer)


def test_a_value_that_nobody_put_is_none() -> None:
    assert value_of(b"1abc") == b"abc"
    for other in (b"", b"2abc", b"1" * (MAX_VALUE_BYTES + 2)):
        assert value_of(other) is None


@pytest.mark.parametrize("answer", [*STRANGE, [b"a"], b"", b"much", b"1.5"])
def test_a_number_is_digits(answer: Any) -> None:
    with pytest.raises(UnexpectedAnswerError):
        number_of(answer)
    assert number_of(b"-12345678901234567890") == -12345678901234567890


@pytest.mark.parametrize("answer", [*STRANGE, b"abc", [b"a"], [1], [1, 2], [b"a", None]])
def test_a_room_is_rows_or_their_size(answer: Any) -> None:
    with pytest.raises(UnexpectedAnswerError):
        room_of(answer)
    assert room_of([b"17"]) == 17
    assert room_of([b"me", b"99:a:b", b"you", b"99:"]) == {"me": b"a:b", "you": b""}


def test_rows_that_no_gateway_can_have_written_are_passed_over() -> None:
    large = b"9:" + bytes(2 * MAX_VALUE_BYTES)
    assert room_of([b"\xff", b"9:a", b"large", large, b"me", b"9:b"]) == {"me": b"b"}
