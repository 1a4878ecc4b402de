"""Whom emulated servers answer."""

import aiohttp
import grpc
import pytest

from router._pb import inference_pb2 as pb
from router.config.settings import ClientAuth
from router.errors import ConfigError
from router.lab.emulator.guard import EmulatorGuard, build_guard
from router.trust.secrets import Secret
from tests.fakes.secure import authority, client_certificate, client_context, server_certificate
from tests.lab.emulator.fleets import endpoint, fleet, listening, unary

KEY = "emulated-k3y"
CHAT = {"model": "llama", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


@pytest.fixture
def guard(tmp_path):
    """Over TLS, for clients of ours that have the key."""
    cert, key = server_certificate().write(tmp_path)
    ca = authority("clients").write(tmp_path)
    return build_guard(cert, key, ca, "KEY", {"KEY": KEY})


@pytest.mark.parametrize(
    "fields",
    [[("authorization", f"Bearer {KEY}")], [("X-Api-Key", KEY)], [("x", "1"), ("x-api-key", KEY)]],
)
def test_the_key_in_either_header_is_let_in(fields):
    guard = EmulatorGuard(key=Secret(KEY))
    assert guard.admits(fields)
    assert not guard.admits([(name, value[:-1]) for name, value in fields])
    assert not guard.admits([])
    assert EmulatorGuard().admits([])


def test_options(tmp_path, guard):
    assert guard.tls.client_auth is ClientAuth.REQUIRED
    cert, key = server_certificate().write(tmp_path)
    assert build_guard(cert, key, None, "", {}).tls.client_auth is ClientAuth.NONE
    assert build_guard(None, None, None, "", {}) == EmulatorGuard()
    for wrong in ((cert, None, None, ""), (None, None, key, ""), (None, None, None, "NO")):
        with pytest.raises(ConfigError):
            build_guard(*wrong, {})
    with pytest.raises(ConfigError, match=r"--tls\.cert_file"):
        build_guard(key, key, None, "", {})


async def test_over_grpc(guard):
    mine = client_certificate("clients")
    good = grpc.ssl_channel_credentials(authority().root, mine.key, mine.chain)
    async with listening(fleet(), guard=guard) as emulated:
        async with grpc.aio.secure_channel(emulated.address, good) as channel:
            ready = unary(channel, "ServerReady", pb.ServerReadyResponse)
            assert (await ready(pb.ServerReadyRequest(), metadata=(("x-api-key", KEY),))).ready
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ready(pb.ServerReadyRequest())
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        async with grpc.aio.insecure_channel(emulated.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await unary(channel, "ServerReady", pb.ServerReadyResponse)(pb.ServerReadyRequest())


async def test_over_http(guard):
    the_fleet = fleet(endpoint(protocol="openai"))
    context = client_context(shows=client_certificate("clients"))
    async with (
        listening(the_fleet, guard=guard) as emulated,
        aiohttp.ClientSession(
            f"https://{emulated.address}", connector=aiohttp.TCPConnector(ssl=context)
        ) as session,
    ):
        for headers, status in (({}, 401), ({"authorization": f"Bearer {KEY}"}, 200)):
            for path in ("/v1/chat/completions",):
                async with session.post(path, json=CHAT, headers=headers) as reply:
                    assert reply.status == status
            for path in ("/v1/models", "/metrics"):
                async with session.get(path, headers=headers) as reply:
                    assert reply.status == status
        async with session.get("/health") as reply:
            assert reply.status == 200
