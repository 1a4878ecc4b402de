"""A director that traces: which requests are kept, whose child each span is, what it says."""

import asyncio
import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from router.errors import ShedError, UnknownModelError, UpstreamError, span_of
from router.http_api import METHOD, PATH
from router.telemetry.tracing.conventions import DEPLOYED, LATEST
from router.telemetry.tracing.tracer import (
    RequestTracer,
    SampledRequest,
    TraceOptions,
    TurnedAway,
)
from tests.director.support import ANSWER, Hands, Room, Says, fails, report
from tests.factories import request

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"
TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736


def tracer(ratio=1.0, tenant="omit", convention=DEPLOYED, bits=None):
    spans = []
    made = RequestTracer(
        TraceOptions(ratio, tenant, convention), spans.append, Hands(), bits or random.Random(1)
    )
    return made, spans


def room(ratio=1.0, script=None, **options):
    made, spans = tracer(ratio, **options)
    built = Room({**dict.fromkeys("abc", ANSWER), **(script or {})}, tracer=made)
    made.clock = built.clock
    return built, spans


def sent(built, index=0):
    return dict(built.backend.calls[index].metadata)


async def test_a_request_and_its_attempt_are_parent_and_child():
    built, spans = room(script={"a": Says(b"yes", end_s=2.0, trailers=report(output_tokens=7.0))})
    answer = await built.infer(tenant="acme", input_tokens=40.0)
    attempt, whole = spans
    assert (whole.parent_id, attempt.parent_id) == (0, whole.span_id)
    assert whole.trace_id == attempt.trace_id != 0
    assert (whole.is_server, attempt.is_server) == (True, False)
    assert whole.name == "inference.GRPCInferenceService/ModelInfer"
    assert attempt.ended_ns - attempt.started_ns == pytest.approx(2e9, abs=1e3)
    assert whole.started_ns <= attempt.started_ns < attempt.ended_ns <= whole.ended_ns
    receipt = answer.receipt
    told = whole.attributes
    assert told["carbon_router.decision_id"] == receipt.decision_id
    assert told["carbon_router.gco2e_g"] == receipt.gco2e
    assert told["carbon_router.energy_j"] == receipt.energy_j
    assert told["carbon_router.energy_kind"] == "profile"
    assert told["carbon_router.endpoint"] == "a"
    assert told["carbon_router.region"] == receipt.region
    assert told["carbon_router.policy"] == receipt.policy
    assert told["carbon_router.attempts"] == 1
    assert told["carbon_router.outcome"] == "answered"
    assert told["gen_ai.usage.output_tokens"] == 7
    assert "carbon_router.tenant" not in told
    assert "error.type" not in told
    assert attempt.attributes["server.address"]
    assert attempt.attributes["gen_ai.request.model"] == "llama"
    assert not attempt.failed and not whole.failed
    assert sent(built)["traceparent"] == f"00-{attempt.trace_id:032x}-{attempt.span_id:016x}-01"


async def test_the_callers_trace_goes_on_with_its_state():
    built, spans = room(ratio=0.0)
    asked = (("traceparent", PARENT + "1"), ("tracestate", "v=1"), ("x-other", "kept"))
    await built.infer(metadata=asked)
    attempt, whole = spans
    assert (whole.trace_id, whole.parent_id) == (TRACE_ID, 0x00F067AA0BA902B7)
    assert whole.parent_is_remote and not attempt.parent_is_remote
    assert sent(built) == {
        "x-other": "kept", "tracestate": "v=1",
        "traceparent": f"00-{TRACE_ID:032x}-{attempt.span_id:016x}-01",
    }  # fmt: skip


async def test_what_its_caller_does_not_keep_passes_unchanged():
    built, spans = room(ratio=1.0)
    asked = (("traceparent", PARENT + "0"), ("tracestate", "v=1"))
    await built.infer(metadata=asked)
    assert spans == []
    assert built.backend.calls[0].metadata == asked


async def test_without_a_tracer_headers_pass_unchanged():
    built = Room(dict.fromkeys("abc", ANSWER))
    asked = (("traceparent", PARENT + "1"), ("tracestate", "v=1"))
    await built.infer(metadata=asked)
    assert built.backend.calls[0].metadata == asked


