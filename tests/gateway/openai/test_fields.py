"""What is read of JSON bodies."""

import json
import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import MalformedRequestError
from router.gateway.openai.fields import read_json
from router.http_api import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, OTHER, RESPONSES
from router.model import UNLIMITED

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def read(api=CHAT, **changes):
    return read_json(api, json.dumps({"model": "m", **changes}).encode())


@given(st.dictionaries(st.text(max_size=12), VALUES), VALUES)
def test_whatever_else_a_body_holds_its_model_is_found(others, messages):
    asked = read(**{**others, "messages": messages, "model": "m"})
    assert asked.model == "m"
    whole = json.dumps(messages).encode()
    if messages is None:
        assert asked.prompt_bytes == 0
    elif math.isnan(asked.input_tokens):
        assert bytes(asked.prompt.data) == whole and asked.prompt_bytes in (0, len(whole))


@given(st.binary(max_size=200))
def test_bytes_are_a_request_or_a_clear_error(body):
    try:
        read_json(CHAT, body)
    except MalformedRequestError as error:
        assert str(error)


def test_an_escaped_name_is_the_same_name():
    assert read_json(CHAT, rb'{"m\u006fdel":"m"}').model == "m"
    with pytest.raises(MalformedRequestError, match="twice"):
        read_json(CHAT, rb'{"m\u006fdel":"m","mode\u006c":"n"}')


def test_names_of_no_use_are_passed_over_and_not_kept():
    names = b",".join(b'"k%06d":1' % number for number in range(100_000))
    body = b'{"model":"m",' + names + b"}"
    tracemalloc.start()
    try:
        assert read_json(CHAT, body).model == "m"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize("name", ["Model", "MODEL", "moDel", "Stream", "\u017ftream"])
def test_a_name_in_another_case_is_refused(name):
    """Some servers take it for the same, and so for the model or the form of the answer."""
    for other in (name, "".join(f"\\u{ord(letter):04x}" for letter in name)):
        with pytest.raises(MalformedRequestError, match="small letters"):
            read_json(CHAT, f'{{"model":"m","{other}":"n"}}'.encode())
    assert read(tools=[{name: "n"}], Models="o").model == "m"


@pytest.mark.parametrize("value", [1, 0, "true", "false", "yes", "on", [], {}, 1.5])
def test_whether_to_stream_is_said_in_one_way(value):
    """Servers that coerce take these for true, and would be blamed for their answers."""
    for api in (CHAT, COMPLETIONS, RESPONSES, MESSAGES):
        with pytest.raises(MalformedRequestError, match="stream: give true or false"):
            read(api, stream=value)
    assert not read(OTHER, stream=value).streams
    assert read(stream=True).streams
    assert not any(read(**say).streams for say in ({}, {"stream": False}, {"stream": None}))


def test_other_objects_may_name_models_of_their_own():
    assert read(tools=[{"model": "n"}], metadata={"model": "o"}).model == "m"


@pytest.mark.parametrize(
    ("api", "fields", "most"),
    [
        (CHAT, {"max_tokens": 8}, 8.0),
        (CHAT, {"max_tokens": 8, "max_completion_tokens": 4}, 4.0),
        (CHAT, {"max_tokens": 8, "n": 3}, 24.0),
        (CHAT, {"max_output_tokens": 8}, UNLIMITED),
        (RESPONSES, {"max_output_tokens": 8}, 8.0),
        (MESSAGES, {"max_tokens": 8}, 8.0),
        (CHAT, {"max_tokens": None}, UNLIMITED),
        (CHAT, {"max_tokens": "many"}, UNLIMITED),
        (CHAT, {"max_tokens": -1}, UNLIMITED),
        (CHAT, {"n": 3}, UNLIMITED),
        (EMBEDDINGS, {"max_tokens": 8}, 1.0),
    ],
)
def test_what_limits_an_answer(api, fields, most):
    assert read(api, **fields).max_output_tokens == most


def test_an_instruction_is_part_of_the_prompt():
    asked = read(MESSAGES, system="You are", messages=[])
    assert bytes(asked.prompt.data) == b'"You are"[]'
    assert asked.prompt_bytes == 11


