"""What Envoy says, in the product's terms; the whole is tried in test_plane.py."""

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router._pb.inference_pb2 import ModelInferRequest
from router.director import View
from router.errors import (
    MalformedRequestError,
    UpstreamBusyError,
    UpstreamFaultError,
    UpstreamInternalError,
    UpstreamLostError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamUnreachedError,
)
from router.gateway.caller import Caller
from router.gateway.oip.status import CODES
from router.gateway.oip.wire import scan
from router.gateway.openai.fields import read_json
from router.gateway.openai.refusal import STATUSES
from router.http_api import CHAT, USAGE
from router.load.usage import HttpReports
from router.planes.envoy import layout as lay
from router.planes.envoy import outcomes
from router.planes.envoy.layout import DEPARTED, ENDED, NO_MODEL, RequestRecord
from tests import factories as f
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


@hosts.missing
def test_refusals_are_told_as_natively(host):
    for (reason, grpc, http), kind in zip(host.refusals(), outcomes.REFUSALS, strict=True):
        if kind is not None:
            assert reason == kind.reason
            assert (grpc, http) == (CODES[kind].value[0], STATUSES[kind])


def record(**fields):
    made = RequestRecord(grpc_status=-1)
    within = {
        "row": (made.found, "row"), "nearest": (made.found, "first_row"),
        "rtt_row": (made.asked, "rtt_row"),
    }  # fmt: skip
    for name, value in fields.items():
        setattr(*within.get(name, (made, name)), value)
    return made


def reported(made):
    return HttpReports().read(((USAGE, outcomes.usage_of(made)),))


RESET = b"upstream_reset_before_response_started{connection_termination}"
REFUSED = b"upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error}"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"grpc_status": 0, "status": 200}, None),
        ({"is_http": 1, "status": 200, "details": b"via_upstream"}, None),
        ({"is_http": 1, "status": 503, "details": b"via_upstream"}, UpstreamFaultError),
        ({"is_http": 1, "status": 429, "details": b"via_upstream"}, UpstreamBusyError),
        ({"is_http": 1, "status": 422, "details": b"via_upstream"}, UpstreamRejectedError),
        ({"grpc_status": 14, "status": 200}, UpstreamFaultError),
        ({"grpc_status": 3, "status": 200}, UpstreamRejectedError),
        # Of what HTTP alone wrote, gRPC has no status.
        ({"status": 200, "details": b"via_upstream"}, UpstreamInternalError),
        ({"status": 502, "details": b"via_upstream"}, UpstreamFaultError),
        ({"status": 404, "details": b"via_upstream"}, UpstreamRejectedError),
        # A caller's own deadline says nothing against the server.
        ({"grpc_status": 4, "details": b"max_duration_timeout"}, UpstreamTimeoutError),
        ({"status": 503, "details": RESET}, UpstreamLostError),
        ({"status": 503, "details": REFUSED}, UpstreamUnreachedError),
    ],
)
def test_an_end_says_whose_fault_it_was(fields, expected):
    error = outcomes.error_of(record(**fields))
    assert error is None if expected is None else type(error) is expected


def test_a_caller_that_left_blames_nobody():
    for details in (b"downstream_remote_disconnect", b"http2.remote_reset", b"destroyed", b""):
        left = outcomes.error_of(record(cut_short=1, details=details))
        assert left is not None and left.reason == "cancelled"


def test_usage_is_read_from_the_end_of_an_answer():
    usage = {
        "prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}
    }  # fmt: skip
    tail = (b'ut off "usage": {1} ' + json.dumps({"usage": usage}).encode())[-1024:]
    made = record(is_http=1, tail=tail, tail_length=len(tail))
    said = reported(made)
    assert (said.output_tokens, said.cached_tokens, said.input_tokens) == (5.0, 2.0, 7.0)
    for broken in (
        b'"usage": {"completion_tokens": ', b'{"usage": null}', b"",
        b'"usage":{"completion_tokens":' + b"[" * 990,
        b'"usage":{"completion_tokens":1e999}', b'"usage":{"completion_tokens":-5}}',
    ):  # fmt: skip
        made = record(is_http=1, tail=broken, tail_length=len(broken))
        assert math.isnan(reported(made).output_tokens)


def test_usage_is_read_from_the_last_event_of_a_stream():
    events = (
        b'data: {"choices":[],"usage":{"completion_tokens":1}}\n\n'
        b'data: {"choices":[],"usage":{"completion_tokens":5,"energy":{"joules":3.5}}}\r\n\r\n'
        b"data: [DONE]\n\n"
    )
    made = record(is_http=1, streams=1, tail=events, tail_length=len(events))
    assert (reported(made).output_tokens, reported(made).energy_j) == (5.0, 3.5)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": 0}, {"kind": 4}, {"model": 99}, {"model": NO_MODEL}, {"rung": 99}, {"seat": -1},
        {"seat": 2}, {"first_seat": 2}, {"row": 2}, {"row": -1}, {"nearest": 2}, {"rtt_row": 10**6},
        {"rtt_row": -1}, {"departed_s": math.nan}, {"departed_s": 0.5}, {"ended_s": math.inf},
        {"ended_s": 1.5}, {"payload_bytes": math.nan}, {"payload_bytes": -1.0},
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_is_not_learned_from(fields):
    fleet = f.fleet(f.endpoint("a", "north"), f.endpoint("b", "south"))
    snapshot = f.snapshot(fleet, f.policy(), f.forecasts(north=[100.0] * 24, south=[100.0] * 24))
    view = View(snapshot, f.board(snapshot))
    for kind in (DEPARTED, ENDED):
        sound = {"kind": kind, "started_s": 1.0, "departed_s": 2.0, "ended_s": 3.0}
        assert outcomes.is_sound(record(**sound), view)
        if kind == ENDED or "ended_s" not in fields:
            assert not outcomes.is_sound(record(**{**sound, **fields}), view)
    refused = record(kind=lay.REFUSED, model=NO_MODEL, started_s=1.0, ended_s=2.0)
    assert outcomes.is_sound(refused, view)
    refused.model = 7
    assert not outcomes.is_sound(refused, view)
