"""The channels to endpoints: pooled by address, closed when nobody is there any more."""

import pytest

from router.backends.oip.backend import ChannelOptions, GrpcBackend
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
