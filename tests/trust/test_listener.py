"""An address that begins with TLS, on both event loops."""

import asyncio
import errno
import socket
import ssl

import pytest

from router.trust import listener as listener_module
from router.trust.listener import FAILURES, TlsListener, failure_of
from tests.fakes.secure import (
    authority,
    client_certificate,
    client_context,
    material,
    server_certificate,
    server_tls,
)

PATIENCE_S = 20.0


class Echo(asyncio.Protocol):
    made = 0

    def connection_made(self, transport):
        Echo.made += 1
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Place:
    """A listener that echoes."""

    def __init__(self, tls, room=100, **named):
        self.failures = []
        self.room = room
        self.tls = tls
        self.listener = TlsListener(
            Echo, tls.context, lambda: self.room, on_failed=self.failures.append, **named
        )

    async def __aenter__(self):
        self.port = await self.listener.start("127.0.0.1", 0)
        return self

    async def __aexit__(self, *error):
        self.listener.stop()

    async def connect(self, context=None):
        return await soon(
            asyncio.open_connection(
                "127.0.0.1", self.port, ssl=context or client_context(), server_hostname="localhost"
            )
        )

    async def failed(self):
        async with asyncio.timeout(PATIENCE_S):
            while not self.failures:
                await asyncio.sleep(0.005)
        return self.failures.pop(0)


async def soon(awaitable):
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable


async def echoed(reader, writer, text=b"hello"):
    writer.write(text)
    return await soon(reader.readexactly(len(text)))


def shown(writer):
    return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)


async def test_connections_carry_bytes_and_outlive_the_listener():
    async with Place(server_tls()) as place:
        reader, writer = await place.connect()
        assert await echoed(reader, writer) == b"hello"
    assert await echoed(reader, writer, bytes(100_000)) == bytes(100_000)
    with pytest.raises(OSError, match=r"refused|Connect"):
        await place.connect()
    writer.close()


async def test_the_next_connection_is_shown_the_new_certificate_and_the_old_one_lives_on():
    issued = [server_certificate(kind="rsa"), server_certificate()]
    tls = server_tls(issued[0])
    async with Place(tls) as place:
        before = await place.connect()
        tls.source.replace(material(issued[1]))
        after = await place.connect()
        assert [shown(writer) for _, writer in (before, after)] == [one.der for one in issued]
        for reader, writer in (before, after):
            assert await echoed(reader, writer) == b"hello"
            writer.close()


async def test_every_handshake_that_fails_says_why_and_the_next_one_works():
    clients = authority("clients")
    async with Place(server_tls(clients=clients), handshake_s=5.0) as place:
        for shows, why in ((None, "no_certificate"), (client_certificate("others"), "certificate")):
            # Of TLS 1.3 a client only learns afterwards.
            context = client_context(shows=shows, maximum_version=ssl.TLSVersion.TLSv1_2)
            with pytest.raises((OSError, EOFError)):
                await place.connect(context)
            assert await place.failed() == why
        for sent, why in ((b"GET / HTTP/1.1\r\n\r\n", "protocol"), (b"", "gone")):
            _, writer = await asyncio.open_connection("127.0.0.1", place.port)
            writer.write(sent)
            await writer.drain()
            if not sent:
                writer.close()
            assert await place.failed() == why
            writer.close()
        made = await place.connect(client_context(shows=client_certificate("clients")))
        assert await echoed(*made) == b"hello"
        made[1].close()


async def test_a_handshake_that_takes_too_long_is_ended():
    async with Place(server_tls(), handshake_s=0.05) as place:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        assert await soon(reader.read()) == b""
        assert await place.failed() == "timeout"
        writer.close()


async def test_handshakes_beyond_the_room_are_closed_as_they_come():
    async with Place(server_tls(), room=2, handshake_s=60.0) as place:
        most = 2 + listener_module._DONE_SOON
        held = [await asyncio.open_connection("127.0.0.1", place.port) for _ in range(most)]
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        assert await soon(reader.read()) == b""
        writer.close()
        for _, one in held:
            one.close()
        for _ in held:
            await place.failed()
        made = await place.connect()
        assert await echoed(*made) == b"hello"
        made[1].close()


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listener = TlsListener(Echo, server_tls().context, lambda: 1)
        with pytest.raises(OSError, match="Address already in use"):
            await listener.start("127.0.0.1", taken.getsockname()[1])
        listener.stop()


async def test_several_may_share_a_port_where_they_are_told_to():
    tls = server_tls()
    first, second = Place(tls), Place(tls)
    port = await first.listener.start("127.0.0.1", 0, reuse_port=True)
    assert await second.listener.start("127.0.0.1", port, reuse_port=True) == port
    first.listener.stop()
    second.listener.stop()


async def test_without_descriptors_it_looks_again_later(monkeypatch):
    async with Place(server_tls()) as place:
        loop = asyncio.get_running_loop()
        waits = []
        monkeypatch.setattr("router.trust.listener._REST_S", 0.05)
        accept = socket.socket.accept

        def full(listening):
            if len(waits) < 2:
                waits.append(loop.time())
                raise OSError(errno.EMFILE, "Too many open files")
            return accept(listening)

        monkeypatch.setattr(socket.socket, "accept", full)
        made = await place.connect()
        assert await echoed(*made) == b"hello"
        assert len(waits) == 2
        made[1].close()


async def test_stopping_ends_handshakes_under_way():
    async with Place(server_tls(), handshake_s=60.0) as place:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
        while not place.listener._handshakes:
            await asyncio.sleep(0.001)
        place.listener.stop()
        assert await soon(reader.read()) == b""
        writer.close()


def test_every_failure_has_its_word():
    told = {
        failure_of(error)
        for error in (
            ConnectionAbortedError("SSL handshake is taking longer than 10 seconds: aborting"),
            ConnectionResetError(),
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"),
            ssl.SSLCertVerificationError(1, "x"),
        )
    }
    assert told < set(FAILURES)
    assert len(told) == 4


def test_on_uvloop_too():
    uvloop = pytest.importorskip("uvloop")

    async def works():
        await test_the_next_connection_is_shown_the_new_certificate_and_the_old_one_lives_on()
        await test_every_handshake_that_fails_says_why_and_the_next_one_works()
        await test_a_handshake_that_takes_too_long_is_ended()

    uvloop.run(works())
