"""The whole server: what strange clients do to it, how it starts, how it ends."""

import asyncio
import socket

import grpc
import pytest

from router._pb import inference_pb2 as pb
from router.clock import WallClock
from router.errors import ConfigError
from router.gateway.oip.server import Gateway, ServerOptions
from router.identity.access import open_access
from tests.gateway.oip.raw_http2 import (
    END_HEADERS,
    HEADERS,
    PREFACE,
    SETTINGS,
    exchange,
    frame,
    grpc_request,
    literal,
)
from tests.gateway.support import Script, Told, error_of, infer_request, running, soon

INFER = b"/inference.GRPCInferenceService/ModelInfer"


async def endless(_):
    yield b"\x0a\x00"
    await asyncio.Event().wait()


async def alive(gateway):
    return (await soon(gateway.stub.ServerLive(pb.ServerLiveRequest()))).live


async def test_non_ascii_metadata_is_refused_by_name():
    async with running(Script()) as gateway:
        sent = grpc_request(INFER, b"\x0a\x05llama", [(b"x-origin", "zürich".encode())])
        blocks = await soon(exchange(gateway.port, sent))
        assert b"grpc-status\x013" in blocks
        assert b"metadata_invalid" in blocks
        assert b"x-origin" in blocks
        assert await alive(gateway)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-tenant", b"\xff\xfe")],
        [(b"ce-source", "é".encode())],
        [(b"blob-bin", b"not base64!")],
        [(b"grpc-timeout", b"forever")],
        [(b"grpc-encoding", b"nonsense")],
    ],
)
async def test_strange_headers_do_not_stop_the_server(headers):
    async with running(Script()) as gateway:
        await soon(exchange(gateway.port, grpc_request(INFER, b"\x0a\x05llama", headers)))
        assert await alive(gateway)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x00" * 200,
        frame(HEADERS, END_HEADERS, 1, b"\xff" * 50),
        frame(HEADERS, END_HEADERS, 1, literal(b":path", INFER)),
    ],
)
async def test_garbage_on_the_wire_does_not_stop_the_server(data):
    async with running(Script()) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(data)
        writer.write_eof()
        await writer.drain()
        assert await alive(gateway)
        writer.close()
        await writer.wait_closed()


async def test_a_taken_port_is_a_configuration_error():
    async with running(Script()) as gateway:
        second = Gateway(
            ServerOptions(f"127.0.0.1:{gateway.port}"),
            Script(),
            None,
            lambda: True,
            dict,
            Told(),
            open_access(WallClock()),
        )
        with pytest.raises(ConfigError, match=r"server.listen: cannot listen on 127.0.0.1"):
            await second.start()
        await second.drain(0.0)
        assert await alive(gateway)


async def test_several_processes_may_share_a_port_when_told_to():
    async with running(Script(), reuse_port=True) as first:
        second = Gateway(
            ServerOptions(f"127.0.0.1:{first.port}", reuse_port=True),
            Script(),
            None,
            lambda: True,
            dict,
            Told(),
            open_access(WallClock()),
        )
        assert await second.start() == first.port
        await second.drain(0.0)


async def test_draining_finishes_what_runs_and_takes_nothing_new():
    director = Script()
    director.release = asyncio.Event()
    async with running(director) as gateway:
        call = gateway.stub.ModelInfer(infer_request())
        await soon(director.started.wait())
        async with asyncio.TaskGroup() as tasks:
            drained = tasks.create_task(gateway.gateway.drain(3600.0))
            await asyncio.sleep(0)
            assert not drained.done()
            director.release.set()
            await soon(call)
            await soon(drained)
        with pytest.raises(ConnectionRefusedError), socket.socket() as probe:
            probe.connect(("127.0.0.1", gateway.port))


async def test_draining_cuts_what_does_not_end_in_time():
    director = Script()
    director.release = asyncio.Event()
    async with running(director) as gateway:
        call = gateway.stub.ModelInfer(infer_request())
        await soon(director.started.wait())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gateway.gateway.drain(0.01))
            code, _, trailers = await error_of(call)
        await soon(director.cancelled.wait())
        await soon(gateway.gateway.wait())
    assert (code, trailers["x-carbon-reason"]) == (grpc.StatusCode.UNAVAILABLE, "draining")


async def test_a_question_that_does_not_end_in_time_is_told_why():
    director = Script()
    director.release = asyncio.Event()
    async with running(director) as gateway:
        call = gateway.stub.ModelMetadata(pb.ModelMetadataRequest(name="llama"))
        await soon(director.started.wait())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gateway.gateway.drain(0.01))
            code, _, trailers = await error_of(call)
    assert (code, trailers["x-carbon-reason"]) == (grpc.StatusCode.UNAVAILABLE, "draining")


