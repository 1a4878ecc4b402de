"""One request on one connection: what is written, and what becomes of the connection."""

import asyncio
import contextlib

import aiohttp
import pytest
from multidict import CIMultiDict

from router.backends.openai.exchange import PIECE_BYTES, Connector, Exchange, destination_of
from router.backends.openai.sending import Sending

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def posted(body=b"{}", **fields):
    return Sending("POST", "/v1/chat/completions?a=1", CIMultiDict(fields), body)


@contextlib.asynccontextmanager
async def server(serve):
    """A server that ``serve`` (reader, writer) is; yields there, connector, connections."""
    connections = []

    async def accept(reader, writer):
        connections.append(writer)
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    connector = Connector(limit=0)
    try:
        yield destination_of("http", f"127.0.0.1:{port}", None, 5.0, 8192), connector, connections
    finally:
        await connector.close()
        listening.close()


async def read_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(
        (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0
    )
    return head, await reader.readexactly(size)


async def body_of(exchange):
    return b"".join([part async for part in exchange.content.iter_any()])


UNASKED = b'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"not":1}'


@pytest.mark.parametrize(
    "idle",
    [UNASKED, UNASKED[:-3], b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"],
    ids=["an answer", "half of one", "408"],
)
async def test_what_comes_while_nobody_asked_is_nobodys_answer(idle):
    """It would pass for that of the next request, and each answer from then on for the next's."""
    asked, is_read = [], asyncio.Event()

    async def serve(reader, writer):
        while True:
            _, body = await read_request(reader)
            asked.append(body)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            if len(asked) == 1:
                await is_read.wait()
                writer.write(idle)

    async with server(serve) as (there, connector, connections):
        for number in range(3):
            exchange = Exchange(there)
            await exchange.send(connector, posted(b"%d" % number), 5.0)
            assert (exchange.status, await body_of(exchange)) == (200, b"%d" % number)
            if not number:
                is_read.set()
                (kept,) = [at for held in connector._conns.values() for at in held]
                await until(lambda kept=kept: kept[0].should_close)
        assert (asked, len(connections)) == ([b"0", b"1", b"2"], 2)


async def test_a_server_that_said_anything_was_met():
    """Where it closes then, the request is not sent again as to one that had closed before."""
    asked = []

    async def serve(reader, writer):
        while True:
            _, body = await read_request(reader)
            asked.append(body)
            if body == b"1":
                writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                return
            writer.write(ANSWER)

    async with server(serve) as (there, connector, _):
        first = Exchange(there)
        await first.send(connector, posted(b"0"), 5.0)
        assert await body_of(first) == b"{}" and not first.was_heard
        second = Exchange(there)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await second.send(connector, posted(b"1"), 5.0)
        assert second.was_heard and not second.connects
    assert asked == [b"0", b"1"]


async def until(holds):
    async with asyncio.timeout(5.0):
        while not holds():
            await asyncio.sleep(0)


async def test_what_is_written():
    seen = []

    async def serve(reader, writer):
        while True:
            seen.append(await read_request(reader))
            # What comes before an answer says nothing.
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" + ANSWER)

    questions = (
        posted(b'{"a":1}', authorization="Bearer k"),
        posted(b"--x", **{"content-type": "multipart/form-data"}),
        Sending("DELETE", "/v1/responses/r", CIMultiDict(), None),
        Sending("GET", "/health", CIMultiDict(), None),
    )
    async with server(serve) as (there, connector, connections):
        for asked in questions:
            exchange = Exchange(there)
            with contextlib.suppress(asyncio.IncompleteReadError):
                await exchange.send(connector, asked, 15.0)
            assert exchange.status == 200 and await body_of(exchange) == b"{}"
        # One for all of them.
        assert len(connections) == 1 and not exchange.connects
    host = b"Host: " + there.host.encode()
    assert [(head.removesuffix(b"\r\n\r\n").split(b"\r\n"), body) for head, body in seen] == [
        ([b"POST /v1/chat/completions?a=1 HTTP/1.1", host, b"authorization: Bearer k",
          b"Content-Length: 7", b"Content-Type: application/json"], b'{"a":1}'),
        ([b"POST /v1/chat/completions?a=1 HTTP/1.1", host, b"content-type: multipart/form-data",
          b"Content-Length: 3"], b"--x"),
        ([b"DELETE /v1/responses/r HTTP/1.1", host, b"Content-Length: 0",
          b"Content-Type: application/octet-stream"], b""),
        ([b"GET /health HTTP/1.1", host], b""),
    ]  # fmt: skip


async def test_a_field_that_cannot_be_written_is_not_sent():
    async def serve(reader, writer):
        assert await reader.read() == b""

    async with server(serve) as (there, connector, _):
        with pytest.raises(ValueError, match="header"):
            await Exchange(there).send(connector, posted(x="a\r\ny: b"), 15.0)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
async def test_a_server_that_takes_too_long(begun):
    async def serve(reader, writer):
        await read_request(reader)
        writer.write(begun)
        # Its connection is given up.
        assert await reader.read() == b""

    async with server(serve) as (there, connector, _):
        exchange = Exchange(there)
        with pytest.raises(TimeoutError):
            await exchange.send(connector, posted(), 0.05)
            await body_of(exchange)
        exchange.close()
        assert exchange.connects


async def test_a_long_body_may_be_answered_while_it_is_sent():
    """Nobody else gets the connection: it is in the midst of a request."""
    answered = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await answered.wait()
        while await reader.read(PIECE_BYTES):
            pass

    async with server(serve) as (there, connector, connections):
        exchange = Exchange(there)
        await exchange.send(connector, posted(bytes(64 * 2**20)), 15.0)
        assert await body_of(exchange) == b"{}"
        answered.set()
        again = Exchange(there)
        await again.send(connector, posted(), 15.0)
        assert again.connects and len(connections) == 2
        again.close()


async def test_a_long_body_arrives_whole():
    body = bytes(range(256)) * 4096
    seen = []

    async def serve(reader, writer):
        seen.append((await read_request(reader))[1])
        writer.write(ANSWER)
        await reader.read()

    async with server(serve) as (there, connector, _):
        exchange = Exchange(there)
        await exchange.send(connector, posted(bytearray(body)), 15.0)
        assert await body_of(exchange) == b"{}" and seen == [body]


async def test_what_is_no_http():
    async def serve(reader, writer):
        await read_request(reader)
        writer.write(b"SSH-2.0-x\r\n\r\n")
        await reader.read()

    async with server(serve) as (there, connector, _):
        with pytest.raises(aiohttp.ClientResponseError):
            await Exchange(there).send(connector, posted(), 15.0)


async def test_a_server_that_closes_instead_of_answering():
    async def serve(reader, writer):
        await read_request(reader)

    async with server(serve) as (there, connector, _):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await Exchange(there).send(connector, posted(), 15.0)


async def test_who_reads_an_exchange_that_is_ended_is_told():
    async def serve(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await reader.read()

    async with server(serve) as (there, connector, _):
        exchange = Exchange(there)
        await exchange.send(connector, posted(), 15.0)
        asyncio.get_running_loop().call_soon(exchange.abort)
        with pytest.raises(aiohttp.ClientConnectionError):
            await body_of(exchange)
        exchange.close()
