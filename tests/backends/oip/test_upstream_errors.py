"""Statuses of upstream calls into the error tree, said by servers and by the transport itself."""

import asyncio
import contextlib
from dataclasses import replace

import grpc
import pytest

from router.backends.oip.backend import ChannelOptions, GrpcBackend
from router.errors import (
    UpstreamBusyError,
    UpstreamDeniedError,
    UpstreamFaultError,
    UpstreamInternalError,
    UpstreamLostError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamTooLargeError,
    UpstreamUnreachedError,
)
from tests.backends.oip.upstreams import soon, upstream
from tests.factories import endpoint
from tests.gateway.oip.raw_http2 import GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame

C = grpc.StatusCode
LEAVES = {
    C.UNAVAILABLE: UpstreamFaultError,
    C.DATA_LOSS: UpstreamFaultError,
    C.ABORTED: UpstreamFaultError,
    C.CANCELLED: UpstreamFaultError,
    C.INTERNAL: UpstreamInternalError,
    C.UNKNOWN: UpstreamInternalError,
    C.RESOURCE_EXHAUSTED: UpstreamBusyError,
    C.DEADLINE_EXCEEDED: UpstreamTimeoutError,
    C.INVALID_ARGUMENT: UpstreamRejectedError,
    C.NOT_FOUND: UpstreamDeniedError,
    C.FAILED_PRECONDITION: UpstreamDeniedError,
    C.OUT_OF_RANGE: UpstreamRejectedError,
    C.UNIMPLEMENTED: UpstreamDeniedError,
    C.PERMISSION_DENIED: UpstreamDeniedError,
    C.UNAUTHENTICATED: UpstreamDeniedError,
    C.ALREADY_EXISTS: UpstreamRejectedError,
}


def aborting(code, details, trailers=()):
    async def handler(_, context):
        await context.abort(code, details, trailers)

    return handler


@pytest.fixture
async def backend():
    made = GrpcBackend()
    yield made
    await made.close()


async def fail(backend, server, code, details="said why", trailers=()):
    server.unary = aborting(code, details, trailers)
    with pytest.raises(Exception) as unary:
        await soon(backend.unary(server.endpoint, b"", (), 15.0))
    server.stream = aborting(code, details, trailers)
    with pytest.raises(type(unary.value)) as stream:
        await soon(anext(aiter(backend.stream(server.endpoint, b"", (), 15.0))))
    assert str(stream.value) == str(unary.value)
    assert vars(stream.value) == vars(unary.value)
    return unary.value


def test_every_code_that_an_error_may_have_is_mapped():
    assert set(LEAVES) == set(C) - {C.OK}


@pytest.mark.parametrize(("code", "leaf"), LEAVES.items(), ids=lambda x: getattr(x, "name", ""))
async def test_each_code_becomes_its_leaf(backend, code, leaf):
    async with upstream() as server:
        error = await fail(backend, server, code, trailers=(("ce-id", "1"),))
    assert type(error) is leaf
    if leaf in (UpstreamRejectedError, UpstreamDeniedError, UpstreamInternalError):
        assert (str(error), error.status) == ("said why", code.name)
        assert ("ce-id", "1") in error.trailers
    else:
        assert str(error) == f"{server.endpoint.name}: {code.name}: said why"


@pytest.mark.parametrize(
    "details",
    [
        "SERVER: Received message larger than max (5 vs. 4)",
        "grpc: received message larger than max (5 vs. 4)",
        "gRPC message exceeds maximum size 4: 5",
        "received metadata size exceeds hard limit",
    ],
)
async def test_a_message_too_large_for_the_server_is_not_backpressure(backend, details):
    async with upstream() as server:
        error = await fail(backend, server, C.RESOURCE_EXHAUSTED, details)
    assert type(error) is UpstreamTooLargeError
    assert (error.status, str(error)) == ("RESOURCE_EXHAUSTED", details)


async def test_a_real_message_too_large_is_not_backpressure():
    backend = GrpcBackend(ChannelOptions(max_message_bytes=1000))
    async with upstream() as server:

        async def big(*_):
            return bytes(2000)

        server.unary = big
        with pytest.raises(UpstreamTooLargeError, match="larger than max"):
            await soon(backend.unary(server.endpoint, b"", (), 15.0))
        with pytest.raises(UpstreamTooLargeError, match="larger than max"):
            await soon(backend.unary(server.endpoint, bytes(2000), (), 15.0))
    await backend.close()


