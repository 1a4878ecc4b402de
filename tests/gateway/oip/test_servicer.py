"""Unary calls through a real socket: bytes, metadata, deadlines, errors, cancelling."""

import asyncio

import grpc
import pytest

from router import errors
from router._pb import inference_pb2 as pb
from router.gateway.carbon_field import carbon_field
from router.gateway.oip.servicer import ASKED, UNSUPPORTED
from router.gateway.oip.status import CODES
from tests.gateway.support import Script, error_of, infer_request, receipt, running, soon

UNKNOWN_FIELD = b"\x9a\x06\x05later"  # field 99, as a newer protocol might add


async def test_bytes_pass_untouched_both_ways():
    sent = infer_request(max_tokens=7).SerializeToString() + UNKNOWN_FIELD
    answer = pb.ModelInferResponse(model_name="llama", raw_output_contents=[b"\x00\xff" * 50])
    returned = answer.SerializeToString() + UNKNOWN_FIELD
    async with running(Script(returned)) as gateway:
        assert await soon(gateway.bytes_call("ModelInfer")(sent)) == returned
        request, payload, *_ = gateway.director.calls[0]
    assert payload == sent
    assert (request.model, request.max_output_tokens, request.payload_bytes) == (
        "llama",
        7.0,
        len(sent),
    )


async def test_typed_tensors_pass_untouched():
    sent = pb.ModelInferRequest(model_name="iris", model_version="3", id="42")
    tensor = sent.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    tensor.contents.fp32_contents.extend([5.1, 3.5, 1.4, 0.2])
    returned = pb.ModelInferResponse(model_name="iris", id="42")
    output = returned.outputs.add(name="y", datatype="INT64", shape=[1])
    output.contents.int64_contents.append(0)
    async with running(Script(returned.SerializeToString())) as gateway:
        assert await soon(gateway.stub.ModelInfer(sent)) == returned
        request, payload, *_ = gateway.director.calls[0]
    assert pb.ModelInferRequest.FromString(payload) == sent
    assert (request.model, request.version, request.request_id) == ("iris", "3", "42")


async def test_the_director_learns_where_the_prompt_lies_and_whose_it_is():
    sent = infer_request()
    sent.raw_input_contents.append(len(b"a prompt").to_bytes(4, "little") + b"a prompt")
    async with running(Script()) as gateway:
        await soon(gateway.stub.ModelInfer(sent, metadata=(("x-session-id", "s-1"),)))
        call = gateway.director.calls[0]
    prompt = call.prompt
    assert prompt.data[prompt.first : prompt.stop] == b"a prompt" and prompt.session == "s-1"
    # It is for servers and other routers, too.
    assert ("x-session-id", "s-1") in call.metadata


async def test_metadata_passes_both_ways_and_the_receipt_comes_last():
    director = Script(
        initial_metadata=(
            ("ce-specversion", "1.0"),
            ("grpc-encoding", "identity"),
            ("date", "Mon"),
            ("x-envoy-upstream-service-time", "3"),
        ),
        trailers=(
            ("ce-id", "7"),
            ("ce-blob-bin", b"\x00\x01"),
            ("endpoint-load-metrics-bin", b"\x01"),
            ("x-carbon-region", "forged"),
            ("odd", "caf\u00e9"),
        ),
    )
    async with running(director) as gateway:
        call = gateway.stub.ModelInfer(
            infer_request(), metadata=(("ce-source", "test"), ("trace-bin", b"\xff"))
        )
        await soon(call)
        initial = dict(await call.initial_metadata())
        trailers = list(await call.trailing_metadata())
        _, _, metadata, deadline_s, *_ = director.calls[0]
    assert initial == {"ce-specversion": "1.0"}
    assert ("ce-source", "test") in metadata
    assert ("trace-bin", b"\xff") in metadata
    assert deadline_s is None
    assert ("ce-id", "7") in trailers
    assert ("ce-blob-bin", b"\x00\x01") in trailers
    assert "x-carbon-region" not in dict(trailers)
    assert [key for key, _ in trailers][-1] == "x-carbon"
    assert {"endpoint-load-metrics-bin", "odd"}.isdisjoint(dict(trailers))


async def test_routing_headers_and_deadline_reach_the_director():
    async with running(Script()) as gateway:
        headers = (("x-ttft-budget-ms", "250"), ("x-origin", "eu"), ("x-residency", "eu,ch"))
        await soon(gateway.stub.ModelInfer(infer_request(), metadata=headers, timeout=5.0))
        request, _, _, deadline_s, *_ = gateway.director.calls[0]
    assert request.budget.ttft_ms == 250.0
    assert request.budget.explicit
    assert 0.0 < request.budget.e2e_ms < 5500.0  # gRPC rounds up
    assert 0.0 < deadline_s < 5.5
    assert (request.origin, request.residency) == ("eu", frozenset(("eu", "ch")))


