"""Calls that ask the same have one fingerprint."""

import pytest

from router.director.call import _END_BYTES, Call, fingerprint
from tests.factories import request

LONG = bytes(range(256)) * 1024


def of(payload=b"{}", metadata=(), **changes):
    return fingerprint(Call(request(**changes), payload, metadata, None))


def test_what_does_not_change_the_answer_does_not_change_it():
    fields = ((":path", "/v1/x"), ("authorization", "a"))
    same = (*fields, ("x-request-id", "2"), ("x-stainless-retry-count", "1"))
    assert of(b"{}", fields) == of(bytearray(b"{}"), same)
    assert of(client_retries=2) == of()
    assert of(LONG) == of(memoryview(LONG))


@pytest.mark.parametrize("changes", [
    {"payload": b"{ }"}, {"payload": b""}, {"model": "other"}, {"version": "2"}, {"tenant": "t"},
    {"metadata": ((":path", "/v1/x"),)}, {"metadata": (("x-api-key", "k"),)},
    {"metadata": (("authorization", b"a"),)}, {"metadata": (("authorization", "a"),)},
])  # fmt: skip
def test_what_may_change_the_answer_changes_it(changes):
    assert of(**changes) != of()


def test_of_a_long_request_its_length_and_both_ends_count():
    assert of(b"x" + LONG[1:]) != of(LONG)
    assert of(LONG[:-1] + b"x") != of(LONG)
    assert of(LONG + b"x") != of(LONG)
    assert len(LONG) > 2 * _END_BYTES
