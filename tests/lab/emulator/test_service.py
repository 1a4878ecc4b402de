import asyncio
from dataclasses import replace

import grpc
import pytest

from router._pb import inference_pb2 as pb
from tests.lab.emulator.fleets import (
    FAST,
    LONG_S,
    endpoint,
    fleet,
    infer_request,
    read_text,
    serving,
    streaming,
    unary,
    wait_until,
)


def report_of(trailers):
    """What a Python client sees: C-core keeps the binary trailer to itself."""
    (text,) = [value for key, value in trailers if key == "endpoint-load-metrics"]
    return read_text(text)


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_questions():
    async with serving() as (_, channel):
        live = await unary(channel, "ServerLive", pb.ServerLiveResponse)(pb.ServerLiveRequest())
        ready = await unary(channel, "ServerReady", pb.ServerReadyResponse)(pb.ServerReadyRequest())
        assert live.live and ready.ready
        meta = await unary(channel, "ServerMetadata", pb.ServerMetadataResponse)(
            pb.ServerMetadataRequest()
        )
        assert "emulator" in meta.name
        model_ready = unary(channel, "ModelReady", pb.ModelReadyResponse)
        assert (await model_ready(pb.ModelReadyRequest(name="llama"))).ready
        assert (await model_ready(pb.ModelReadyRequest(name="stuck", version="2"))).ready
        assert not (await model_ready(pb.ModelReadyRequest(name="stuck", version="3"))).ready
        assert (await model_ready(pb.ModelReadyRequest(name="llama", version="9"))).ready
        assert not (await model_ready(pb.ModelReadyRequest(name="none"))).ready
        metadata = await unary(channel, "ModelMetadata", pb.ModelMetadataResponse)(
            pb.ModelMetadataRequest(name="llama")
        )
        assert metadata.platform == "emulated fast@1xtest"
        config = await unary(channel, "ModelConfig", pb.ModelConfigResponse)(
            pb.ModelConfigRequest(name="llama")
        )
        assert config.config.model_transaction_policy.decoupled
        assert config.config.max_batch_size == 64
        missing = await refused(
            unary(channel, "ModelConfig", pb.ModelConfigResponse)(
                pb.ModelConfigRequest(name="none")
            )
        )
        assert missing.code() is grpc.StatusCode.NOT_FOUND


async def test_infer_answers_with_its_energy():
    async with serving() as (_, channel):
        call = unary(channel, "ModelInfer", pb.ModelInferResponse)(infer_request(output_tokens=50))
        answer = await call
        report = report_of(await call.trailing_metadata())
    assert b"emulated by a: 50 units" in answer.raw_output_contents[0]
    assert (answer.model_name, answer.id) == ("llama", "r1")
    # Alone on the replica, so the energy does not depend on how fast this test ran. The first token
    # comes of an iteration that nobody decodes in.
    run_s = (0.1 + 49 * 0.101) / 1e3
    gpu_j = 477 * run_s + 0.024 * 50
    assert report["energy_j"] == pytest.approx(1.3 * gpu_j, rel=1e-6)
    marginal_j = (477 - 80) * run_s + 0.024 * 50
    assert report["marginal_energy_j"] == pytest.approx(1.3 * marginal_j, rel=1e-6)
    assert report["output_tokens"] == 50
    assert report["batch"] == 1


async def test_lengths_are_drawn_from_the_seed_and_capped():
    async def lengths(seed):
        async with serving(seed=seed) as (_, channel):
            infer = unary(channel, "ModelInfer", pb.ModelInferResponse)
            drawn = []
            for limit in (10_000, 10_000, 10_000, 3):
                call = infer(infer_request(max_tokens=limit))
                drawn.append(report_of(await call.trailing_metadata()))
            return [metrics["output_tokens"] for metrics in drawn]

    first = await lengths(1)
    assert first == await lengths(1)
    assert first != await lengths(2)
    assert first[-1] <= 3


async def test_a_task_takes_its_profile_energy():
    async with serving() as (_, channel):
        call = unary(channel, "ModelInfer", pb.ModelInferResponse)(infer_request("image"))
        report = report_of(await call.trailing_metadata())
    assert report["energy_j"] == pytest.approx(260.0)


