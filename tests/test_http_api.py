"""Paths, and the few things that are read in bodies without their being decoded."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import http_api
from router.http_api import api_of, closes_with_usage, is_usage_alone, stated_error, states_usage
from tests.backends.openai import samples as s


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/messages?beta=true", "messages"),
        ("/v1/messages/count_tokens", "other"),
        ("", "other"),
    ],
)
def test_an_api_is_told_by_its_path(path: str, name: str) -> None:
    assert api_of(path).name == name


def test_usage_is_an_object_and_alone_without_choices() -> None:
    assert states_usage(s.USAGE_ALONE) and states_usage(s.START)
    assert not states_usage(s.chunk('"usage":{', usage=None))
    assert is_usage_alone(http_api.CHAT, s.USAGE_ALONE)
    assert not is_usage_alone(http_api.CHAT, s.chunk("a", usage=s.USAGE))
    assert not is_usage_alone(http_api.MESSAGES, s.DELTA)


def test_totals_close_a_stream_in_each_apis_own_way() -> None:
    assert closes_with_usage(http_api.CHAT, s.USAGE_ALONE)
    assert closes_with_usage(http_api.MESSAGES, s.DELTA)
    assert not closes_with_usage(http_api.MESSAGES, s.START)
    assert not closes_with_usage(http_api.MESSAGES, s.data({"type": "x"}, "message_delta"))
    assert not closes_with_usage(http_api.RESPONSES, s.COMPLETED)


@given(st.one_of(st.binary(max_size=60), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(
        st.sampled_from(["error", "message", "code", "type", "object", "detail"]), inner
    ),
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_no_body_breaks_it(body: bytes) -> None:
    found = stated_error(body)
    assert found is None or all(isinstance(word, str) for word in found)


def test_an_event_of_responses_is_an_error_as_it_stands() -> None:
    found = stated_error(b'{"type":"error","code":"x","message":"Too long","param":null}')
    assert found is not None and (found.message, found.code) == ("Too long", "x")


def test_deep_nesting_is_no_error() -> None:
    assert stated_error(b'{"error":' * 20_000 + b"1" + b"}" * 20_000) is None
