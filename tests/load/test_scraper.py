"""Scraping over real sockets: every way in which a server can be unusable is a DataError."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from router.contract import LoadSource
from router.errors import DataError
from router.load.energy_meter import NO_READING
from router.load.scraper import PrometheusLoad, open_session
from router.model import Endpoint, EnergyMeter
from router.trust.access import AccessTable
from tests.fakes.secure import (
    ReachedAlike,
    authority,
    client_certificate,
    material,
    server_certificate,
    server_tls,
)

GOOD = "tgi_queue_size 3\ntgi_batch_current_size 7\n"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def endpoint(url: str, engine: str = "tgi") -> Endpoint:
    return Endpoint("here-0", "here", "127.0.0.1:1", "oip", (), 8, url, engine, False)


@asynccontextmanager
async def serving(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/metrics", handler)
    # Handlers that hang on purpose are cancelled at once on the way out.
    runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http{'s' if context else ''}://{host}:{port}/metrics"
    finally:
        await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened:
        yield opened


def answering(text: str, status: int = 200, content_type: str = "text/plain") -> Handler:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=text, status=status, content_type=content_type)

    return handle


async def test_reads_a_page(session: aiohttp.ClientSession) -> None:
    source: LoadSource = PrometheusLoad(session, timeout_s=5.0)
    async with serving(answering(GOOD)) as url:
        load = await source.read(endpoint(url), 1234.5)
    assert load[:2] == (7.0, 3.0)
    assert load.observed_at == 1234.5


async def test_openmetrics_and_missing_content_type_are_text(
    session: aiohttp.ClientSession,
) -> None:
    async def untyped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD.encode())
        await writer.drain()
        writer.close()

    source = PrometheusLoad(session, timeout_s=5.0)
    async with serving(answering(GOOD, content_type="application/openmetrics-text")) as url:
        assert (await source.read(endpoint(url), 0.0)).queued == 3.0
    server = await asyncio.start_server(untyped, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/metrics"
        assert (await source.read(endpoint(url), 0.0)).queued == 3.0


async def test_a_compressed_page_is_read(session: aiohttp.ClientSession) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(
            body=gzip.compress(GOOD.encode()),
            headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"},
        )

    async with serving(handle) as url:
        assert (await PrometheusLoad(session, 5.0).read(endpoint(url), 0.0)).running == 7.0


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (answering(GOOD, status=500), "HTTP 500"),
        (answering("", status=404), "HTTP 404"),
        (answering(GOOD, content_type="text/html"), "text/html"),
        (answering("{}", content_type="application/json"), "application/json"),
        (answering("garbage\n"), "no tgi_queue_size"),
        (answering(""), "cut off"),
        (answering("tgi_queue_size 3\n"), "tgi_batch_current_size"),
        (answering("tgi_queue_size NaN\ntgi_batch_current_size -7\n"), "no usable count"),
    ],
)
async def test_unusable_answers(
    session: aiohttp.ClientSession, handler: Handler, problem: str
) -> None:
    async with serving(handler) as url:
        with pytest.raises(DataError, match=problem) as caught:
            await PrometheusLoad(session, 5.0).read(endpoint(url), 0.0)
    assert "here-0" in str(caught.value)
    assert url in str(caught.value)


async def test_a_redirect_is_not_followed(session: aiohttp.ClientSession) -> None:
    async def handle(_: web.Request) -> web.Response:
        raise web.HTTPFound("http://127.0.0.1:1/elsewhere")

    async with serving(handle) as url:
        with pytest.raises(DataError, match="HTTP 302"):
            await PrometheusLoad(session, 5.0).read(endpoint(url), 0.0)


async def test_a_dead_server(session: aiohttp.ClientSession) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/metrics"
        with pytest.raises(DataError, match="cannot connect: ") as told:
            await PrometheusLoad(session, 5.0).read(endpoint(url), 0.0)
    assert "ssl" not in str(told.value)


async def test_a_hanging_server(session: aiohttp.ClientSession) -> None:
    async def handle(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(handle) as url:
        with pytest.raises(DataError, match=r"no answer within 0\.05 s"):
            await PrometheusLoad(session, 0.05).read(endpoint(url), 0.0)


async def test_a_server_that_hangs_half_way(session: aiohttp.ClientSession) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await reply.prepare(request)
        await reply.write(b"tgi_queue_size 3\n")
        await asyncio.Event().wait()
        return reply

    async with serving(handle) as url:
        with pytest.raises(DataError, match="no answer within"):
            await PrometheusLoad(session, 0.05).read(endpoint(url), 0.0)


async def test_a_server_that_cuts_the_page_off(session: aiohttp.ClientSession) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\nContent-Type: text/plain\r\n\r\n")
        writer.write(GOOD.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"
        with pytest.raises(DataError, match="ClientPayloadError"):
            await PrometheusLoad(session, 5.0).read(endpoint(url), 0.0)


async def test_a_server_that_speaks_no_http(session: aiohttp.ClientSession) -> None:
    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\xff" * 50 + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"
        with pytest.raises(DataError):
            await PrometheusLoad(session, 5.0).read(endpoint(url), 0.0)


async def test_an_endless_page_is_refused_at_its_bound(session: aiohttp.ClientSession) -> None:
    ended = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await reply.prepare(request)
        try:
            while True:
                await reply.write(b"x\n" * 32768)
        finally:
            ended.set()

    async with serving(handle) as url:
        with pytest.raises(DataError, match="larger than 50000 bytes"):
            await PrometheusLoad(session, 5.0, max_bytes=50_000).read(endpoint(url), 0.0)
        async with asyncio.timeout(5):
            await ended.wait()


async def test_a_compressed_bomb_is_refused_at_its_bound(session: aiohttp.ClientSession) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(
            body=gzip.compress(b"x" * 20_000_000),
            headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"},
        )

    async with serving(handle) as url:
        with pytest.raises(DataError, match="larger than"):
            await PrometheusLoad(session, 5.0, max_bytes=50_000).read(endpoint(url), 0.0)


@pytest.mark.parametrize("url", ["", "not a url", "ftp://127.0.0.1/metrics", "http://"])
async def test_an_unusable_url(session: aiohttp.ClientSession, url: str) -> None:
    with pytest.raises(DataError):
        await PrometheusLoad(session, 5.0).read(endpoint(url), 0.0)


async def test_cancelling_a_read_propagates(session: aiohttp.ClientSession) -> None:
    entered = asyncio.Event()

    async def handle(_: web.Request) -> web.Response:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(handle) as url:
        source = PrometheusLoad(session, 5.0)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(source.read(endpoint(url), 0.0))
            await entered.wait()
            task.cancel()
        assert task.cancelled()


# Pages of endpoints that are reached over TLS, or with a key


KEY = "k3y-of-the-endpoint"


class Page:
    """A page that notes with which key it was asked for."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []

    async def show(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("authorization"))
        return web.Response(text=GOOD)


