"""Connections within limits, and an orderly end."""

import asyncio
import json
import ssl

import pytest

from router.errors import ConfigError
from router.gateway.openai.server import HttpGateway, HttpServerOptions
from tests.fakes.secure import (
    authority,
    client_context,
    material,
    server_certificate,
    server_tls,
)
from tests.gateway.openai.support import ANSWER, CHUNK, DONE, Routed, Script, serving
from tests.gateway.openai.test_front import ASK, CHAT, STREAM


async def opened(front, data=b""):
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(data)
    return reader, writer


def request(body=ASK):
    data = json.dumps(body).encode()
    return f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data


async def ended(reader):
    """What comes until the connection ends."""
    async with asyncio.timeout(20.0):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def test_a_connection_that_never_asks_is_closed():
    async with serving(head_s=0.05) as front:
        for half in (b"", request()[:30]):
            reader, writer = await opened(front, half)
            assert await ended(reader) == b""
            writer.close()


async def test_one_that_asked_in_time_may_ask_again_later():
    async with serving(head_s=0.2) as front:
        reader, writer = await opened(front, request())
        await reader.readuntil(b"\r\n\r\n")
        # Longer than a first head may take: another client is closed meanwhile.
        slow, other = await opened(front)
        await ended(slow)
        writer.write(request())
        assert b"HTTP/1.1 200" in await reader.readuntil(b'"new":1.0}HTTP/1.1 200 OK\r\n')
        writer.close()
        other.close()


async def test_more_connections_than_there_may_be_are_closed_as_they_come():
    async with serving(max_connections=2) as front:
        first, second = await opened(front, request()), await opened(front, request())
        for reader, _ in (first, second):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        third, writer = await opened(front, request())
        assert await ended(third) == b""
        for _, one in (first, second, (None, writer)):
            one.close()


async def test_an_old_connection_is_closed_after_its_answer():
    async with serving(max_age_s=0.0) as front:
        reader, writer = await opened(front, request())
        assert b"Connection: close" in await ended(reader)
        writer.close()


@pytest.mark.parametrize("streams", [False, True])
async def test_a_drain_lets_calls_finish(streams):
    gate = asyncio.Event()
    director = Script(stream=Routed([CHUNK], gate=gate))
    director.release = gate
    async with serving(director, head_s=3600.0) as front:
        used, other = await opened(front, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        await used.readuntil(b"\r\n\r\n")
        reader, writer = await opened(front, request(STREAM if streams else ASK))
        idle, third = await opened(front)
        await director.started.wait()
        if streams:
            await reader.readuntil(b"\r\n\r\n")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(front.gateway.drain(20.0))
            # Those without a call end at once, whether they had one or not.
            assert await ended(idle) == await ended(used) == b""
            assert not gate.is_set()
            gate.set()
            answer = await ended(reader)
        assert (DONE if streams else b'"new":1.0}') in answer
        with pytest.raises(ConnectionError):
            await opened(front)
        for one in (writer, other, third):
            one.close()


@pytest.mark.parametrize("streams", [False, True])
async def test_what_a_drain_cuts_is_told_why(streams):
    director = Script(stream=Routed([CHUNK], gate=asyncio.Event()))
    director.release = asyncio.Event()
    async with serving(director) as front:
        reader, writer = await opened(front, request(STREAM if streams else ASK))
        await director.started.wait()
        if streams:
            await reader.readuntil(b"\r\n\r\n")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(front.gateway.drain(0.05))
            answer = await ended(reader)
        assert b'"code":"draining"' in answer
        assert answer.startswith(b"HTTP/1.1 503") != streams
        assert front.told.seen[0][2:] == ("503", "draining")
        writer.close()


async def test_an_address_that_is_taken_is_told_by_its_key():
    async with serving() as front:
        taken = HttpServerOptions(f"127.0.0.1:{front.port}")
        with pytest.raises(ConfigError, match=r"server\.http"):
            await HttpGateway(taken, front.parts).start()


# TLS


async def opened_by_tls(front, **ends):
    context = client_context(**ends)
    async with asyncio.timeout(20.0):
        return await asyncio.open_connection("127.0.0.1", front.port, ssl=context,
                                             server_hostname="localhost")  # fmt: skip


async def answered(reader, writer):
    """The head of an answer to one more request."""
    writer.write(request())
    async with asyncio.timeout(20.0):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(ANSWER))
    return head


async def test_over_tls_as_without_and_nothing_without_tls():
    async with serving(tls=server_tls()) as front:
        for _ in range(2):
            reader, writer = await opened_by_tls(front)
            for _ in range(2):
                assert (await answered(reader, writer)).startswith(b"HTTP/1.1 200")
            writer.close()
        reader, writer = await opened(front, request())
        assert b"HTTP" not in await ended(reader)
        writer.close()
        assert len(front.director.calls) == 4


async def test_a_new_certificate_does_not_touch_connections_that_are_open():
    tls = server_tls()
    director = Script()
    director.release = asyncio.Event()
    async with serving(director, tls=tls) as front:
        reader, writer = await opened_by_tls(front)
        writer.write(request())
        await director.started.wait()
        new = server_certificate("new authority")
        tls.source.replace(material(new))
        with pytest.raises(ssl.SSLCertVerificationError):
            await opened_by_tls(front)
        _, other = await opened_by_tls(front, believes=authority("new authority"))
        assert other.get_extra_info("ssl_object").getpeercert(binary_form=True) == new.der
        director.release.set()
        assert b"HTTP/1.1 200" in await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(ANSWER))
        assert b"HTTP/1.1 200" in await answered(reader, writer)
        for one in (writer, other):
            one.close()


async def test_limits_on_connections_hold_over_tls():
    async with serving(tls=server_tls(), max_connections=2, head_s=3600.0) as front:
        first, second = await opened_by_tls(front), await opened_by_tls(front)
        for one in (first, second):
            await answered(*one)
        reader, writer = await opened_by_tls(front)
        assert await ended(reader) == b""
        writer.close()
        for _, one in (first, second):
            one.close()


async def test_a_client_that_is_slow_to_ask_is_closed_over_tls_too():
    async with serving(tls=server_tls(), head_s=0.2) as front:
        silent, no_handshake = await opened(front)
        assert await ended(silent) == b""
        reader, writer = await opened_by_tls(front)
        assert await ended(reader) == b""
        for one in (no_handshake, writer):
            one.close()


async def test_a_drain_over_tls_lets_calls_finish_and_takes_no_more():
    director = Script()
    director.release = asyncio.Event()
    async with serving(director, tls=server_tls()) as front, asyncio.TaskGroup() as tasks:
        reader, writer = await opened_by_tls(front)
        writer.write(request())
        await director.started.wait()
        draining = tasks.create_task(front.gateway.drain(20.0))
        await asyncio.sleep(0)
        with pytest.raises(OSError, match=r"refused|Connect"):
            await opened(front)
        director.release.set()
        assert b"HTTP/1.1 200" in await ended(reader)
        await draining
        writer.close()


async def test_an_address_that_is_taken_is_an_error_with_tls_as_without():
    async with serving(tls=server_tls()) as front:
        other = HttpGateway(
            HttpServerOptions(f"127.0.0.1:{front.port}", tls=server_tls()), front.parts
        )
        with pytest.raises(ConfigError, match="cannot listen"):
            await other.start()
