"""The module reads messages, bodies and headers as the native gateway does."""

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router._pb.inference_pb2 import ModelInferRequest
from router.errors import MalformedRequestError
from router.gateway import headers
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
    error, name, tokens, most, prompt_bytes, streams, passes_on = host.scan(True, data)
    if "\\" in body["model"] or any(ord(c) < 32 for c in body["model"]):
        return
    # Where a name of another field has an escape in it.
    assert not passes_on or "\\" in json.dumps(body.get("metadata"))
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
        b'{"model":"a","x":[}', b"\x00",
        b'{"model":"a","x":' + b"[" * 600 + b"]" * 600 + b"}",
    ],
)  # fmt: skip
def test_bodies_that_are_none_are_refused(host, body):
    error, *_ = host.scan(True, body)
    assert error


TAGGED = {"vllm_xargs": {"agentic_context": {"deadline_seconds": 9}}}


@hosts.missing
@pytest.mark.parametrize(
    ("field", "passes_on"),
    [
        ({"service_tier": "flex"}, True), ({"service_tier": "auto"}, False), (TAGGED, True),
        ({"vllm_xargs": {"other": 1}}, False), ({"inference_geo": "eu"}, True),
        ({"inference_geo": None}, False), ({"priority": 3}, True), ({"conversation": "c"}, True),
        ({"previous_response_id": "r"}, True), ({"user": "flex"}, False),
    ],
)  # fmt: skip
def test_what_is_not_done_here_is_passed_on(host, field, passes_on):
    error, *_, passed = host.scan(True, json.dumps({"model": "m", **field}).encode())
    assert (error, passed) == (None, passes_on)


@hosts.missing
@pytest.mark.parametrize("body", [b'{"mod\\u0065l":"a"}', b'{"model":"\\u00e9"}'])
def test_what_has_escapes_is_passed_on(host, body):
    error, *_, passed = host.scan(True, body)
    assert error is None and passed and read_json(CHAT, body).model


@hosts.missing
def test_a_message_that_may_wait_or_goes_on_is_passed_on(host):
    for parameters in ({"deadline-s": 5.0}, {"deadline-s": "no"}, {"sequence_id": 3}):
        error, *_, passed = host.scan(False, infer_request("m", parameters, b""))
        assert error is None and passed, parameters
    assert not host.scan(False, infer_request("m", {"sequence_id": 0}, b""))[-1]


OURS = sorted({*headers.KNOWN, headers.ENERGY, headers.RECEIPT, headers.SESSION, *headers.RETRIES})
LETTERS = "abcdefghijklmnopqrstuvwxyz-_.0123456789"
SLIPS = st.tuples(st.integers(0, 20), st.sampled_from("+-=~"), st.sampled_from(LETTERS))
STRANGERS = [
    "x-residencies", "x-residents", "x-president", "x-data-residency", "x-latency-ms", "x-ttft",
    "x-my-latency-budget", "x-e2e", "x-budget-e2e", "ttft", "x-quality", "x-carbon", "x-carbonite",
    "x_carbon_g", "x-residency-bin", "x-ttft-bin", "traceparent", "x-forwarded-for", "x-request-id",
    "x-b3-traceid", "grpc-trace-bin", "x-stainless-lang", "x-amzn-trace-id", "x-org", "x-tenants",
    "a" * 80, "x-" + "y" * 61 + "-residency", "-", "x-",
]  # fmt: skip


def slipped(name, slips):
    letters = list(name)
    for at, how, letter in slips:
        at = min(at, len(letters) - 1)
        if how == "+":
            letters.insert(at, letter)
        elif how == "=":
            letters[at] = letter
        elif how == "-" and len(letters) > 1:
            del letters[at]
        else:
            letters[at - 1], letters[at] = letters[at], letters[at - 1]
    return "".join(letters)


NEARLY = st.builds(slipped, st.sampled_from(OURS + STRANGERS), st.lists(SLIPS, max_size=3))


@hosts.missing
@given(NEARLY | st.text(LETTERS, min_size=1, max_size=24))
@settings(max_examples=examples(1500), deadline=None)
def test_what_is_nearly_one_of_our_headers_is_known_as_natively(host, key):
    if key not in headers.KNOWN and key not in (headers.RECEIPT, headers.ENERGY):
        assert host.is_misspelt(key) == bool(headers.misspelt(key))


@hosts.missing
@pytest.mark.parametrize("key", STRANGERS)
def test_strangers_headers_are_told_from_ours(host, key):
    assert host.is_misspelt(key) == bool(headers.misspelt(key))


@hosts.missing
def test_headers_of_what_is_not_done_here_pass_the_call_on(host):
    for key in ("x-deadline-s", "x-quality-floor", "x-energy-data", "x-residencies", "x-orign"):
        assert host.caller(key, "1")[0] == "passed on"
    assert host.caller("content-encoding", "gzip")[0] == "passed on"
    assert host.caller("content-encoding", "identity")[0] == ""


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
    assert host.caller("x-carbon-anything", "1")[0] == "passed on"
    assert host.caller("x-carbon-receipt", " Full ")[0] == ""
    assert host.caller("x-carbon-receipt", "short")[0] == "metadata_invalid"
    assert host.caller("x-residency", " , ")[0] == "metadata_invalid"
    assert host.caller("x-origin", "h" * 127)[0] == ""
    # Natively it may have these, and is refused from there on.
    assert host.caller("x-origin", "h" * 128)[0] == "passed on"
    assert host.caller("x-other", "h" * 1000)[0] == ""