async def test_that_a_root_is_not_kept_is_told_further_on():
    built, spans = room(ratio=0.0)
    await built.infer(metadata=(("traceparent", "nonsense"), ("tracestate", "v=1")))
    assert spans == []
    header = sent(built)["traceparent"]
    assert header.endswith("-00")
    assert "tracestate" not in sent(built)
    assert built.watch.receipts


async def test_each_attempt_has_a_span_and_its_own_header():
    built, spans = room(script={"a": fails("fault", end_s=2.0)})
    await built.infer()
    lost, kept, whole = spans
    assert [one.parent_id for one in (lost, kept)] == [whole.span_id] * 2
    assert lost.failed and not kept.failed and not whole.failed
    assert lost.attributes["carbon_router.outcome"] == "moved"
    assert lost.attributes["error.type"] == "upstream_fault"
    assert [one.attributes["carbon_router.attempt"] for one in (lost, kept)] == [1, 2]
    assert whole.attributes["carbon_router.attempts"] == 2
    assert whole.attributes["carbon_router.lost_gco2e_g"] > 0.0
    assert whole.attributes["carbon_router.endpoint"] == kept.attributes["carbon_router.endpoint"]
    headers = [sent(built, index)["traceparent"] for index in range(2)]
    assert headers == [f"00-{whole.trace_id:032x}-{one.span_id:016x}-01" for one in (lost, kept)]


async def test_a_request_that_fails_says_why():
    built, spans = room(script=dict.fromkeys("abc", fails("fault")))
    with pytest.raises(UpstreamError):
        await built.infer()
    whole = spans[-1]
    assert whole.failed
    assert whole.attributes["carbon_router.reason"] == "upstream_fault"
    assert len([one for one in spans if one.is_server]) == 1


async def test_a_refusal_is_a_span_without_attempts():
    built, spans = room()
    with pytest.raises(UnknownModelError):
        await built.infer(model="nobody's")
    (whole,) = spans
    assert whole.attributes["carbon_router.outcome"] == "refused"
    assert whole.attributes["error.type"] == UnknownModelError.reason
    assert not whole.failed
    built.dispatcher.limits = built.dispatcher.limits._replace(max_wait_s=0.0)
    for name in "abc":
        built.out(name)
    with pytest.raises(Exception) as raised:
        await built.infer()
    assert spans[-1].attributes["carbon_router.reason"] == raised.value.reason != ShedError.reason


async def test_a_caller_that_goes_away_is_no_failure():
    built, spans = room(script={"a": Says(b"one", b"two", turns=50)})
    task = asyncio.ensure_future(built.infer())
    while not built.backend.running:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    attempt, whole = spans
    assert (attempt.attributes["carbon_router.outcome"], whole.failed) == ("cancelled", False)


async def test_a_stream_is_one_request():
    built, spans = room(script={"a": Says(b"one", b"two", end_s=3.0)})
    await built.collect()
    attempt, whole = spans
    assert whole.name == "inference.GRPCInferenceService/ModelStreamInfer"
    assert attempt.attributes["carbon_router.ttft_ms"] >= 0.0


async def test_metrics_are_told_which_trace_it_was():
    built, _ = room()
    told = []
    built.watch.finished = lambda *figures: told.append(figures[-1])
    built.dispatcher.lessons.digest_every = 10
    answer = await built.infer()
    built.dispatcher.digest()
    assert [len(one) for one in told] == [32]
    assert answer.receipt


@pytest.mark.parametrize(("style", "kept"), [("omit", None), ("plain", "acme"), ("hash", "a hash")])
async def test_a_tenant_is_named_as_it_is_to_be(style, kept):
    built, spans = room(tenant=style)
    await built.infer(tenant="acme")
    told = spans[-1].attributes.get("carbon_router.tenant")
    assert (told is None) == (kept is None)
    assert style == "hash" or told == kept
    assert style != "hash" or "acme" not in told


def test_http_and_grpc_are_called_what_their_conventions_say():
    page = ((METHOD, "POST"), (PATH, "/v1/chat/completions?api-key=hidden"))
    for convention in (DEPLOYED, LATEST):
        made, spans = tracer(convention=convention)
        made.begin(request(), page, "openai", False).ended(None, "refused", "shed", "p")
        made.begin(request(), (), "oip", False).ended(None, "refused", "shed", "p")
        http, grpc = spans
        assert http.name == "POST /v1/chat/completions"
        assert http.attributes["http.route"] == "/v1/chat/completions"
        assert "hidden" not in repr(http)
        method = grpc.attributes[convention.rpc_method]
        assert method == ("ModelInfer" if convention is DEPLOYED else grpc.name)
        assert grpc.attributes[convention.rpc_system] == "grpc"


