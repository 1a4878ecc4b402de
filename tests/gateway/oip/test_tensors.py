"""Where prompts lie in messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router._pb.inference_pb2 import ModelInferRequest
from router.director import NO_PROMPT
from router.gateway.oip.tensors import inline_tensor, prompt_of
from router.gateway.oip.wire import scan

TEXT = b"You are a helpful assistant. " * 40


def message(**contents):
    request = ModelInferRequest(model_name="llama")
    request.inputs.add(name="stream", datatype="BOOL", shape=[1]).contents.bool_contents.append(
        True
    )
    tensor = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    return request.SerializeToString()


def found(data, session=""):
    prompt = prompt_of(data, scan(data).prompt, session)
    return prompt.data[prompt.first : prompt.stop]


def test_the_text_inside_an_input_is_the_prompt():
    assert found(message(bytes_contents=[TEXT])) == TEXT
    assert found(message(bytes_contents=[b"short", TEXT])) == TEXT


def test_token_ids_inside_an_input_begin_alike_where_prompts_do():
    one, other = found(message(int_contents=range(500))), found(message(int_contents=range(700)))
    assert len(one) > 500 and other.startswith(one)


def test_the_length_before_a_text_is_none_of_it():
    request = ModelInferRequest(model_name="llama")
    for tensor in (b"\x01", len(TEXT).to_bytes(4, "little") + TEXT):
        request.raw_input_contents.append(tensor)
    assert found(request.SerializeToString()) == TEXT
    tokens = bytes(range(200))
    other = ModelInferRequest(model_name="llama", raw_input_contents=[tokens])
    assert found(other.SerializeToString()) == tokens


def test_without_a_tensor_there_is_no_prompt_but_the_sessions():
    data = ModelInferRequest(model_name="llama").SerializeToString()
    assert prompt_of(data, scan(data).prompt, "") is NO_PROMPT
    assert prompt_of(data, scan(data).prompt, "s-1").session == "s-1"


@pytest.mark.parametrize("data", [b"\x2a", b"\x2a\xff", b"\x2a\x05\x42\x7f", b"\x2f", b"\x00" * 9])
def test_what_is_no_tensor_is_no_prompt(data):
    assert inline_tensor(data, 0, len(data)) == (0, 0)


@given(st.binary(max_size=80))
def test_any_bytes_are_taken(data):
    first, stop = inline_tensor(data, 0, len(data))
    assert 0 <= first <= stop <= len(data)