def an_instance(cls):
    if cls is errors.UpstreamInternalError:
        return cls("said why", status="UNKNOWN")
    if cls is errors.UpstreamUnreachedError:
        return cls("said why", refused=True)
    if issubclass(cls, errors.UpstreamBlamingError):
        return cls("said why", status="INVALID_ARGUMENT")
    if cls is errors.CallBudgetError:
        return cls("said why", retry_after_s=1.0)
    if issubclass(cls, errors.ConfigError):
        return cls("secret.yaml", [("key", "said why")])
    return cls("said why")


@pytest.mark.parametrize("cls", CODES, ids=lambda cls: cls.__name__)
async def test_every_error_has_its_code_and_reason(cls):
    async with running(Script(error=an_instance(cls))) as gateway:
        code, details, trailers = await error_of(gateway.stub.ModelInfer(infer_request()))
        told = gateway.told.seen
        (arrival,) = gateway.told.arrivals
        assert (arrival.protocol, arrival.streamed) == ("oip", False)
        assert arrival.after_s >= 0.0
    expected = CODES[cls]
    if cls in (errors.UpstreamTooLargeError, errors.UpstreamDeniedError):
        expected = grpc.StatusCode.INVALID_ARGUMENT
    assert code is expected
    assert trailers["x-carbon-reason"] == cls.reason
    ours_to_fix = code is grpc.StatusCode.INTERNAL and cls is not errors.UpstreamInternalError
    assert details == ("internal error" if ours_to_fix else "said why")
    assert told == [("ModelInfer", "llama", code.name, cls.reason)]


async def test_a_hint_to_come_back_later_travels_as_pushback():
    error = errors.ShedError("full", retry_after_s=0.25)
    async with running(Script(error=error)) as gateway:
        code, _, trailers = await error_of(gateway.stub.ModelInfer(infer_request()))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert trailers["grpc-retry-pushback-ms"] == "250"


async def test_a_rejection_keeps_code_message_and_details():
    rejected = errors.UpstreamRejectedError(
        "tensor x: expected FP32",
        status="OUT_OF_RANGE",
        trailers=(("grpc-status-details-bin", b"\x08\x0b"), ("ce-id", "9"), ("grpc-x", "hop")),
    )
    async with running(Script(error=rejected)) as gateway:
        code, details, trailers = await error_of(gateway.stub.ModelInfer(infer_request()))
    assert (code, details) == (grpc.StatusCode.OUT_OF_RANGE, "tensor x: expected FP32")
    assert trailers["grpc-status-details-bin"] == b"\x08\x0b"
    assert trailers["ce-id"] == "9"
    assert "grpc-x" not in trailers


async def test_unexpected_errors_leak_nothing():
    async with running(Script(error=ZeroDivisionError("secret"))) as gateway:
        code, details, trailers = await error_of(gateway.stub.ModelInfer(infer_request()))
        assert gateway.told.seen == [("ModelInfer", "llama", "INTERNAL", "internal")]
    assert (code, details) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "secret" not in repr(trailers)


@pytest.mark.parametrize(
    ("payload", "metadata", "reason"),
    [
        (b"\x0a\xff\xff", (), "request_malformed"),
        (b"", (), "request_malformed"),
        (b"\x0a\x05llama", (("x-latency-budget-ms", "-1"),), "metadata_invalid"),
        (b"\x0a\x05llama", (("x-ttft-budget-ms", "nan"),), "metadata_invalid"),
        (b"\x0a\x05llama", (("x-residency", " , "),), "metadata_invalid"),
    ],
)
async def test_bad_input_never_reaches_the_director(payload, metadata, reason):
    async with running(Script()) as gateway:
        call = gateway.bytes_call("ModelInfer")(payload, metadata=metadata)
        code, details, trailers = await error_of(call)
        assert gateway.director.calls == []
        assert await soon(gateway.stub.ServerLive(pb.ServerLiveRequest()))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert trailers["x-carbon-reason"] == reason
    assert details


async def test_a_message_over_the_limit_is_refused_and_the_next_one_served():
    async with running(Script(), max_message_bytes=1 << 20) as gateway:
        big = infer_request()
        big.raw_input_contents.append(bytes(1 << 20))
        code, details, trailers = await error_of(gateway.stub.ModelInfer(big))
        assert await soon(gateway.bytes_call("ModelInfer")(b"\x0a\x01m")) == b""
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "more than 1048576" in details
    assert trailers["x-carbon-reason"] == "message_too_large"


async def test_messages_above_the_default_of_grpc_pass():
    returned = bytes(6 << 20)
    async with running(Script(returned)) as gateway:
        sent = b"\x0a\x01m\x3a\x80\x80\xc0\x02" + bytes(5 << 20)
        assert await soon(gateway.bytes_call("ModelInfer")(sent)) == returned
        assert gateway.director.calls[0][1] == sent