async def test_a_small_call_whose_message_does_not_come_in_time_is_told_why():
    async with running(Script()) as gateway:
        path = "/carbonrouter.v1.CarbonRouter/Decide"
        call = gateway.channel.stream_unary(path)()
        while not gateway.gateway.intake.capacity.calls:
            await asyncio.sleep(0.001)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gateway.gateway.drain(0.01))
            code, _, trailers = await error_of(call)
    assert (code, trailers["x-carbon-reason"]) == (grpc.StatusCode.UNAVAILABLE, "draining")


async def test_a_stream_that_does_not_end_in_time_is_told_why():
    director = Script()
    director.streams = endless
    async with running(director) as gateway:
        call = gateway.bytes_stream()(iter([infer_request().SerializeToString()]))
        await soon(call.read())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gateway.gateway.drain(0.01))
            code, _, trailers = await error_of(call.read())
    assert (code, trailers["x-carbon-reason"]) == (grpc.StatusCode.UNAVAILABLE, "draining")


@pytest.mark.parametrize(
    "path",
    [
        "carbonrouter.v1.CarbonRouter/Decide",
        "carbonrouter.v1.CarbonRouter/WatchRegions",
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/List",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "inference.GRPCInferenceService/ModelReady",
    ],
)
async def test_malformed_messages_never_end_in_unknown(path):
    async with running(Script()) as gateway:
        call = gateway.channel.stream_stream(f"/{path}")(iter([b"\x0a\xff\xff"]))
        code, details, trailers = await error_of(call.read())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be decoded" in details
    assert trailers["x-carbon-reason"] == "request_malformed"


async def test_a_fault_of_our_own_in_a_small_call_is_internal_and_told():
    async with running(Script(), ready=lambda: 1 / 0) as gateway:
        call = gateway.channel.unary_unary("/grpc.health.v1.Health/Check")(b"")
        code, details, _ = await error_of(call)
        assert gateway.told.seen == [("HealthCheck", None, "INTERNAL", "internal")]
    assert (code, details) == (grpc.StatusCode.INTERNAL, "internal error")


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        (
            "/inference.GRPCInferenceService/Nonsense",
            grpc.StatusCode.UNIMPLEMENTED,
            "method_unknown",
        ),
        ("/no.such.Service/Method", grpc.StatusCode.UNIMPLEMENTED, "method_unknown"),
        ("/nonsense", grpc.StatusCode.UNIMPLEMENTED, "method_unknown"),
        ("/grpc.health.v1.Health/Check", grpc.StatusCode.NOT_FOUND, "service_unknown"),
    ],
)
async def test_what_is_not_there_is_refused_with_a_reason(path, code, reason):
    async with running(Script()) as gateway:
        call = gateway.channel.unary_unary(path)(b"\x0a\x06nobody")
        found, _, trailers = await error_of(call)
    assert (found, trailers["x-carbon-reason"]) == (code, reason)


async def test_a_call_without_a_message_is_malformed():
    async with running(Script()) as gateway:
        call = gateway.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(iter(()))
        code, _, trailers = await error_of(call)
    assert (code, trailers["x-carbon-reason"]) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "request_malformed",
    )


async def test_calls_beyond_the_limit_are_refused_at_once():
    director = Script()
    director.release = asyncio.Event()
    async with running(director, max_calls=1) as gateway:
        first = gateway.stub.ModelInfer(infer_request())
        await soon(director.started.wait())
        code, _, trailers = await error_of(gateway.stub.ModelInfer(infer_request()))
        director.release.set()
        await soon(first)
    assert (code, trailers["x-carbon-reason"]) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "gateway_full",
    )
    assert int(trailers["grpc-retry-pushback-ms"]) > 0


async def test_nothing_is_held_once_every_call_has_ended():
    async with running(Script(), max_buffered_bytes=1 << 20, max_message_bytes=1 << 20) as gateway:
        big = infer_request()
        big.raw_input_contents.append(bytes(300_000))
        for _ in range(10):
            await soon(gateway.stub.ModelInfer(big))
        intake = gateway.gateway.intake
        assert (intake.capacity.held_bytes, intake.capacity.calls) == (0, 0)


async def closed(reader):
    while await reader.read(4096):
        pass
    return True


async def test_a_connection_without_a_call_is_closed_and_its_client_calls_on():
    async with running(Script(), max_idle_ms=100) as gateway:
        assert await alive(gateway)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(PREFACE + frame(SETTINGS, 0, 0))
        assert await soon(closed(reader))
        assert await alive(gateway)
        writer.close()


async def test_a_connection_that_says_nothing_is_closed():
    async with running(Script(), handshake_ms=100) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        assert await soon(closed(reader))
        writer.close()


async def test_a_connection_beyond_the_limit_is_closed_and_makes_room_later():
    async with running(Script(), max_connections=1) as gateway:
        assert await alive(gateway)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        assert await soon(closed(reader))
        assert await alive(gateway)
        writer.close()


async def test_a_client_keeps_to_the_streams_it_is_told_and_loses_none():
    director = Script()
    async with running(director, max_streams=2) as gateway:
        calls = [gateway.stub.ModelInfer(infer_request()) for _ in range(50)]
        await soon(asyncio.gather(*calls))
    assert len(director.calls) == 50
