"""Bodies that are changed in their bytes, against the same change of what they mean."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import MalformedRequestError
from router.gateway.openai.rewriting import (
    asking_for_usage,
    asks_for_usage,
    with_energy,
    with_model,
    without_priority,
)
from tests.examples import examples
from tests.gateway.openai.test_fields import VALUES

BODIES = st.dictionaries(st.text(max_size=12), VALUES, max_size=5)


def told(body):
    return json.loads(body)


@settings(max_examples=examples(40))
@given(BODIES, st.sampled_from([None, 2]))
def test_usage_is_asked_for_and_all_else_stays(others, indent):
    others.pop("stream_options", None)
    body = json.dumps({"model": "m", **others}, indent=indent).encode()
    changed = asking_for_usage(body, b"")
    assert told(changed) == {**told(body), "stream_options": {"include_usage": True}}
    assert changed.replace(b'"stream_options":{"include_usage":true},', b"", 1) == body


@settings(max_examples=examples(40))
@given(BODIES, st.dictionaries(st.text(max_size=8), VALUES, max_size=3) | st.none())
def test_other_options_stay(others, options):
    body = json.dumps({**others, "stream_options": options, "model": "m"}).encode()
    changed = asking_for_usage(body, json.dumps(options).encode())
    if changed is None:
        # Another field of that name lies somewhere within.
        assert json.dumps(others).count('"stream_options"') > 0
        return
    expected = {**(options or {}), "include_usage": True}
    assert told(changed) == {**told(body), "stream_options": expected}


@pytest.mark.parametrize("options", [b"7", b'"x"', b"[]", b"true"])
def test_options_that_are_none_stay_for_the_server_to_refuse(options):
    assert asking_for_usage(b'{"stream_options":' + options + b"}", options) is None


def test_numbers_of_other_options_stay_as_they_stand():
    options = b'{"a":1e999,"b":0.10000000000000001,"include_usage":false}'
    changed = asking_for_usage(b'{"stream_options":' + options + b"}", options)
    asked = options.replace(b"false", b"true")
    assert changed == b'{"stream_options":' + asked + b"}"


@pytest.mark.parametrize(
    ("options", "asks"),
    [
        (b"", False), (b"null", False), (b"[]", False), (b"{", False),
        (b'{"include_usage":true}', True), (b'{"include_usage":false}', False),
        (b'{"include_usage":null}', False), (b'{"include_usage":1}', True),
        (b'{"include_usage":"yes"}', True), (b'{"continuous_usage_stats":true}', True),
        (b'{"continuous_usage_stats":true,"include_usage":false}', False),
    ],
)  # fmt: skip
def test_who_asks(options, asks):
    assert asks_for_usage(options) is asks


@settings(max_examples=examples(40))
@given(BODIES, st.integers(-9, 9), st.booleans(), st.sampled_from([None, 1]))
def test_priority_is_taken_out_and_all_else_stays(others, value, first, indent):
    others.pop("priority", None)
    pairs = {"priority": value, **others} if first else {**others, "priority": value}
    body = json.dumps(pairs, indent=indent).encode()
    assert told(without_priority(body, str(value).encode())) == others


def test_of_several_priorities_the_outermost_is_taken_out():
    inner = {"tools": [{"priority": 5}, {"priority": {"type": "string"}}]}
    for pairs in ({**inner, "priority": 5}, {"priority": 5, **inner}):
        body = json.dumps(pairs).encode()
        assert told(without_priority(body, b"5")) == inner
    assert without_priority(json.dumps(inner).encode(), b"7") is None


def test_a_name_inside_a_string_is_none():
    body = rb'{"messages":"say \"priority\": 5","priority":5}'
    assert told(without_priority(body, b"5")) == {"messages": 'say "priority": 5'}


@pytest.mark.parametrize("usage", [b"{}", b'{"total_tokens":7}', b'{ "a": {"b": 1} }'])
def test_energy_joins_usage(usage):
    answer = b'{"usage":' + usage + b',"id":"x"}'
    changed = with_energy(answer, usage, b'{"joules":1.0}')
    assert told(changed) == {"id": "x", "usage": {**told(usage), "energy": {"joules": 1.0}}}


def test_energy_takes_the_place_of_what_the_server_says():
    usage = b'{"total_tokens":7,"energy":{"joules":9}}'
    changed = with_energy(b'{"usage":' + usage + b"}", usage, b'{"joules":1.0}')
    assert changed.count(b'"energy"') == 1
    assert told(changed)["usage"] == {"total_tokens": 7, "energy": {"joules": 1.0}}


def test_other_figures_of_usage_stay_as_they_stand():
    usage = b'{"a":0.10000000000000001,"energy":{"joules":9},"b":1e999}'
    changed = with_energy(b'{"usage":' + usage + b"}", usage, b'{"joules":1.0}')
    assert changed == b'{"usage":' + usage.replace(b":9}", b":1.0}") + b"}"


def test_an_object_like_it_is_not_taken_for_usage():
    answer = b'{"response":{"usage":{},"metadata":{}}}'
    changed = with_energy(answer, b"{}", b'{"joules":1.0}')
    assert told(changed)["response"] == {"usage": {"energy": {"joules": 1.0}}, "metadata": {}}


def test_energy_joins_no_usage_that_is_not_there():
    assert with_energy(b'{"usage":null}', b"null", b"{}") is None
    assert with_energy(b"{}", b'{"a":1}', b"{}") is None


@settings(max_examples=examples(80))
@given(
    st.dictionaries(
        st.text(max_size=12) | st.just("x"), VALUES | st.just({"model": "old"}), max_size=4
    ),
    st.sampled_from([None, 2]),
    st.booleans(),
    st.text(min_size=1, max_size=8),
)
def test_another_model_is_named_and_all_else_stays(others, indent, first, name):
    others.pop("model", None)
    fields = {"model": "old", **others} if first else {**others, "model": "old"}
    body = json.dumps(fields, indent=indent).encode()
    changed = with_model(body, name)
    assert told(changed) == {**fields, "model": name}
    assert len(changed) - len(body) == len(json.dumps(name, ensure_ascii=False).encode()) - 5


@pytest.mark.parametrize(
    "body",
    [
        b'{"mod\\u0065l":"old"}',
        b'{"mod\\u0065l":"old","x":{"model":"old"}}',
        b'{"x":["{\\"model\\":\\"old\\"}"],"model" : "old"}',
        b'{"x":{"model":"old"},"y":{"model":"old"},"model":"old"}',
        b'{"model":"first","model":"old"}',
        b'{"a":"model","model":"old"}',
    ],
)
def test_a_name_that_is_written_oddly_is_found(body):
    assert told(with_model(body, "new"))["model"] == "new"


def test_a_body_without_a_model_is_none():
    with pytest.raises(MalformedRequestError, match="cannot be told"):
        with_model(b'{"x":{"model":"old"}}', "new")
