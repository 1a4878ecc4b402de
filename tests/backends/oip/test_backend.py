"""What is gRPC's own: its metadata and deadlines, its channels, pooled by address."""

import math

import pytest

from router.backends.oip.backend import ChannelOptions, GrpcBackend
from router.errors import UpstreamError
from tests.backends.oip.upstreams import soon, upstream


@pytest.fixture
async def backend():
    made = GrpcBackend()
    yield made
    await made.close()


async def test_pruning_closes_only_what_is_gone(backend):
    async with upstream() as kept, upstream() as gone:

        async def answer(*_):
            return b"ok"

        kept.unary = gone.unary = answer
        for server in (kept, gone):
            await soon(backend.unary(server.endpoint, b"", (), 15.0))
        await backend.prune([kept.endpoint.address])
        for server in (kept, gone):
            reply = await soon(backend.unary(server.endpoint, b"", (), 15.0))
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
            await soon(backend.unary(server.endpoint, b"", (), 15.0))
    await backend.close()
    assert len(peers) == 2


async def test_binary_metadata_travels_both_ways(backend):
    async with upstream() as server:

        async def answer(_, context):
            context.set_trailing_metadata((("ce-id", "1"), ("b-bin", b"\x01")))
            return b""

        server.unary = answer
        metadata = (("k-bin", b"\xfe"),)
        reply = await soon(backend.unary(server.endpoint, b"", metadata, math.inf))
        assert set(metadata) <= set(server.seen[0][1])
    assert {("ce-id", "1"), ("b-bin", b"\x01")} <= set(reply.trailers)


async def test_the_time_left_travels_on(backend):
    async def answer(*_):
        return b""

    async with upstream() as server:
        server.unary = answer
        await soon(backend.unary(server.endpoint, b"", (), 15.0))
        assert 0.0 < server.seen[0][2] < 15.5  # gRPC rounds up


async def test_an_answer_without_a_message_is_an_error(backend):
    async with upstream() as server:
        with pytest.raises(UpstreamError):
            await soon(backend.ask(server.endpoint, "Silent", b"", (), 15.0))


async def test_cancel_without_iterating_cancels_upstream(backend):
    async with upstream() as server:
        server.stream = server.hang
        stream = backend.stream(server.endpoint, b"", (), math.inf)
        await soon(server.started.wait())
        stream.cancel()
        stream.cancel()
        await soon(server.cancelled.wait())


async def test_names_that_are_ours_do_not_travel_to_a_server(backend):
    """Whoever asked: of a question about a model no header is read before."""
    async with upstream() as server:

        async def answer(*_):
            return b""

        server.unary = answer
        sent = (("x-carbon-gco2e", "0"), ("x-carbon", "0"), ("x_carbon_a", "0"), ("ce-id", "1"))
        await soon(backend.unary(server.endpoint, b"", sent, math.inf))
        got = {key for key, _ in server.seen[0][1]}
    assert "ce-id" in got
    assert not any("carbon" in key for key in got)
