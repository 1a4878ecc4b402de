"""Whether an answer is one, and its size, without its decoding."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router._pb import inference_pb2 as pb
from router.errors import UpstreamFaultError, UpstreamInternalError
from router.load.answers import (
    MAX_FIELDS,
    ServerReports,
    failure_in_stream,
    failure_of,
    size_of,
)
from router.load.orca import NOTHING


def answer(*raw: bytes, inline: tuple[bytes, ...] = (), **parameters: object):
    message = pb.ModelInferResponse(model_name="llama", model_version="1", id="r1")
    for name, value in parameters.items():
        kind = {int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
        setattr(message.parameters[name], kind, value)
    for tensor in raw:
        message.outputs.add(name="text_output", datatype="BYTES", shape=[1])
        message.raw_output_contents.append(tensor)
    for tensor in inline:
        output = message.outputs.add(name="text_output", datatype="BYTES", shape=[1])
        output.contents.bytes_contents.append(tensor)
    return message


def size(message, streamed: bool = False):
    if streamed:
        message = pb.ModelStreamInferResponse(infer_response=message)
    return size_of(message.SerializeToString(), streamed)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_bytes_of_every_raw_tensor_count(streamed: bool) -> None:
    found = size(answer(b"x" * 300, b"y" * 20), streamed)
    assert found.output_bytes == 320.0
    assert math.isnan(found.output_tokens)


def test_tensors_inside_the_outputs_count_too() -> None:
    found = size(answer(inline=(b"x" * 300, b"y" * 300)))
    assert 600.0 <= found.output_bytes <= 610.0


@pytest.mark.parametrize("name", ["output_tokens", "completion_tokens", "generated_tokens"])
@pytest.mark.parametrize("value", [217, 217.0, "217"])
def test_a_count_in_the_parameters_is_read(name: str, value: object) -> None:
    found = size(answer(b"x", **{"triton_final_response": 1, name: value, "other": "text"}))
    assert found[:2] == (1.0, 217.0)
    assert math.isnan(found.cached_tokens)


@pytest.mark.parametrize("name", ["cached_tokens", "num_cached_tokens"])
@pytest.mark.parametrize("value", [0, 96, 96.0, "96"])
def test_what_of_the_prompt_was_cached_is_read(name: str, value: object) -> None:
    found = size(answer(b"x", **{"output_tokens": 7, name: value}))
    assert found[:3] == (1.0, 7.0, float(value))


@pytest.mark.parametrize("value", ["", "many", "-1", "1e308", "9" * 100])
def test_a_count_that_is_none_is_not_read_as_one(value: str) -> None:
    tokens = size(answer(b"x", output_tokens=value)).output_tokens
    assert math.isnan(tokens) or tokens > 1e9


def test_an_answer_of_nothing_has_no_size() -> None:
    assert all(map(math.isnan, size(answer())[:-1]))
    assert all(map(math.isnan, size(answer(), streamed=True)[:-1]))
    assert all(map(math.isnan, size_of(b"")[:-1]))


def test_no_more_than_so_many_fields_are_looked_at() -> None:
    assert size_of(b"\x32\x01x" * MAX_FIELDS).output_bytes == MAX_FIELDS
    assert math.isnan(size_of(b"\x32\x01x" * (MAX_FIELDS + 1)).output_bytes)
    outputs = b"\x2a\x03\x2a\x01x" * (MAX_FIELDS // 2 + 1)
    assert math.isnan(size_of(outputs).output_bytes)


def test_the_bytes_of_a_tensor_are_not_looked_at() -> None:
    assert size(answer(b"\xff" * 10_000_000)).output_bytes == 10_000_000.0


@pytest.mark.parametrize(
    "data",
    [b"\x32\x05x", b"\x32", b"\x32\xff", b"\x33\x00", b"\x0d\x00", b"\x08", b"\x22\x7f\x0a", b"<"],
)
def test_what_is_malformed_has_no_size(data: bytes) -> None:
    assert all(map(math.isnan, size_of(data)[:-1]))


@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_never_raise(data: bytes, streamed: bool) -> None:
    found = size_of(data, streamed)
    assert math.isnan(found.output_bytes) or 0.0 < found.output_bytes <= len(data)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.booleans())
def test_the_size_is_that_of_the_decoded_message(raw: list[bytes], streamed: bool) -> None:
    whole = sum(map(len, raw))
    found = size(answer(*raw), streamed).output_bytes
    assert found == whole if whole else math.isnan(found)


def test_one_reader_reads_reports_and_sizes() -> None:
    reader = ServerReports()
    assert reader.read(()) is NOTHING
    assert reader.size(answer(b"text").SerializeToString(), streamed=False).output_bytes == 4.0


# Whether it is one


@given(st.binary(max_size=40), st.booleans())
def test_what_parses_and_tells_of_no_error_is_an_answer(text, streamed):
    one = answer(text)
    message = pb.ModelStreamInferResponse(infer_response=one) if streamed else one
    assert ServerReports().failure(message.SerializeToString(), streamed) is None


@pytest.mark.parametrize("message", [b"", b"\xff\xff", b"{}", b"<html>", b"\x00"])
def test_what_is_no_answer_is_a_fault_of_the_server(message):
    assert isinstance(failure_of(message), UpstreamFaultError)


@pytest.mark.parametrize(
    "message", [b"\xff\xff", b"{}", b"\x0a", b"\x0a\x05ab", b"\x0a" + b"\xff" * 12]
)
def test_what_is_no_streamed_message_is_a_fault_of_the_server(message):
    assert isinstance(failure_in_stream(message), UpstreamFaultError)


@given(st.text(min_size=1))
def test_an_error_told_in_a_stream_is_a_failure_in_its_own_words(told):
    message = pb.ModelStreamInferResponse(error_message=told, infer_response=answer(b"x"))
    failure = failure_in_stream(message.SerializeToString())
    assert isinstance(failure, UpstreamInternalError)
    assert (str(failure), failure.status) == (told, "")


def test_an_empty_message_of_a_stream_is_no_failure():
    assert failure_in_stream(b"") is None
