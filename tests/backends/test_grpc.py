"""Status codes into the error tree, and the channel pool."""

import grpc
import pytest

from router.backends.grpc import ChannelOptions, GrpcBackend
from router.errors import (
    UpstreamBusyError,
    UpstreamFaultError,
    UpstreamInternalError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from tests.backends.upstreams import soon, upstream

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
    C.NOT_FOUND: UpstreamRejectedError,
    C.FAILED_PRECONDITION: UpstreamRejectedError,
    C.OUT_OF_RANGE: UpstreamRejectedError,
    C.UNIMPLEMENTED: UpstreamRejectedError,
    C.PERMISSION_DENIED: UpstreamRejectedError,
    C.UNAUTHENTICATED: UpstreamRejectedError,
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
        await soon(backend.unary(server.endpoint, "ModelInfer", b"", (), 15.0))
    server.stream = aborting(code, details, trailers)
    with pytest.raises(type(unary.value)) as stream:
        await soon(anext(aiter(backend.stream(server.endpoint, b"", (), 15.0))))
    assert str(stream.value) == str(unary.value)
    assert stream.value.trailers == unary.value.trailers
    return unary.value


def test_every_code_that_an_error_may_have_is_mapped():
    assert set(LEAVES) == set(C) - {C.OK}


@pytest.mark.parametrize(("code", "leaf"), LEAVES.items(), ids=lambda x: getattr(x, "name", ""))
async def test_each_code_becomes_its_leaf(backend, code, leaf):
    async with upstream() as server:
        error = await fail(backend, server, code, trailers=(("ce-id", "1"),))
    assert type(error) is leaf
    assert error.code == code.name
    assert ("ce-id", "1") in error.trailers
    assert "said why" in str(error)
    if leaf is UpstreamRejectedError:
        assert str(error) == "said why"


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
    assert type(error) is UpstreamRejectedError
    assert (error.code, str(error)) == ("RESOURCE_EXHAUSTED", details)


async def test_a_real_message_too_large_is_not_backpressure():
    backend = GrpcBackend(ChannelOptions(max_message_bytes=1000))
    async with upstream() as server:

        async def big(*_):
            return bytes(2000)

        server.unary = big
        with pytest.raises(UpstreamRejectedError, match="larger than max"):
            await soon(backend.unary(server.endpoint, "ModelInfer", b"", (), 15.0))
        with pytest.raises(UpstreamRejectedError, match="larger than max"):
            await soon(backend.unary(server.endpoint, "ModelInfer", bytes(2000), (), 15.0))
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


async def test_pruning_closes_only_what_is_gone(backend):
    async with upstream() as kept, upstream() as gone:

        async def answer(*_):
            return b"ok"

        kept.unary = gone.unary = answer
        for server in (kept, gone):
            await soon(backend.unary(server.endpoint, "ModelInfer", b"", (), 15.0))
        await backend.prune([kept.endpoint.address])
        for server in (kept, gone):
            reply = await soon(backend.unary(server.endpoint, "ModelInfer", b"", (), 15.0))
            assert reply.payload == b"ok"


async def test_several_channels_take_turns():
    backend = GrpcBackend(ChannelOptions(channels_per_endpoint=2))
    peers = set()
    async with upstream() as server:

        async def answer(_, context):
            peers.add(context.peer())
            return b""

        server.unary = answer
        for _ in range(4):
            await soon(backend.unary(server.endpoint, "ModelInfer", b"", (), 15.0))
    await backend.close()
    assert len(peers) == 2
