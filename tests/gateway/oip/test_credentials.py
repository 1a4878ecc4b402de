"""The gRPC server over TLS: who is let in, and certificates that change under its calls."""

import asyncio
import contextlib
import datetime

import grpc
import pytest

from router._pb import inference_pb2 as pb
from router._pb.inference_pb2_grpc import GRPCInferenceServiceStub
from router.config.settings import ClientAuth
from router.trust.contexts import ServerTls
from tests.fakes.secure import (
    authority,
    client_certificate,
    material,
    server_certificate,
    server_tls,
)
from tests.gateway.support import QUICK, Script, infer_request, running, soon

HOUR = datetime.timedelta(hours=1)
NOT_REACHED = grpc.StatusCode.UNAVAILABLE


@contextlib.asynccontextmanager
async def client(gateway, believes=None, shows=None):
    credentials = grpc.ssl_channel_credentials(
        (believes or authority()).root,
        shows.key if shows else None,
        shows.chain if shows else None,
    )
    target = f"localhost:{gateway.port}"
    async with grpc.aio.secure_channel(target, credentials, options=QUICK) as channel:
        yield GRPCInferenceServiceStub(channel)


async def outcome(gateway, **ends):
    """The status of one call over a connection of its own."""
    async with client(gateway, **ends) as stub:
        try:
            await soon(stub.ServerLive(pb.ServerLiveRequest(), timeout=15.0))
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


async def test_calls_over_tls_and_none_in_plaintext():
    async with running(Script(), tls=server_tls()) as gateway:
        assert await outcome(gateway) is grpc.StatusCode.OK
        assert await outcome(gateway, believes=authority("another")) is NOT_REACHED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await soon(gateway.stub.ServerLive(pb.ServerLiveRequest(), timeout=15.0))
        assert caught.value.code() is NOT_REACHED
        assert await outcome(gateway) is grpc.StatusCode.OK


async def test_only_clients_whose_certificate_is_right_are_let_in():
    clients = authority("clients")
    old = clients.issue("a", begins=-2 * HOUR, ends=-HOUR)
    async with running(Script(), tls=server_tls(clients=clients)) as gateway:
        for shows in (None, client_certificate("others"), old):
            assert await outcome(gateway, shows=shows) is NOT_REACHED
        good = client_certificate("clients")
        assert await outcome(gateway, shows=good) is grpc.StatusCode.OK


async def test_of_an_optional_certificate_nobody_is_asked():
    tls = ServerTls(server_tls(clients=authority("clients")).source, ClientAuth.OPTIONAL)
    async with running(Script(), tls=tls) as gateway:
        for shows in (None, client_certificate("others")):
            assert await outcome(gateway, shows=shows) is grpc.StatusCode.OK


async def test_new_certificates_are_for_new_connections_and_calls_go_on():
    before, after = authority("before"), authority("after")
    director = Script()
    director.release = asyncio.Event()
    tls = server_tls(server_certificate("before"), clients=before)
    async with (
        running(director, tls=tls) as gateway,
        client(gateway, before, client_certificate("before")) as old,
        asyncio.TaskGroup() as tasks,
    ):
        call = tasks.create_task(soon(old.ModelInfer(infer_request())))
        await soon(director.started.wait())
        tls.source.replace(material(server_certificate("after"), after.root))
        # Neither who believes the old one nor who shows it is met any more.
        for wrong in ({"believes": before, "shows": client_certificate("after")},
                      {"believes": after, "shows": client_certificate("before")}):  # fmt: skip
            assert await outcome(gateway, **wrong) is NOT_REACHED
        right = {"believes": after, "shows": client_certificate("after")}
        assert await outcome(gateway, **right) is grpc.StatusCode.OK
        assert not call.done()
        director.release.set()
        await call
        # Nor is the connection closed.
        await soon(old.ServerLive(pb.ServerLiveRequest()))


async def test_a_kind_of_key_may_change():
    tls = server_tls(server_certificate(kind="rsa"))
    async with running(Script(), tls=tls) as gateway:
        for kind in ("rsa", "ec", "rsa"):
            tls.source.replace(material(server_certificate(kind=kind)))
            assert await outcome(gateway) is grpc.StatusCode.OK


@pytest.mark.parametrize(
    "data", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\x00" * 500, b""]
)
async def test_what_is_no_handshake_is_closed_and_the_server_goes_on(data):
    async with running(Script(), tls=server_tls(), handshake_ms=500) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await soon(reader.read())
        writer.close()
        assert await outcome(gateway) is grpc.StatusCode.OK