@pytest.mark.parametrize(
    ("trailers", "retry_after_s"),
    [
        ((), None),
        ((("grpc-retry-pushback-ms", "250"),), 0.25),
        ((("retry-after", "3"),), 3.0),
        ((("retry-after", "3"), ("grpc-retry-pushback-ms", "100")), 0.1),
        ((("grpc-retry-pushback-ms", "-1"),), None),
        ((("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"),), None),
        ((("retry-after", "9" * 40),), None),
        ((("retry-after", "9" * 9),), 86_400.0),
    ],
)
async def test_hints_to_come_back_later_are_read(backend, trailers, retry_after_s):
    async with upstream() as server:
        error = await fail(backend, server, C.RESOURCE_EXHAUSTED, trailers=trailers)
    assert error.retry_after_s == retry_after_s


async def test_long_details_are_cut():
    backend = GrpcBackend()
    async with upstream() as server:
        error = await fail(backend, server, C.UNAVAILABLE, "x" * 3000)
    assert len(str(error)) < 600
    await backend.close()


# What the transport itself says, spoken by a server of raw frames


@contextlib.asynccontextmanager
async def frames(answer):
    """An endpoint that says ``answer(stream)`` to every call, at None it hangs up; its backend."""

    connections, done = [], asyncio.Event()

    async def serve(reader, writer):
        connections.append(writer.transport)
        writer.write(frame(SETTINGS, 0, 0))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(len(PREFACE))
            while True:
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == SETTINGS and not head[4]:
                    writer.write(frame(SETTINGS, 1, 0))
                elif head[3] == HEADERS:
                    said = answer(int.from_bytes(head[5:], "big"))
                    if said is None:
                        break
                    writer.write(said)
                await writer.drain()
        writer.close()
        done.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        backend = GrpcBackend()
        yield backend, replace(endpoint("raw"), address=f"127.0.0.1:{port}")
        await backend.close()
        for transport in connections:
            transport.abort()
        await done.wait()


def reset(code):
    return lambda stream: frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last):
    said = last.to_bytes(4, "big") + (0).to_bytes(4, "big")
    return lambda stream: frame(GOAWAY, 0, 0, said)


@pytest.mark.parametrize("answer", [reset(7), goaway(0)], ids=["refused stream", "goaway"])
async def test_a_stream_that_no_server_processed_was_not_reached(answer):
    async with frames(answer) as (backend, one):
        with pytest.raises(UpstreamUnreachedError) as caught:
            await soon(backend.unary(one, b"", (), 15.0))
    assert not caught.value.refused


@pytest.mark.parametrize("host", ["127.0.0.1", "model-7.internal.invalid"])
async def test_callers_are_not_told_where_a_server_is(host):
    """Who may only infer learns names of endpoints; the cause keeps the rest for operators."""
    backend = GrpcBackend()
    one = endpoint("a", "near", address=f"{host}:1")
    with pytest.raises(UpstreamUnreachedError) as caught:
        await soon(backend.unary(one, b"", (), 15.0))
    await backend.close()
    told = str(caught.value)
    assert told.startswith("a: cannot be reached: ")
    assert ":1" not in told and host not in told
    assert host in caught.value.__cause__.details()


async def test_a_connection_that_breaks_under_a_call_is_lost():
    async with frames(lambda stream: None) as (backend, one):
        with pytest.raises(UpstreamLostError):
            await soon(backend.unary(one, b"", (), 15.0))


@pytest.mark.parametrize(("code", "leaf"), [
    (2, UpstreamInternalError), (8, UpstreamFaultError), (11, UpstreamBusyError)
])  # fmt: skip
async def test_a_stream_that_the_server_resets_is_the_servers_word(code, leaf):
    async with frames(reset(code)) as (backend, one):
        with pytest.raises(leaf):
            await soon(backend.unary(one, b"", (), 15.0))


async def test_a_server_that_only_quotes_the_transport_answered(backend):
    """A proxy, say, that could not reach the server behind it: it has trailers of its own."""
    async with upstream() as server:
        words = "failed to connect to all addresses; last error: connection refused"
        error = await fail(backend, server, C.UNAVAILABLE, words, (("server", "proxy"),))
    assert type(error) is UpstreamFaultError
