"""Requests that no good client sends: a clear error each, and the gateway keeps serving."""

import asyncio

import grpc
import pytest

from router._pb import inference_pb2 as pb
from tests.e2e.harness import SERVICE, answers, ask, port_of
from tests.gateway.oip.raw_http2 import exchange, grpc_request

MALFORMED = {
    "noise": b"\xff" * 64,
    "cut off": ask()[:-3],
    "length beyond the end": b"\x0a\xff\xff\xff\xff\x07tiny",
    "not UTF-8": b"\x0a\x02\xff\xfe",
    "no model": b"",
    "endless varint": b"\x08" + b"\xff" * 20,
}
BUDGETS = [
    "-5",
    "0",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "1e99",
    "3600001",
    "abc",
    "",
    "1_000",
    "5ms",
]
HEADERS = ["x-latency-budget-ms", "x-ttft-budget-ms", "x-tpot-budget-ms"]


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_protobuf_is_refused(client, payload):
    # `refusal` would send a good request in place of empty bytes.
    call = client.infer(payload)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(caught.value.trailing_metadata())["x-carbon-reason"] == "request_malformed"
    assert caught.value.details()


async def test_malformed_protobuf_in_a_stream_is_told_in_band_and_the_stream_goes_on(client):
    call = client.stream(b"\xff" * 64, ask(request_id="good"))
    first, *rest = answers([message async for message in call])
    assert first.error_message
    assert first.infer_response.parameters["x-carbon-reason"].string_param == "request_malformed"
    assert {one.infer_response.id for one in rest} == {"good"}
    assert len(rest) == 4
    assert await call.code() == grpc.StatusCode.OK


async def test_an_oversize_message_is_refused(client):
    """The limit is 1 MiB here."""
    big = pb.ModelInferRequest.FromString(ask())
    big.raw_input_contents.append(bytes(2**20))
    code, reason, details = await client.refusal(big.SerializeToString())
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "message_too_large")
    assert "more than 1048576" in details
    fits = pb.ModelInferRequest.FromString(ask())
    fits.raw_input_contents.append(bytes(2**20 - 1000))
    await client.receipt(fits.SerializeToString())


async def test_an_unknown_model_or_version_is_refused(client):
    code, reason, details = await client.refusal(ask(model="gpt-5"))
    assert (code, reason) == ("NOT_FOUND", "model_unknown")
    assert "tiny" in details
    odd = await client.refusal(ask(model="x" * 900))
    assert odd[:2] == ("NOT_FOUND", "model_unknown")


@pytest.mark.parametrize("budget", [one for one in BUDGETS if one.isascii()])
async def test_an_absurd_budget_is_refused_and_named(client, budget):
    for header in HEADERS:
        code, reason, details = await client.refusal(metadata=((header, budget),))
        assert (code, reason) == ("INVALID_ARGUMENT", "metadata_invalid")
        assert header in details


async def test_a_budget_that_is_only_tiny_is_impossible_not_invalid(client):
    code, reason, _ = await client.refusal(x_latency_budget_ms="1e-9")
    assert (code, reason) == ("DEADLINE_EXCEEDED", "budget_impossible")


async def test_an_origin_nobody_knows_takes_the_default_and_says_so(client):
    receipt = await client.receipt(x_origin="atlantis")
    assert "origin_unknown" in receipt["flags"]


@pytest.mark.parametrize(
    "metadata",
    [
        (("x-origin", "a"), ("x-origin", "b")),
        (("x-residency", " , "),),
        (("x-origin", "o" * 5000),),
        (("x-tenant", "t" * 5000),),
    ],
    ids=["twice", "empty list", "long origin", "long tenant"],
)
async def test_routing_metadata_without_a_meaning_are_refused(client, metadata):
    code, reason, _ = await client.refusal(metadata=metadata)
    assert (code, reason) == ("INVALID_ARGUMENT", "metadata_invalid")


async def test_binary_metadata_travel(client):
    metadata = (("trace-bin", bytes(range(256))), ("x-origin-bin", b"\xff\x00"))
    answer = await client.infer(ask(), metadata)
    assert pb.ModelInferResponse.FromString(answer).model_name == "tiny"


@pytest.mark.parametrize(
    ("header", "value", "told"),
    [
        (b"x-origin", "münchen".encode(), b"metadata_invalid"),
        (b"x-latency-budget-ms", "٣".encode(), b"metadata_invalid"),
        (b"x-residency", b"\xff\xfe", b"metadata_invalid"),
        (b"x-unrelated", "größe".encode(), b""),
    ],
    ids=["origin", "arabic digits", "not UTF-8", "unrelated"],
)
async def test_metadata_that_are_not_ascii(gateway, client, header, value, told):
    """No gRPC client sends such; the wire allows them. Unrelated ones must not hurt either."""
    request = grpc_request(SERVICE.encode() + b"ModelInfer", ask(), [(header, value)])
    async with asyncio.timeout(30.0):
        blocks = await exchange(port_of(gateway.address), request)
    assert told in blocks
    await client.receipt()


async def test_noise_instead_of_http2_is_hung_up_on(gateway, client):
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(gateway.address))
    writer.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 16)
    async with asyncio.timeout(30.0):
        try:
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass
    writer.close()
    await client.receipt()


async def test_an_unknown_method_is_unimplemented(client):
    call = client.channel.unary_unary(SERVICE + "ModelExplode")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", timeout=30.0)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_deadline_in_the_past_is_refused_without_asking_anybody(gateway, client):
    code, *_ = await client.refusal(timeout=0.0)
    assert code == "DEADLINE_EXCEEDED"


async def test_a_stream_nobody_writes_to_ends_well(client):
    call = client.stream()
    assert [message async for message in call] == []
    assert await call.code() == grpc.StatusCode.OK


async def test_bad_requests_leave_a_line_without_their_contents(gateway, client):
    secret = "hunter2-hunter2"
    request = pb.ModelInferRequest.FromString(ask(model="nobody-serves-this"))
    request.raw_input_contents.append(secret.encode())
    await client.refusal(request.SerializeToString(), metadata=(("x-password", secret),))
    await client.refusal(ask(), metadata=(("x-emulate-fault", "code:INTERNAL"), ("k", secret)))
    assert gateway.events("request invalid")
    assert secret not in gateway.log.read_text()