async def test_a_client_that_cancels_cancels_the_director():
    director = Script()
    director.release = asyncio.Event()
    async with running(director) as gateway:
        call = gateway.stub.ModelInfer(infer_request())
        await soon(director.started.wait())
        call.cancel()
        await soon(director.cancelled.wait())
        await soon(gateway.told.event.wait())
        assert gateway.told.seen == [("ModelInfer", "llama", "CANCELLED", "cancelled")]


async def test_a_deadline_that_passes_cancels_the_director():
    director = Script()
    director.release = asyncio.Event()
    async with running(director) as gateway:
        code, _, _ = await error_of(gateway.stub.ModelInfer(infer_request(), timeout=0.05))
        await soon(director.cancelled.wait())
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_server_and_model_questions():
    ready = True
    async with running(Script(), ready=lambda: ready) as gateway:
        stub = gateway.stub
        assert (await soon(stub.ServerLive(pb.ServerLiveRequest()))).live
        assert (await soon(stub.ServerReady(pb.ServerReadyRequest()))).ready
        ready = False
        assert not (await soon(stub.ServerReady(pb.ServerReadyRequest()))).ready
        metadata = await soon(stub.ServerMetadata(pb.ServerMetadataRequest()))
        assert metadata.name == "carbon-router"
        assert "carbon_receipts" in metadata.extensions
        assert (await soon(stub.ModelReady(pb.ModelReadyRequest(name="llama")))).ready
        gateway.director.models["llama"] = False
        assert not (await soon(stub.ModelReady(pb.ModelReadyRequest(name="llama")))).ready


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x0a\x04nope", grpc.StatusCode.NOT_FOUND),
        (b"", grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x0a\xff", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_questions_about_no_model(payload, code):
    async with running(Script()) as gateway:
        assert (await error_of(gateway.bytes_call("ModelReady")(payload)))[0] is code


@pytest.mark.parametrize("method", ASKED)
async def test_questions_about_a_model_are_proxied_as_bytes(method):
    sent = pb.ModelMetadataRequest(name="llama", version="2").SerializeToString() + UNKNOWN_FIELD
    director = Script(b"\x0a\x03cfg" + UNKNOWN_FIELD, trailers=(("ce-id", "1"),))
    async with running(director) as gateway:
        call = gateway.bytes_call(method)(sent)
        assert await soon(call) == director.answer.payload
        assert dict(await call.trailing_metadata())["ce-id"] == "1"
        director.error = errors.UnknownModelError("no such model")
        assert (await error_of(gateway.bytes_call(method)(sent)))[0] is grpc.StatusCode.NOT_FOUND
        assert (await error_of(gateway.bytes_call(method)(b"")))[0] is (
            grpc.StatusCode.INVALID_ARGUMENT
        )
    assert director.calls[0] == ("llama", "2", method, sent)


@pytest.mark.parametrize("method", UNSUPPORTED)
async def test_what_acts_on_one_server_is_refused_with_a_reason(method):
    director = Script()
    async with running(director) as gateway:
        code, details, trailers = await error_of(gateway.bytes_call(method)(b"\x0a\x01m"))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert method in details
    assert trailers["x-carbon-reason"] == "method_unsupported"
    assert director.calls == []


async def test_the_repository_holds_what_the_gateway_routes_to():
    director = Script()
    director.models = {"llama": True, "image": False}
    async with running(director) as gateway:
        index = await soon(gateway.stub.RepositoryIndex(pb.RepositoryIndexRequest()))
        ready = await soon(gateway.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)))
    assert {one.name: one.state for one in index.models} == {
        "llama": "READY",
        "image": "UNAVAILABLE",
    }
    assert [one.name for one in ready.models] == ["llama"]


FULL = (("x-carbon-receipt", "full"),)


async def ours(call):
    return {k: v for k, v in await call.trailing_metadata() if k.startswith("x-carbon")}


async def test_the_receipt_of_one_request_is_in_its_trailers():
    async with running(Script()) as gateway:
        call = gateway.stub.ModelInfer(infer_request())
        await soon(call)
        assert await ours(call) == {
            "x-carbon": carbon_field(receipt().decision, receipt().decision_id, receipt())
        }
        call = gateway.stub.ModelInfer(infer_request(), metadata=FULL)
        await soon(call)
        trailers = await ours(call)
        assert ("x-carbon-receipt", "full") in gateway.director.calls[-1][2]
    assert "x-carbon" not in trailers
    assert trailers["x-carbon-decision-id"] == receipt().decision_id
    assert float(trailers["x-carbon-gco2e"]) == receipt().gco2e
    assert trailers["x-carbon-energy-kind"] == "emulated"


async def test_an_operator_may_have_all_told_whole_but_for_whoever_says_how():
    async with running(Script(), full_receipts=True) as gateway:
        call = gateway.stub.ModelInfer(infer_request())
        await soon(call)
        assert float((await ours(call))["x-carbon-gco2e"]) == receipt().gco2e
        call = gateway.stub.ModelInfer(infer_request(), metadata=(("x-carbon-receipt", "compact"),))
        await soon(call)
        assert (await ours(call)).keys() == {"x-carbon"}
