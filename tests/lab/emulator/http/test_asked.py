import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.http_api import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from router.lab.emulator.http.asked import inputs_of, parse, read
from router.lab.emulator.http.refusals import ErrorAnswer

HELLO = [{"role": "user", "content": "hello world"}]


def chat(**fields):
    return read(CHAT, {"model": "llama", "messages": HELLO, **fields})


def test_counts_that_are_given_are_taken():
    work = chat(input_tokens=0, output_tokens=7, max_tokens=9, stream_every=3).work
    assert work[:4] == (0.0, 7.0, 9.0, 3.0)


def test_the_prompt_is_counted_where_no_count_is_given():
    work = chat().work
    assert work.input_tokens == math.ceil(len("user: hello world\n") / 4)
    assert math.isnan(work.output_tokens) and work.max_tokens == math.inf


def test_the_smaller_of_two_limits_counts():
    assert chat(max_tokens=9, max_completion_tokens=5).work.max_tokens == 5.0


@pytest.mark.parametrize("content", ["hello world", [{"type": "text", "text": "hello world"}]])
def test_text_is_read_in_parts_or_whole_and_pictures_count_nothing(content):
    picture = {"type": "image_url", "image_url": {"url": "data:," + "x" * 1000}}
    parts = [*content, picture] if isinstance(content, list) else content
    assert chat(messages=[{"role": "user", "content": parts}]).said == b"user: hello world\n"


def test_tools_and_instructions_come_before_the_conversation():
    system = "You are a helpful assistant. " * 40
    one = read(RESPONSES, {"model": "m", "instructions": system, "input": "a" * 600})
    other = read(RESPONSES, {"model": "m", "instructions": system, "input": HELLO}, b"b" * 900)
    assert one.said == b"a" * 600
    same = len(system) // 512
    assert one.work.chain[:same].tolist() == other.work.chain[:same].tolist()
    assert not set(one.work.chain[same:].tolist()) & set(other.work.chain[same:].tolist())
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"x" * 400: 1}}}]
    assert chat(tools=tools).work.input_tokens > 100 + chat().work.input_tokens


@pytest.mark.parametrize(
    ("value", "sizes"),
    [("abc", [3]), ([1, 2, -3], [12]), (["abc", "d"], [3, 1]), ([[1, 2], [3]], [8, 4])],
)
def test_raw_prompts_are_text_or_tokens_or_a_list_of_either(value, sizes):
    assert [len(one) for one in inputs_of(value, "input")] == sizes


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(ErrorAnswer) as refused:
        parse(data)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("api", "fields", "param"),
    [
        (CHAT, {"model": None}, "model"),
        (CHAT, {"model": 3}, "model"),
        (CHAT, {"messages": None}, "messages"),
        (CHAT, {"messages": "hello"}, "messages"),
        (CHAT, {"n": 2}, "n"),
        (CHAT, {"max_tokens": 0}, "max_tokens"),
        (CHAT, {"max_tokens": 1.5}, "max_tokens"),
        (CHAT, {"max_tokens": "many"}, "max_tokens"),
        (CHAT, {"max_completion_tokens": True}, "max_completion_tokens"),
        (CHAT, {"max_tokens": 10**400}, "max_tokens"),
        (CHAT, {"output_tokens": 0}, "output_tokens"),
        (CHAT, {"input_tokens": -1}, "input_tokens"),
        (CHAT, {"stream_every": 0}, "stream_every"),
        (CHAT, {"stream": "yes"}, "stream"),
        (CHAT, {"stream_options": {"include_usage": True}}, "stream_options"),
        (CHAT, {"stream": True, "stream_options": []}, "stream_options"),
        (CHAT, {"stream": True, "stream_options": {"include_usage": 1}}, "include_usage"),
        (MESSAGES, {}, "max_tokens"),
        (COMPLETIONS, {"prompt": ["a", "b"]}, "prompt"),
        (COMPLETIONS, {"prompt": {"a": 1}}, "prompt"),
        (EMBEDDINGS, {"input": []}, "input"),
        (EMBEDDINGS, {"input": [1, "a"]}, "input"),
        (RESPONSES, {"input": 3}, "input"),
        (
            RESPONSES,
            {"input": "a", "stream": True, "stream_options": {"include_usage": True}},
            "stream_options.include_usage",
        ),
    ],
)
def test_unusable_fields_are_named(api, fields, param):
    with pytest.raises(ErrorAnswer) as refused:
        read(api, {"model": "llama", "messages": HELLO, **fields})
    assert (refused.value.status, refused.value.param) == (400, param)


def test_a_prompt_that_is_nested_too_deeply_is_refused():
    deep = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(ErrorAnswer, match="deep"):
        chat(messages=deep)


TEXTS = st.sampled_from(["", "a", "\ud800", "role", "text", "content", "output"])
JSON = st.recursive(
    st.sampled_from([None, True, -1, 3, 2**70, 0.5, 1e300]) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["messages", "prompt", "input", "instructions", "system", "max_tokens", "stream", "n", "tools",
     "stream_options", "output_tokens", "input_tokens", "stream_every"]
)  # fmt: skip


@given(
    st.sampled_from([CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES]),
    st.dictionaries(FIELDS, JSON),
)
def test_whatever_is_asked_is_read_or_refused(api, fields):
    try:
        work = read(api, {"model": "m", **fields}).work
    except ErrorAnswer as refused:
        assert refused.status == 400
    else:
        assert 0 <= work.input_tokens <= 10**9