async def test_bad_requests_have_their_codes():
    async with serving() as (_, channel):
        infer = unary(channel, "ModelInfer", pb.ModelInferResponse)
        for request, code in (
            (infer_request("none"), grpc.StatusCode.NOT_FOUND),
            (infer_request(output_tokens=0), grpc.StatusCode.INVALID_ARGUMENT),
            (infer_request(input_tokens=-4, output_tokens=3), grpc.StatusCode.INVALID_ARGUMENT),
            (infer_request("stuck"), grpc.StatusCode.INVALID_ARGUMENT),
        ):
            assert (await refused(infer(request))).code() is code
        raw = unary(channel, "ModelInfer", None, raw=True)
        assert (await refused(raw(b"\xff\xff"))).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_has_one_response_per_chunk_and_a_final_one():
    async with serving(stream_every=4) as (_, channel):
        call = streaming(channel)(iter([infer_request(output_tokens=11)]))
        responses = [response async for response in call]
        report = report_of(await call.trailing_metadata())
    finals = [r.infer_response.parameters["triton_final_response"].bool_param for r in responses]
    assert finals == [False, False, False, True]
    assert all(r.infer_response.id == "r1" and not r.error_message for r in responses)
    assert report["output_tokens"] == 11


async def test_the_headers_of_a_stream_come_before_its_first_token():
    # Whose prompts are never read.
    unread = fleet(endpoint(profile=replace(FAST, prefill_base_ms=3.6e6)))
    async with serving(unread) as (_, channel):
        call = streaming(channel)(iter([infer_request(output_tokens=5)]))
        async with asyncio.timeout(LONG_S):
            await call.initial_metadata()
        call.cancel()


async def test_a_request_may_choose_its_chunks():
    async with serving() as (_, channel):
        call = streaming(channel)(
            iter(
                [
                    infer_request(output_tokens=20, stream_every=8),
                    infer_request(output_tokens=20, stream_every=0),
                ]
            )
        )
        responses = [response async for response in call]
    assert [bool(response.error_message) for response in responses] == [False] * 4 + [True]


async def test_one_stream_takes_several_requests_and_reports_failures_in_band():
    async with serving() as (_, channel):
        requests = [
            infer_request(output_tokens=2),
            infer_request("none"),
            infer_request(output_tokens=0),
            infer_request(output_tokens=3),
        ]
        call = streaming(channel)(iter(requests))
        responses = [response async for response in call]
        report = report_of(await call.trailing_metadata())
    errors = [response.error_message for response in responses]
    assert [bool(error) for error in errors] == [False, False, True, True, False, False, False]
    assert "none" in errors[2] and "output_tokens" in errors[3]
    assert report["output_tokens"] == 5


@pytest.mark.parametrize("method", ["unary", "stream"])
async def test_cancel_frees_the_sequence(method):
    async with serving() as (emulated, channel):
        request = infer_request("stuck", output_tokens=5)
        replica = emulated.machines()["stuck"].replica
        if method == "unary":
            call = unary(channel, "ModelInfer", pb.ModelInferResponse)(request)
        else:
            call = streaming(channel)(iter([request]))
        await wait_until(lambda: replica.running == 1)
        call.cancel()
        await wait_until(lambda: replica.running == 0)


async def test_hundreds_of_requests_at_once():
    async with serving() as (emulated, channel):
        infer = unary(channel, "ModelInfer", pb.ModelInferResponse)
        calls = [infer(infer_request(output_tokens=20 + i % 7)) for i in range(300)]
        reports = [report_of(await call.trailing_metadata()) for call in calls]
        replica = emulated.machines()["llama"].settle()
        awake_j = replica.energy_j - replica.idle_energy_j
    told_j = sum(report["energy_j"] for report in reports)
    assert told_j == pytest.approx(awake_j, rel=1e-6)
    assert sum(r["output_tokens"] for r in reports) == sum(20 + i % 7 for i in range(300))


async def test_the_round_trip_of_the_origin_is_waited_for(monkeypatch):
    slept = []
    real = asyncio.sleep

    async def sleep(delay_s, *args):
        slept.append(delay_s)
        await real(0)

    async with serving(fleet(endpoint(), rtt_ms=20.0)) as (_, channel):
        infer = unary(channel, "ModelInfer", pb.ModelInferResponse)
        monkeypatch.setattr("router.lab.emulator.emulation.asyncio.sleep", sleep)
        waits = {}
        for origin in ("home", "far", "elsewhere", None):
            slept.clear()
            metadata = (("x-origin", origin),) if origin else ()
            await infer(infer_request(output_tokens=1), metadata=metadata)
            waits[origin] = slept[0]
            # On the way back what was lost meanwhile is not waited for.
            assert len(slept) <= 2 and slept[-1] <= slept[0]
    assert waits == {"home": 0.01, "far": 0.04, "elsewhere": 0.01, None: 0.01}