@given(st.integers(1, 2**128 - 1), st.floats(0.0, 1.0))
def test_a_root_is_sampled_as_the_sdk_would(trace_id, ratio):
    ids = iter([trace_id, 5, 5, 5])
    made, _ = tracer(ratio, bits=SimpleNamespace(getrandbits=lambda k: next(ids)))
    kept = isinstance(made.begin(request(), (), "oip", False), SampledRequest)
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "x").decision
    assert kept == (theirs is Decision.RECORD_AND_SAMPLE)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 1.0])
def test_so_many_roots_are_kept(ratio):
    made, _ = tracer(ratio)
    kept = [
        isinstance(made.begin(request(), (), "oip", False), SampledRequest) for _ in range(5000)
    ]
    assert abs(sum(kept) / 5000 - ratio) < 0.02


def test_an_id_is_never_none():
    made, _ = tracer(bits=SimpleNamespace(getrandbits=lambda k: 0))
    assert made.new_id() == 1


def turned(metadata=(), request=None, reason="request_malformed", stranger=False, **changes):
    return TurnedAway(metadata, "oip", False, request, reason, stranger, 0.5)._replace(**changes)


def test_what_no_director_saw_is_one_span_with_its_reason():
    made, spans = tracer()
    ids = made.turned_away(turned(request=request(tenant="acme")))
    (whole,) = spans
    assert ids == (f"{whole.trace_id:032x}", f"{whole.span_id:016x}")
    assert (whole.name, whole.parent_id) == ("inference.GRPCInferenceService/ModelInfer", 0)
    assert (whole.is_server, whole.failed) == (True, False)
    assert whole.ended_ns - whole.started_ns == 500_000_000
    assert whole.attributes["carbon_router.outcome"] == "refused"
    assert whole.attributes["carbon_router.reason"] == "request_malformed"
    assert whole.attributes["error.type"] == "request_malformed"
    assert whole.attributes["carbon_router.model"] == "llama"
    assert "carbon_router.tenant" not in whole.attributes


def test_of_what_was_not_understood_nothing_is_said_but_how_it_came():
    made, spans = tracer()
    asked = ((METHOD, "POST"), (PATH, "/v1/chat/completions"))
    made.turned_away(turned(asked, protocol="openai", reason="unauthenticated"))
    (whole,) = spans
    assert whole.name == "POST /v1/chat/completions"
    assert "carbon_router.model" not in whole.attributes


def test_a_trace_that_is_kept_goes_on_with_a_refusal_and_one_that_is_not_has_none():
    made, spans = tracer(ratio=0.0)
    assert made.turned_away(turned((("traceparent", PARENT + "0"),))) == ("", "")
    assert made.turned_away(turned()) == ("", "")
    assert spans == []
    made.turned_away(turned((("traceparent", PARENT + "1"), ("tracestate", "v=1"))))
    (whole,) = spans
    assert (whole.trace_id, whole.parent_id) == (TRACE_ID, 0x00F067AA0BA902B7)
    assert (whole.parent_is_remote, whole.state) == (True, "v=1")


def test_that_a_stranger_wants_its_trace_kept_is_no_reason_to():
    asked = (("traceparent", PARENT + "1"),)
    made, spans = tracer(ratio=0.1)
    for _ in range(1000):
        made.turned_away(turned(asked, stranger=True))
    assert 50 < len(spans) < 200
    assert {span.trace_id for span in spans} == {TRACE_ID}


async def test_an_error_says_which_span_told_of_it():
    built, spans = room()
    with pytest.raises(UnknownModelError) as refused:
        await built.infer(model="nobody's")
    whole = spans[-1]
    assert span_of(refused.value) == (f"{whole.trace_id:032x}", f"{whole.span_id:016x}")
    built, spans = room(script={name: fails("lost") for name in "abc"})
    with pytest.raises(UpstreamError) as failed:
        await built.infer()
    assert span_of(failed.value) == (f"{spans[-1].trace_id:032x}", f"{spans[-1].span_id:016x}")
    built, _ = room(ratio=0.0)
    with pytest.raises(UnknownModelError) as unkept:
        await built.infer(model="nobody's")
    assert span_of(unkept.value) == ("", "")
