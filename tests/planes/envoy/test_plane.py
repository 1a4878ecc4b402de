"""The whole of it: Envoy, the module, the gateway's process, emulated servers, stock clients."""

import asyncio
import contextlib
import json
import os
import random

import grpc
import pytest

from router.core.decision_ids import made_by
from tests.e2e import harness as h
from tests.planes.envoy import host as hosts
from tests.planes.envoy import rig

pytestmark = [hosts.missing, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with rig.running(tmp_path_factory.mktemp("envoy"), rig.config()) as (gateway, _):
        yield gateway


async def test_a_stock_client_gets_its_answer_and_the_receipt(fleet):
    async with fleet.client() as client:
        call = client.infer(h.ask(), h.WHOLE_RECEIPT)
        answer = h.pb.ModelInferResponse.FromString(await call)
        receipt = dict(await call.trailing_metadata())
    assert answer.model_name == h.MODEL
    assert receipt["x-carbon-endpoint"] == h.GREEN and receipt["x-carbon-region"] == "north"
    assert receipt["x-carbon-latency-first-endpoint"] == h.NEAR
    assert receipt["x-carbon-g-per-kwh"] == "20"
    assert float(receipt["x-carbon-actual-e2e-ms"]) >= 60.0
    made = made_by(receipt["x-carbon-decision-id"])
    assert made is not None and made.number >= 1 and made.hour is not None
    # About the server, not about the answer.
    assert not [key for key in receipt if key.startswith("endpoint-load-metrics")]
    await h.until(fleet.quiet, "an end")


async def test_unasked_the_receipt_is_one_trailer(fleet):
    async with fleet.client() as client:
        call = client.infer(h.ask(), h.metadata_of({"x_origin": "elsewhere"}))
        await call
        ((key, field),) = await call.trailing_metadata()
    assert key == "x-carbon"
    parts = field.split(", ")
    assert parts[0].startswith('id="')
    assert parts[1:4] == ['region="north"', f'endpoint="{h.GREEN}"', "g_per_kwh=20.0"]
    # Of a stranger's origin, by an annual mean.
    assert parts[-2:] == ["origin_unknown", "carbon_stale"]


async def test_budgets_and_residency_are_kept_and_refused_as_natively(fleet):
    async with fleet.client() as client:
        assert (await client.receipt(x_ttft_budget_ms=40))["endpoint"] == h.NEAR
        assert (await client.receipt(x_residency="US"))["endpoint"] == h.NEAR
        assert (await client.receipt(x_residency="eu, mars"))["endpoint"] == h.GREEN
        refused = {
            ("DEADLINE_EXCEEDED", "budget_impossible"): {"x_ttft_budget_ms": 1},
            ("FAILED_PRECONDITION", "residency_excluded"): {"x_residency": "mars"},
            ("INVALID_ARGUMENT", "metadata_invalid"): {"x_ttft_budget_ms": "0x10"},
        }
        for expected, headers in refused.items():
            assert (await client.refusal(**headers))[:2] == expected
        code, reason, _ = await client.refusal(h.ask("nobody"))
        assert (code, reason) == ("NOT_FOUND", "model_unknown")
        code, reason, _ = await client.refusal(b"\xff\xff")
        assert (code, reason) == ("INVALID_ARGUMENT", "request_malformed")

    async def counted():
        return await fleet.total("refused_total", reason="budget_impossible")

    await h.until(counted, "counting")


async def test_large_messages_pass_whole(fleet):
    request = h.pb.ModelInferRequest.FromString(h.ask())
    request.raw_input_contents[0] = os.urandom(12 * 2**20)
    async with fleet.client() as client:
        assert (await client.receipt(request.SerializeToString()))["endpoint"] == h.GREEN


async def test_chat_completions_pass_as_json_and_as_events(fleet):
    status, headers, body = await fleet.chat(max_tokens=5)
    assert status == 200 and json.loads(body)["usage"]["completion_tokens"] >= 1
    assert 'region="north", endpoint="http-green-0", g_per_kwh=20.0' in headers["x-carbon"]
    status, headers, body = await fleet.chat(stream=True, max_tokens=5)
    assert headers["content-type"].startswith("text/event-stream")
    assert body.rstrip().endswith(b"data: [DONE]") and 'id="' in headers["x-carbon"]
    status, headers, body = await fleet.chat(model="nobody")
    assert (status, headers["x-carbon-reason"]) == (404, "model_unknown")
    assert json.loads(body)["error"]["code"] == "model_unknown"


async def test_streams_sequences_and_what_is_compressed_go_to_the_gateways_own_process(fleet):
    async with fleet.client() as client:
        call = client.stream(h.ask(), h.ask(), metadata=h.WHOLE_RECEIPT)
        messages = h.answers([message async for message in call])
        assert [one.error_message for one in messages] == [""] * 8
        assert dict(await call.trailing_metadata())["x-carbon-endpoint"] == h.GREEN
        held = [await client.receipt(h.ask(sequence_id=7, sequence_start=1))]
        held.append(await client.receipt(h.ask(sequence_id=7), x_ttft_budget_ms=3000))
        assert {one["endpoint"] for one in held} == {h.GREEN}
    channel = grpc.aio.insecure_channel(fleet.address, compression=grpc.Compression.Gzip)
    async with channel:
        call = h.Client(channel).infer(h.ask())
        assert h.pb.ModelInferResponse.FromString(await call).model_name == h.MODEL
        ready = channel.unary_unary(h.SERVICE + "ServerReady")
        assert h.pb.ServerReadyResponse.FromString(await ready(b"")).ready
        nowhere = channel.unary_unary("/some.Other/Method")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await nowhere(b"")
        assert caught.value.code().name == "UNIMPLEMENTED"


async def test_a_receipt_is_to_be_asked_for_by_its_id(fleet):
    _, headers, _ = await fleet.chat(stream=True, max_tokens=5)
    decision_id = headers["x-carbon"].split('id="')[1].partition('"')[0]
    http = fleet.config["server"]["http"]

    async def told():
        status, body = await h.get(http, f"/v1/carbon/receipts/{decision_id}")
        return json.loads(body) if status == 200 else None

    receipt = await h.until(told, "its end")
    assert receipt["endpoint"] == "http-green-0" and receipt["energy_j"] > 0.0
    status, body = await h.get(http, "/v1/models")
    assert status == 200 and rig.CHAT in {one["id"] for one in json.loads(body)["data"]}
    assert (await h.get(http, "/v1/nothing"))[0] == 404


async def test_of_a_stream_joules_are_those_that_its_server_states(fleet):
    _, headers, body = await fleet.chat(stream=True, max_tokens=5)
    comment = body.split(b"\n: energy ")[1].splitlines()[0]
    decision_id = headers["x-carbon"].split('id="')[1].partition('"')[0]

    async def told():
        path = f"/v1/carbon/receipts/{decision_id}"
        status, found = await h.get(fleet.config["server"]["http"], path)
        return json.loads(found) if status == 200 else None

    receipt = await h.until(told, "its end")
    assert receipt["energy_j"] == pytest.approx(json.loads(comment)["joules"], rel=1e-4)


async def test_a_call_without_a_deadline_has_no_budget(fleet):
    before = await fleet.total("latency_budget_total")
    answered = await fleet.total("requests_total", model=h.MODEL, code="OK")
    channel = grpc.aio.insecure_channel(fleet.address)
    async with channel:
        infer = channel.unary_unary(h.SERVICE + "ModelInfer")
        for _ in range(3):
            await infer(h.ask())

        async def counted():
            return await fleet.total("requests_total", model=h.MODEL, code="OK") == answered + 3

        await h.until(counted, "counting")
    assert await fleet.total("latency_budget_total") == before


async def test_places_are_shared_with_the_gateways_own_process(tmp_path):
    made = rig.config()
    for one in made["endpoints"]:
        one["max_in_flight"] = 1
    with rig.running(tmp_path / "f", made) as (gateway, _):
        async with gateway.client() as client:
            stream = client.stream(h.ask(output_tokens=20_000))
            await anext(aiter(stream))

            async def elsewhere():
                return (await client.receipt())["endpoint"] == h.NEAR

            await h.until(elsewhere, "Envoy's knowing of the stream")
            calls = [client.infer(h.ask(output_tokens=1000)) for _ in range(2)]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert [isinstance(one, grpc.aio.AioRpcError) for one in ended].count(True) == 1
            stream.cancel()

            async def back():
                return (await client.receipt())["endpoint"] == h.GREEN

            await h.until(back, "the stream's end")
        await h.until(gateway.quiet, "every end")
        await h.until(gateway.idle, "every end")


async def test_what_ended_is_learned_and_counted(fleet):
    async with fleet.client() as client:
        before = await fleet.total("requests_total", model=h.MODEL, code="OK")
        joules = await fleet.total("energy_joules_total", model=h.MODEL)
        for _ in range(10):
            await client.receipt()

        async def counted():
            now = await fleet.total("requests_total", model=h.MODEL, code="OK")
            return now == before + 10

        await h.until(counted, "counting")
    # What the server says that it took, not an estimate.
    assert await fleet.total("energy_joules_total", model=h.MODEL) > joules


async def test_a_thousand_random_cancels_leave_no_request_behind(fleet):
    draw = random.Random(7)
    async with fleet.client() as client:

        async def one():
            call = client.infer(h.ask(output_tokens=draw.choice([4, 200, 2000])))
            with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError, asyncio.CancelledError):
                async with asyncio.timeout(draw.random() / 3.0):
                    await call

        for _ in range(20):
            await asyncio.gather(*(one() for _ in range(50)))
    await h.until(fleet.quiet, "every end")
    await h.until(fleet.idle, "the gateway's knowing of it")
    async with fleet.client() as client:
        assert (await client.receipt())["endpoint"] == h.GREEN
