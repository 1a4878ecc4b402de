"""Answers that say which service tier they had."""

import json

import pytest

from router.gateway.openai.answering import event_with_tier

CHUNK = b'data: {"id":"c","choices":[],"usage":{"x":1.50}}\n\n'


def test_every_event_with_a_place_for_it_says_so():
    events = event_with_tier(CHUNK + b": ping\n\n" + CHUNK + b"data: [DONE]\n\n", "flex")
    told = [json.loads(line[6:]) for line in events.splitlines() if line.startswith(b"data: {")]
    assert [one["service_tier"] for one in told] == ["flex", "flex"]
    assert events.endswith(b"data: [DONE]\n\n") and b": ping\n\n" in events
    # What a server wrote stands, digit for digit.
    assert events.count(b"1.50") == 2


def test_a_server_s_own_word_is_replaced():
    events = event_with_tier(b'data: {"choices":[],"service_tier":null}\n\n', "default")
    assert events == b'data: {"choices":[],"service_tier":"default"}\n\n'


def test_of_responses_the_response_says_so():
    event = b'event: response.created\ndata: {"type":"response.created","response":{"id":"r"}}\n\n'
    told = event_with_tier(event, "flex")
    assert b'"response":{"id":"r","service_tier":"flex"}' in told
    assert told.startswith(b"event: response.created\n")


@pytest.mark.parametrize(
    "event", [b"", b"data: [DONE]\n\n", b'data: {"delta":"x"}\n\n', b"data: {broken\n\n",
              b'data: {"response":3}\n\n'],
)  # fmt: skip
def test_what_has_no_place_for_it_stays(event):
    assert event_with_tier(event, "flex") == event
