"""Asking a provider over real sockets: every way to fail is its leaf, and none tells a secret."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import math
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
import trustme
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from router.carbon.providers.answers import retry_after_s
from router.carbon.providers.budget import CallBudget, CallLimit
from router.carbon.providers.http import HttpClient, HttpLimits, open_session
from router.carbon.providers.provider import Http
from router.errors import (
    CallBudgetError,
    ConfigError,
    NoDataError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderError,
    ProviderRefusedError,
    ProviderUnavailableError,
)
from tests.carbon.http_support import StillClock

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
SECRETS = ("k3y-in-header-51c0de", "k3y-in-query-9f27ab", "pa55word-7d31", "u5er-name-88")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened:
        yield opened


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http{'s' * (tls is not None)}://{host}:{port}/v3"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw(answer: bytes) -> AsyncIterator[str]:
    """A server that reads a request, sends ``answer`` and hangs up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def answering(
    body: bytes | str, status: int = 200, headers: dict[str, str] | None = None
) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        data = body.encode() if isinstance(body, str) else body
        kind = {"Content-Type": "application/json"}
        return web.Response(body=data, status=status, headers={**kind, **(headers or {})})

    return handle


def client(session: aiohttp.ClientSession, url: str, **more: object) -> HttpClient:
    more.setdefault("clock", StillClock(NOW))
    return HttpClient(lambda: session, url, provider="em", **more)  # type: ignore[arg-type]


async def failure(session: aiohttp.ClientSession, url: str, **more: object) -> ProviderError:
    """How a call with every kind of secret fails; none of them may be told."""
    http = client(session, url, **more)
    with pytest.raises(ProviderError) as caught:
        await http.get_json(
            "/ci/latest",
            params={"zone": "DE", "api_key": SECRETS[1]},
            headers={"auth-token": SECRETS[0]},
            auth=(SECRETS[3], SECRETS[2]),
        )
    whole = "".join(traceback.format_exception(caught.value))
    assert not any(secret in whole for secret in SECRETS)
    assert caught.value.__context__ is None and caught.value.__cause__ is None
    assert str(caught.value).startswith("em /ci/latest: ")
    return caught.value


async def test_asks_as_told_and_decodes(session: aiohttp.ClientSession) -> None:
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response({"zone": "DE"})

    async with serving(handle) as url:
        http: Http = client(session, url + "/")
        answer = await http.get_json(
            "/ci/past-range",
            params={"start": "2022-05-14T00:00:00+00:00"},
            headers={"auth-token": "key"},
            auth=("Jürgen", "a:b"),
        )
    assert answer == {"zone": "DE"}
    assert seen[0].path == "/v3/ci/past-range"
    assert seen[0].query["start"] == "2022-05-14T00:00:00+00:00"
    assert seen[0].headers["auth-token"] == "key"
    assert seen[0].headers["Accept"] == "application/json"
    assert seen[0].headers["User-Agent"].startswith("carbon-router/")
    basic = aiohttp.encode_basic_auth("Jürgen", "a:b", encoding="utf-8")
    assert seen[0].headers["Authorization"] == basic