@pytest.mark.parametrize(
    "content",
    [
        {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        {"type": "image", "source": {"type": "base64", "data": "BBBB"}},
        {"type": "input_audio", "input_audio": {"data": "CCCC"}},
        {"type": "file", "file": {"file_id": "f-1"}},
        {"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}},
    ],
    ids=lambda content: content["type"],
)
def test_a_prompt_that_is_more_than_text_is_not_sized(content):
    text = {"type": "text", "text": "What is this?"}
    for messages in ([{"role": "user", "content": [text, content]}], [{"content": [content] * 9}]):
        asked = read(messages=messages)
        assert asked.prompt_bytes == 0 and len(asked.prompt.data) > 0


def test_a_text_about_pictures_is_text():
    said = json.dumps([{"type": "image_url"}])
    asked = read(messages=[{"role": "user", "content": said}])
    assert asked.prompt_bytes == len(json.dumps([{"role": "user", "content": said}]))


def test_a_long_prompt_is_told_by_its_ends():
    picture = {"type": "image_url", "image_url": {"url": "https://a/b.png"}}
    filler = {"type": "text", "text": "x" * 2**21}
    for content in ([picture, filler], [filler, picture]):
        assert read(messages=[{"role": "user", "content": content}]).prompt_bytes == 0
    assert read(messages=[{"role": "user", "content": [filler]}]).prompt_bytes > 2**21


def test_a_prompt_of_token_ids_is_counted():
    assert read(COMPLETIONS, prompt=[1, 22, 333]).input_tokens == 3.0
    # Of several each has to fit, so their sum is an estimate of the work alone.
    for several in ([[1, 2], [3]], [[333333, 444444], [555555]]):
        asked = read(EMBEDDINGS, input=several)
        assert math.isnan(asked.input_tokens) and asked.prompt_bytes == 12
    assert math.isnan(read(COMPLETIONS, prompt="1, 2").input_tokens)
    assert math.isnan(read(EMBEDDINGS, input=["1", "2"]).input_tokens)
    assert math.isnan(read(COMPLETIONS, prompt=[]).input_tokens)


@pytest.mark.parametrize(("store", "keeps"), [(True, True), (None, True), (False, False)])
def test_a_response_is_kept_unless_it_says_otherwise(store, keeps):
    assert read(RESPONSES, store=store).keeps_state is keeps
    assert not read(CHAT, store=store).keeps_state


def test_what_goes_on_from_a_response_names_it():
    assert read(RESPONSES, previous_response_id="resp_1").previous == "resp_1"
    assert read(RESPONSES, previous_response_id=None).previous == ""
    assert read(RESPONSES, previous_response_id=7).previous == ""


@pytest.mark.parametrize(
    ("given", "found"), [("c-1", "c-1"), ({"id": "c-2"}, "c-2"), (None, ""), ({"x": 1}, "")]
)
def test_a_conversation_is_named_alone_or_in_an_object(given, found):
    assert read(RESPONSES, conversation=given).conversation == found


@pytest.mark.parametrize("geo", [{"a": 1}, ["us"], 5, True, ""])
def test_a_place_that_cannot_be_read_lifts_no_restriction(geo):
    with pytest.raises(MalformedRequestError, match="inference_geo"):
        read(inference_geo=geo)


@pytest.mark.parametrize(("geo", "read_as"), [("us", "us"), ("GLOBAL", "GLOBAL"), (None, "")])
def test_a_place_is_read_as_it_stands(geo, read_as):
    assert read(inference_geo=geo).geo == read_as


def test_a_salt_goes_with_the_prompt_that_it_keeps_apart():
    assert read(messages=[]).prompt.salt == read(messages=[], cache_salt=None).prompt.salt == b""
    assert read(messages=[], cache_salt="mine").prompt.salt == b'"mine"'
    assert len(read(messages=[], cache_salt="x" * 100_000).prompt.salt) == 256
    assert read(messages=[], cache_salt={"odd": 1}).prompt.salt
