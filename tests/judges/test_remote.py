"""A judge that is a service: what it is sent, what it may say, and whatever else it does."""

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web

from router.contract import JudgedAnswer
from router.errors import JudgeError
from router.judges import remote
from router.model import HttpJudge

ASKED = JudgedAnswer("chat", "small", "/v1/chat/completions", b'{"n": 1}', b'{"x": 1.0e2}')


@pytest.fixture
async def service():
    """An HTTP server that does what ``says`` returns; what it was sent is in ``seen``."""
    seen = []

    async def handle(request):
        seen.append((request.headers["content-type"], await request.read()))
        return await handle.says()

    app = web.Application()
    app.router.add_post("/judge", handle)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        handle.url, handle.seen = f"http://127.0.0.1:{port}/judge", seen
        handle.session = session
        yield handle
    await runner.cleanup()


def replies(body, status=200, **more):
    async def says():
        return web.Response(status=status, body=body, **more)

    return says


async def ask(service, asked=ASKED, timeout_s=5.0):
    return await remote.ask(service.session, HttpJudge(service.url, 5.0), asked, timeout_s)


@pytest.mark.parametrize("accept", [True, False])
async def test_it_is_sent_both_as_they_travelled_and_says_which(service, accept):
    service.says = replies(json.dumps({"accept": accept, "why": "more is no harm"}).encode())
    assert await ask(service) is accept
    ((kind, sent),) = service.seen
    assert kind == "application/json"
    assert json.loads(sent) == {
        "alias": "chat", "variant": "small", "path": "/v1/chat/completions",
        "request": {"n": 1}, "answer": {"x": 100.0},
    }  # fmt: skip
    assert b"1.0e2" in sent


@pytest.mark.parametrize(
    "says",
    [
        replies(b"{}"), replies(b'{"accept": "yes"}'), replies(b'{"accept": 1}'), replies(b"\xff"),
        replies(b'{"accept": true}', 500), replies(b"", 204), replies(b"[" * 100_000),
        replies(b"", 307, headers={"location": "http://127.0.0.1:1/"}),
        replies(b'{"accept": true, "why": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
    ],
)  # fmt: skip
async def test_whatever_else_it_says_is_no_verdict(service, says):
    service.says = says
    with pytest.raises(JudgeError):
        await ask(service)
    assert len(service.seen) == 1


async def test_it_is_not_waited_for_longer_than_there_is_time(service):
    gone = asyncio.Event()

    async def hang():
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()

    service.says = hang
    with pytest.raises(JudgeError, match=r"within 0\.05 s"):
        await ask(service, timeout_s=0.05)
    await gone.wait()


async def test_one_that_is_not_there_is_no_verdict(service):
    with pytest.raises(JudgeError, match="cannot be asked"):
        await remote.ask(service.session, HttpJudge("http://127.0.0.1:1/", 5.0), ASKED, 5.0)


@pytest.mark.parametrize(
    "asked",
    [ASKED._replace(answer=b"\x1f\x8b"), ASKED._replace(request=b"{} {}")],
)  # fmt: skip
async def test_what_cannot_be_sent_is_not(service, asked):
    with pytest.raises(JudgeError):
        await ask(service, asked)
    assert service.seen == []
