"""Who a gRPC call is from, by its connection."""

import grpc

from router.trust.peer import read_peer
from tests.backends.oip.upstreams import soon, upstream
from tests.fakes.secure import authority, client_certificate, server_tls

INFER = "/inference.GRPCInferenceService/ModelInfer"


async def answer(_, context):
    return b""


async def called(server, credentials=None):
    """Who the server thinks asked."""
    address = server.endpoint.address
    channel = (
        grpc.aio.insecure_channel(address)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials)
    )
    async with channel:
        await soon(channel.unary_unary(INFER)(b""))
    return server.peers[-1]


async def test_a_certificate_names_its_client():
    mine = client_certificate("clients")
    async with upstream(tls=server_tls(clients=authority("clients"))) as server:
        server.unary = answer
        credentials = grpc.ssl_channel_credentials(authority().root, mine.key, mine.chain)
        peer = await called(server, credentials)
    assert peer == read_peer(mine.der)
    assert (peer.subject, peer.spiffe_id) == ("CN=batch", "spiffe://example.org/batch")


async def test_without_one_it_is_from_nobody():
    mine = client_certificate("clients")
    async with upstream(tls=server_tls()) as secure, upstream() as plain:
        secure.unary = plain.unary = answer
        shown = grpc.ssl_channel_credentials(authority().root, mine.key, mine.chain)
        assert await called(secure, shown) is None
        assert await called(plain) is None