@pytest.mark.parametrize(
    ("status", "leaf", "told"),
    [
        (400, ProviderAnswerError, "HTTP 400: expected 200"),
        (401, ProviderRefusedError, "the key is wrong, or its plan does not include this"),
        (403, ProviderRefusedError, "HTTP 403"),
        (404, NoDataError, "HTTP 404"),
        (409, ProviderAnswerError, "HTTP 409"),
        (429, ProviderBusyError, "HTTP 429"),
        (500, ProviderUnavailableError, "HTTP 500"),
        (503, ProviderUnavailableError, "HTTP 503"),
        (204, ProviderAnswerError, "HTTP 204"),
        (302, ProviderAnswerError, "it moved; set base_url"),
    ],
)
async def test_a_status_is_its_leaf(
    session: aiohttp.ClientSession, status: int, leaf: type[ProviderError], told: str
) -> None:
    echo = json.dumps({"error": f"no: {SECRETS}"})
    headers = {"Location": f"http://127.0.0.1:1/?key={SECRETS[1]}"}
    async with serving(answering("" if status == 204 else echo, status, headers)) as url:
        error = await failure(session, url)
    assert type(error) is leaf and told in str(error)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"error":"Invalid auth-token"}', "HTTP 401: the key is wrong"),
        ('{"error":"Request unauthorized for zoneKey=DE"}', "its plan does not include this"),
        ('{"message":"You do not have access to this"}', "its plan does not include this"),
        ("Access denied", "the key is wrong, or its plan does not include this"),
        (b"\xff\xfe", "the key is wrong, or its plan does not include this"),
    ],
)
async def test_a_refusal_says_whether_key_or_plan(
    session: aiohttp.ClientSession, body: bytes | str, told: str
) -> None:
    async with serving(answering(body, 401)) as url:
        assert str(await failure(session, url)).endswith(told)