async def test_a_page_over_tls_is_held_against_the_endpoints_authorities(
    session: aiohttp.ClientSession,
) -> None:
    clients = authority("clients")
    async with serving(answering(GOOD), server_tls(clients=clients).context()) as url:
        shows = client_certificate("clients")
        good = ReachedAlike(shows=shows)
        assert (await PrometheusLoad(session, 5.0, access=good).read(endpoint(url), 0.0)).queued
        for wrong in (ReachedAlike(believes=authority("new"), shows=shows), AccessTable()):
            with pytest.raises(DataError, match=r"(?i)certificate"):
                await PrometheusLoad(session, 5.0, access=wrong).read(endpoint(url), 0.0)
        good.source.replace(material(shows, authority("new").root))
        with pytest.raises(DataError, match=r"(?i)certificate"):
            await PrometheusLoad(session, 5.0, access=good).read(endpoint(url), 0.0)


async def test_a_name_of_the_endpoints_own_holds_for_pages_of_its_host(
    session: aiohttp.ClientSession,
) -> None:
    named = server_tls(authority().issue("llm.internal"))
    async with serving(answering(GOOD), named.context()) as url:
        source = PrometheusLoad(session, 5.0, access=ReachedAlike(server_name="llm.internal"))
        assert (await source.read(endpoint(url), 0.0)).queued == 3.0
        with pytest.raises(DataError, match=r"(?i)certificate"):
            await source.read(replace(endpoint(url), address="elsewhere:1"), 0.0)


async def test_the_key_goes_to_the_endpoints_own_host_and_not_in_the_clear(
    session: aiohttp.ClientSession,
) -> None:
    page = Page()
    secure = ReachedAlike(key=KEY)
    source = PrometheusLoad(session, 5.0, access=secure)
    async with serving(page.show, server_tls(server_certificate()).context()) as url:
        await source.read(endpoint(url), 0.0)
        await source.read(replace(endpoint(url), address="elsewhere:1"), 0.0)
    async with serving(page.show) as url:
        await source.read(endpoint(url), 0.0)
        # In plaintext the endpoint itself gets it so.
        secure._security = {}
        await source.read(endpoint(url), 0.0)
    assert page.keys == [f"Bearer {KEY}", None, None, f"Bearer {KEY}"]


async def test_a_meter_is_read_on_its_own_page_without_the_endpoints_key(
    session: aiohttp.ClientSession,
) -> None:
    keys: list[str | None] = []

    async def show(request: web.Request) -> web.Response:
        keys.append(request.headers.get("Authorization"))
        return web.Response(text='nv_energy_consumption{gpu_uuid="a"} 12.5\n')

    secure = ReachedAlike(key=KEY)
    secure._security = {}
    source = PrometheusLoad(session, 5.0, access=secure)
    async with serving(show) as url:
        metered = replace(endpoint(GOOD), meter=EnergyMeter(url, "triton"))
        assert (await source.meter(metered)).joules == {"a": 12.5}
    assert keys == [None]
    # Nobody is there any more; and who has no meter is not asked.
    assert await source.meter(metered) == NO_READING
    assert await source.meter(endpoint(url)) == NO_READING
