"""The module reads messages, bodies and headers as the native gateway does."""

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router._pb.inference_pb2 import ModelInferRequest
from router.errors import MalformedRequestError
from router.gateway.caller import Caller
from router.gateway.oip.wire import scan
from router.gateway.openai.fields import read_json
from router.http_api import CHAT
from tests.examples import examples
from tests.planes.envoy import host as hosts

NAMES = st.sampled_from(["m", "model", "meta-llama/Llama-3.1-8B"]) | st.text(min_size=1, max_size=9)
COUNTS = st.integers(-3, 2**40) | st.sampled_from([0, 1, 10**8, 10**8 + 1])
PARAMETERS = st.dictionaries(
    st.sampled_from(
        ["max_tokens", "max_output_tokens", "max_new_tokens", "input_tokens", "temperature"]
    ),
    COUNTS | st.floats(-1.0, 1e9) | st.booleans() | st.text(max_size=3),
    max_size=4,
)


def same(one, other):
    return one == other or (math.isnan(one) and math.isnan(other))


def infer_request(model, parameters, tensor):
    request = ModelInferRequest(model_name=model)
    for name, value in parameters.items():
        kind = {bool: "bool", int: "int64", float: "double", str: "string"}[type(value)]
        setattr(request.parameters[name], f"{kind}_param", value)
    request.raw_input_contents.append(tensor)
    return request.SerializeToString()


@hosts.missing
@given(NAMES, PARAMETERS, st.binary(max_size=50))
@settings(max_examples=examples(200), deadline=None)
def test_a_message_is_read_as_natively(host, model, parameters, tensor):
    message = infer_request(model, parameters, tensor)
    fields = scan(message)
    # What can be no count is passed over by either, in Python when the request is made.
    request = Caller(()).request(fields, len(message), None, 0.0)
    error, name, tokens, most, *_ = host.scan(False, message)
    assert error is None and name == model.encode()[: len(name)]
    assert same(tokens, request.input_tokens), parameters
    assert most == request.max_output_tokens, parameters


@hosts.missing
@given(st.binary(max_size=80))
@example(b"\x0a\x01m\x0b")
@settings(max_examples=examples(500), deadline=None)
def test_what_python_refuses_c_refuses(host, message):
    error, *_ = host.scan(False, message)
    try:
        scan(message)
    except MalformedRequestError:
        # Names that are no UTF-8, and parameters that protobuf knows better, are no model's here.
        if b"\n" not in message and b'"' not in message:
            assert error is not None


MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=20)}), max_size=3
)
BODIES = st.fixed_dictionaries(
    {"model": NAMES, "messages": MESSAGES},
    optional={
        "stream": st.booleans() | st.none(), "max_tokens": COUNTS, "n": st.integers(1, 4),
        "max_completion_tokens": COUNTS | st.floats(0.5, 1e6) | st.none(),
        "metadata": st.dictionaries(st.text(max_size=4), st.text(max_size=4)),
        "temperature": st.floats(0.0, 2.0),
    },
)  # fmt: skip


@hosts.missing
@given(BODIES, st.booleans())
@settings(max_examples=examples(300), deadline=None)
def test_a_body_is_read_as_natively(host, body, spaced):
    data = json.dumps(body, separators=None if spaced else (",", ":"), ensure_ascii=False).encode()
    asked = read_json(CHAT, data)
    error, name, tokens, most, prompt_bytes, streams, _ = host.scan(True, data)
    if "\\" in body["model"] or any(ord(c) < 32 for c in body["model"]):
        return
    assert error is None, (error, data)
    assert name == asked.model.encode()
    assert math.isnan(tokens)
    limit = asked.max_output_tokens
    assert most == (limit if 1 <= limit <= 1e8 else math.inf)
    assert prompt_bytes == asked.prompt_bytes
    assert streams == asked.streams


@hosts.missing
@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b'{"model"}', b'{"model":1}', b'{"model":""}', b'{"messages":[]}',
        b'{"model":"a","model":"b"}', b'{"Model":"a"}', b'{"model":"a","stream":1}',
        b'{"model":"a","STREAM":true}', b'{"model":"a"} x', b'{"model":"a",}', b'{"model":"a"',
        b'{"model":"a","x":[}', b'{"mod\\u0065l":"a"}', b"\x00",
        b'{"model":"a","x":' + b"[" * 600 + b"]" * 600 + b"}",
    ],
)  # fmt: skip
def test_bodies_that_are_none_are_refused(host, body):
    error, *_ = host.scan(True, body)
    assert error


@hosts.missing
def test_pictures_are_no_text(host):
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}]
    body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    assert host.scan(True, json.dumps(body).encode())[4] == 0.0


@hosts.missing
@given(
    st.sampled_from(["x-ttft-budget-ms", "x-tpot-budget-ms", "x-latency-budget-ms"]),
    st.sampled_from(["1", "0", "-1", "1e3", "1_0", "nan", "inf", "0x10", "", " 5 ", "3600001", "a"])
    | st.floats(0.0, 4e6).map(str),
)
@settings(max_examples=examples(100), deadline=None)
def test_budgets_are_read_as_natively(host, key, value):
    reason, figures, _ = host.caller(key, value)
    try:
        caller = Caller(((key, value),))
    except Exception as error:
        assert reason == error.reason
    else:
        assert reason == ""
        assert figures == (caller.ttft_ms, caller.tpot_ms, caller.e2e_ms)


@hosts.missing
def test_deadlines_and_other_headers(host):
    assert host.caller("grpc-timeout", "250m")[1][2] == 245.0
    assert host.caller("grpc-timeout", "2S")[1][2] == 1995.0
    assert host.caller("grpc-timeout", "1m")[1][2] == 0.0
    for wrong in ("xm", "-5S", "infS", "0x10m", "1.5S", "123456789m", "5"):
        assert host.caller("grpc-timeout", wrong)[1][2] == math.inf
    assert host.caller("x-origin", " home ") == ("", (math.inf,) * 3, "home")
    assert host.caller("x-carbon-anything", "1")[0] == "metadata_invalid"
    assert host.caller("x-carbon-receipt", " Full ")[0] == ""
    assert host.caller("x-carbon-receipt", "short")[0] == "metadata_invalid"
    assert host.caller("x-residency", " , ")[0] == "metadata_invalid"
    assert host.caller("x-origin", "h" * 128)[0] == "metadata_invalid"
    assert host.caller("x-other", "h" * 1000)[0] == ""