async def test_fault_code_with_backpressure_trailer():
    async with serving() as (_, channel):
        infer = unary(channel, "ModelInfer", pb.ModelInferResponse)
        busy = await refused(
            infer(infer_request(), metadata=(("x-emulate-fault", "code:RESOURCE_EXHAUSTED"),))
        )
        assert busy.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("grpc-retry-pushback-ms", "200") in list(busy.trailing_metadata())
        by_number = await refused(
            infer(infer_request(), metadata=(("x-emulate-fault", "code:429"),))
        )
        assert by_number.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for bad in ("nonsense", "code:NO_SUCH_CODE"):
            error = await refused(infer(infer_request(), metadata=(("x-emulate-fault", bad),)))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_fault_hang_never_answers():
    async with serving() as (_, channel):
        infer = unary(channel, "ModelInfer", pb.ModelInferResponse)
        error = await refused(
            infer(infer_request(), metadata=(("x-emulate-fault", "hang"),), timeout=0.05)
        )
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_fault_garbage_is_no_protobuf():
    metadata = (("x-emulate-fault", "garbage"),)
    async with serving() as (_, channel):
        payload = await unary(channel, "ModelInfer", None)(infer_request(), metadata=metadata)
        with pytest.raises(Exception, match=r"(?i)pars|wire"):
            pb.ModelInferResponse.FromString(payload)
        call = streaming(channel, None)(iter([infer_request(output_tokens=3)]), metadata=metadata)
        assert (await call.read()).startswith(b"\xff")
        call.cancel()


async def test_fault_half_ends_a_stream_without_the_final_response():
    async with serving(stream_every=2) as (emulated, channel):
        call = streaming(channel)(
            iter([infer_request(output_tokens=20)]), metadata=(("x-emulate-fault", "half"),)
        )
        responses = [response async for response in call]
        assert await call.code() is grpc.StatusCode.OK
        assert emulated.machines()["llama"].replica.running == 0
    assert 1 <= len(responses) <= 7
    assert not any(
        r.infer_response.parameters["triton_final_response"].bool_param for r in responses
    )


@pytest.mark.parametrize("method", ["unary", "stream"])
async def test_fault_reset_drops_everyone_and_comes_back(method):
    metadata = (("x-emulate-fault", "reset"),)
    async with serving() as (_, channel):
        bystander = unary(channel, "ModelInfer", pb.ModelInferResponse)(
            infer_request("stuck", output_tokens=5)
        )
        if method == "unary":
            call = unary(channel, "ModelInfer", pb.ModelInferResponse)(
                infer_request(output_tokens=4), metadata=metadata
            )
        else:
            call = streaming(channel)(iter([infer_request(output_tokens=4)]), metadata=metadata)
            call = drained(call)
        broken = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert (await refused(call)).code() in broken
        assert (await refused(bystander)).code() in broken
        infer = unary(channel, "ModelInfer", pb.ModelInferResponse)
        answer = await infer(infer_request(output_tokens=4), wait_for_ready=True, timeout=LONG_S)
        assert answer.model_name == "llama"


async def drained(call):
    return [response async for response in call]


async def test_fault_slow_stretches_the_answer_not_the_energy(monkeypatch):
    until = []

    async def record(when):
        until.append(when)

    monkeypatch.setattr("router.lab.emulator.emulation.until", record)
    async with serving() as (_, channel):
        infer = unary(channel, "ModelInfer", pb.ModelInferResponse)
        joules = []
        for metadata in ((), (("x-emulate-fault", "slow:1e6"),)):
            now = asyncio.get_running_loop().time()
            call = infer(infer_request(output_tokens=10), metadata=metadata)
            joules.append(report_of(await call.trailing_metadata())["energy_j"])
            until[-1] -= now
    assert joules[0] == pytest.approx(joules[1])
    assert until[1] > 1e3 > until[0]


async def test_a_fault_of_the_endpoint_shows_on_every_call():
    from router.lab.emulator.faults import parse_fault

    async with serving(fault=parse_fault("code:INTERNAL")) as (_, channel):
        infer = unary(channel, "ModelInfer", pb.ModelInferResponse)
        for _ in range(2):
            assert (await refused(infer(infer_request()))).code() is grpc.StatusCode.INTERNAL