@pytest.mark.parametrize(
    ("header", "after_s"),
    [
        (None, None),
        ("120", 120.0),
        ("0", 0.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("99999999999", 86_400.0),
        ("soon", None),
        ("-5", None),
        ("²", None),
    ],
)
async def test_retry_after(
    session: aiohttp.ClientSession, header: str | None, after_s: float | None
) -> None:
    assert retry_after_s(header or "", NOW) == after_s
    if header == "²":
        return
    headers = {} if header is None else {"Retry-After": header}
    async with serving(answering("{}", 429, headers)) as url:
        error = await failure(session, url)
    assert isinstance(error, ProviderBusyError) and error.retry_after_s == after_s


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ('{"zone":"DE",', "no valid JSON"),
        ("<!DOCTYPE html>", "no valid JSON"),
        ('{"v":' + "9" * 5000 + "}", "no valid JSON"),
        (b"\xff\xfe\xff", "no valid JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
async def test_what_is_no_json_is_no_answer(
    session: aiohttp.ClientSession, body: bytes | str, told: str
) -> None:
    async with serving(answering(body)) as url:
        error = await failure(session, url)
    assert isinstance(error, ProviderAnswerError) and told in str(error)


@pytest.mark.parametrize("content_type", ["text/html", "text/plain; charset=latin1", ""])
async def test_json_under_another_content_type_is_read(
    session: aiohttp.ClientSession, content_type: str
) -> None:
    async with serving(answering('{"a":"ü"}', headers={"Content-Type": content_type})) as url:
        assert await client(session, url).get_json("/x") == {"a": "ü"}


async def test_a_body_that_is_cut_off(session: aiohttp.ClientSession) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    for framing in (b"Content-Length: 999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n"):
        async with raw(head + framing + b'{"a"') as url:
            error = await failure(session, url)
        assert isinstance(error, ProviderAnswerError) and "cut off" in str(error)


async def test_a_body_that_does_not_unzip(session: aiohttp.ClientSession) -> None:
    async with serving(answering(b"not gzip", headers={"Content-Encoding": "gzip"})) as url:
        assert isinstance(await failure(session, url), ProviderAnswerError)


async def test_a_body_over_the_bound_is_refused_before_it_is_read(
    session: aiohttp.ClientSession,
) -> None:
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        try:
            while True:
                await reply.write(b" " * 65_536)
        finally:
            ended.set()

    limits = HttpLimits(max_bytes=100_000)
    async with serving(endless) as url:
        assert "larger than 100000 bytes" in str(await failure(session, url, limits=limits))
        async with asyncio.timeout(5):
            await ended.wait()
    bomb = gzip.compress(b" " * 20_000_000)
    async with serving(answering(bomb, headers={"Content-Encoding": "gzip"})) as url:
        assert "larger than" in str(await failure(session, url, limits=limits))


async def test_no_answer_in_time(session: aiohttp.ClientSession) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/latest"):
            await asyncio.Event().wait()
        reply = web.StreamResponse()
        await reply.prepare(request)
        await reply.write(b"{")
        await asyncio.Event().wait()
        return reply

    limits = HttpLimits(timeout_s=0.05)
    async with serving(hang) as url:
        error = await failure(session, url, limits=limits)
        assert isinstance(error, ProviderUnavailableError)
        assert "no answer within 0.05 s" in str(error)
        with pytest.raises(ProviderUnavailableError, match="no answer within"):
            await client(session, url, limits=limits).get_json("/half")


async def test_nobody_there(session: aiohttp.ClientSession) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        error = await failure(session, f"http://127.0.0.1:{port}")
    assert isinstance(error, ProviderUnavailableError)
    assert "connection failed (ClientConnectorError)" in str(error)
    async with raw(b"") as url:
        error = await failure(session, url)
    assert isinstance(error, ProviderUnavailableError) and "ServerDisconnected" in str(error)


async def test_no_such_host() -> None:
    class Nowhere(AbstractResolver):
        async def resolve(self, *_: object, **__: object) -> list[ResolveResult]:
            raise OSError("Name or service not known")

        async def close(self) -> None:
            pass

    connector = aiohttp.TCPConnector(resolver=Nowhere())
    async with aiohttp.ClientSession(connector=connector) as session:
        error = await failure(session, "http://no-such-host.invalid")
    assert isinstance(error, ProviderUnavailableError) and "host name not found" in str(error)


async def test_an_untrusted_certificate(session: aiohttp.ClientSession) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with serving(answering("{}"), tls=context) as url:
        error = await failure(session, url)
    assert isinstance(error, ProviderUnavailableError) and "TLS failed" in str(error)
    async with serving(answering("{}")) as url:
        error = await failure(session, url.replace("http:", "https:"))
    assert isinstance(error, ProviderUnavailableError) and "TLS failed" in str(error)


async def test_a_server_that_speaks_no_http(session: aiohttp.ClientSession) -> None:
    async with raw(b"\x00\xff" * 50 + b"\r\n\r\n") as url:
        error = await failure(session, url)
    assert isinstance(error, ProviderAnswerError) and "no HTTP" in str(error)


async def test_a_spent_budget_asks_nobody(session: aiohttp.ClientSession) -> None:
    calls = 0

    async def count(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.json_response({})

    clock = StillClock(NOW)
    budget = CallBudget(CallLimit(2, 60.0), CallLimit(3, 3600.0))
    async with serving(count) as url:
        http = client(session, url, clock=clock, budget=budget)
        for _ in range(2):
            await http.get_json("/x")
        with pytest.raises(CallBudgetError, match="2 in 60 s, 3 in 3600 s") as caught:
            await http.get_json("/x")
        assert 60.0 <= caught.value.retry_after_s <= 61.0 and calls == 2
        clock.at += caught.value.retry_after_s
        await http.get_json("/x")
        with pytest.raises(CallBudgetError) as caught:
            await http.get_json("/x")
    assert caught.value.retry_after_s > 3000.0 and calls == 3


async def test_calls_and_failures_are_told_by_reason(session: aiohttp.ClientSession) -> None:
    told: list[tuple[str, str, float]] = []
    clock = StillClock(NOW)

    async def handle(request: web.Request) -> web.Response:
        clock.at += 0.25
        return web.json_response({}, status=int(request.query.get("status", "200")))

    budget = CallBudget(CallLimit(4, 60.0))
    async with serving(handle) as url:
        http = client(
            session, url, clock=clock, budget=budget, on_call=lambda *call: told.append(call)
        )
        await http.get_json("/x")
        for status in ("401", "429", "503", "200"):
            with pytest.raises(ProviderError):
                await http.get_json("/x", params={"status": status})
    assert told == [
        ("em", "", 0.25),
        ("em", "provider_refused", 0.25),
        ("em", "provider_busy", 0.25),
        ("em", "provider_unavailable", 0.25),
        ("em", "call_budget_spent", 0.0),
    ]


async def test_no_more_calls_at_once_than_allowed(session: aiohttp.ClientSession) -> None:
    running, most = 0, 0
    full, go = asyncio.Event(), asyncio.Event()

    async def handle(_: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await go.wait()
        running -= 1
        return web.json_response({})

    async with serving(handle) as url:
        http = client(session, url, limits=HttpLimits(concurrency=3))
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            for _ in range(9):
                group.create_task(http.get_json("/x"))
            await full.wait()
            go.set()
    assert most == 3


async def test_a_cancelled_call_is_cancelled_told_and_frees_its_slot(
    session: aiohttp.ClientSession,
) -> None:
    told: list[str] = []
    entered = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        if request.path.endswith("/hang"):
            entered.set()
            await asyncio.Event().wait()
        return web.json_response({})

    async with serving(handle) as url:
        http = client(
            session,
            url,
            limits=HttpLimits(concurrency=1),
            on_call=lambda _, reason, __: told.append(reason),
        )
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            task = group.create_task(http.get_json("/hang"))
            await entered.wait()
            task.cancel()
        assert task.cancelled()
        assert await http.get_json("/x") == {}
    assert told == ["cancelled", ""]


async def test_a_closed_session_asks_nobody() -> None:
    async with open_session() as session:
        http = client(session, "http://127.0.0.1:1")
    with pytest.raises(ProviderUnavailableError, match="closing"):
        await http.get_json("/x")


async def test_nothing_secret_is_logged(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(answering(f'{{"error":"{SECRETS[0]}"}}', 403)) as url:
        await failure(session, url)
    async with serving(answering("{")) as url:
        await failure(session, url)
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "no url",
        "ftp://x/",
        "http://",
        "http://k3y@x/",
        "http://x/?k=1",
        "http://x/#k",
        "http://[x",
    ],
)
async def test_a_base_url_that_cannot_be_used(session: aiohttp.ClientSession, url: str) -> None:
    with pytest.raises(ConfigError, match="base_url") as caught:
        client(session, url)
    assert "k3y" not in str(caught.value)


@pytest.mark.parametrize("path", ["latest", "/latest?key=1"])
async def test_a_path_with_a_query_is_a_defect(session: aiohttp.ClientSession, path: str) -> None:
    with pytest.raises(ValueError, match="has no query"):
        await client(session, "http://127.0.0.1:1").get_json(path)


async def test_a_proxy_is_asked_in_the_provider_s_place(session: aiohttp.ClientSession) -> None:
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        http = client(session, "http://em.invalid/v4", proxy=f"http://me:pass@127.0.0.1:{port}")
        assert await http.get_json("/ci/latest") == {}
    assert asked[0].startswith(b"GET http://em.invalid/v4/ci/latest HTTP/1.1")
    assert b"Proxy-Authorization: Basic bWU6cGFzcw==" in asked[0]


async def test_a_proxy_that_fails_is_named_as_one_and_never_with_its_password(
    session: aiohttp.ClientSession,
) -> None:
    proxy = f"http://me:{SECRETS[2]}@127.0.0.1:9"
    for url in ("http://em.invalid/v4", "https://em.invalid/v4"):
        error = await failure(session, url, proxy=proxy)
        assert isinstance(error, ProviderUnavailableError) and "the proxy" in str(error)
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with raw(refusal) as url:
        error = await failure(session, "https://em.invalid/v4", proxy=url)
        assert isinstance(error, ProviderUnavailableError) and "407" in str(error)


async def test_what_is_no_number_is_left_to_the_reader_of_its_row(
    session: aiohttp.ClientSession,
) -> None:
    async with serving(answering('{"v": [NaN, -Infinity]}')) as url:
        found = (await client(session, url).get_json("/ci/latest"))["v"]
    assert math.isnan(found[0]) and found[1] == -math.inf
