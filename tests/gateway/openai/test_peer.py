"""Who an HTTP call is from, by its connection."""

import aiohttp
from aiohttp import web

from router.config.settings import ClientAuth
from router.gateway.openai.peer import peer_of
from router.trust.contexts import ServerTls
from router.trust.listener import TlsListener
from router.trust.peer import read_peer
from tests.fakes.secure import authority, client_certificate, client_context, server_tls


async def asked(tls, shows=None):
    """Who a server thinks asked."""
    peers = []

    async def handle(request):
        peers.append(peer_of(request))
        return web.Response()

    server = web.Server(handle)
    listener = TlsListener(server, tls.context, lambda: 10)
    port = await listener.start("127.0.0.1", 0)
    connector = aiohttp.TCPConnector(ssl=client_context(shows=shows))
    try:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"https://localhost:{port}/") as reply,
        ):
            assert reply.status == 200
    finally:
        listener.stop()
        await server.shutdown()
    return peers[0]


async def test_a_certificate_names_its_client():
    mine = client_certificate("clients")
    peer = await asked(server_tls(clients=authority("clients")), mine)
    assert peer == read_peer(mine.der)
    assert peer.spiffe_id == "spiffe://example.org/batch"


async def test_without_one_it_is_from_nobody():
    optional = ServerTls(server_tls(clients=authority("clients")).source, ClientAuth.OPTIONAL)
    assert await asked(optional) is None
    assert await asked(optional, client_certificate("clients")) is not None
    assert await asked(server_tls(), client_certificate("clients")) is None
