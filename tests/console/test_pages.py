"""The console's routes over real sockets: who sees what, and how a stream goes on."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from router.console import pages
from router.console.feed import Event, Feed
from router.console.page import page
from router.console.pages import ConsolePages
from router.console.scene import EVERYTHING, Scope
from router.errors import ConfigError, ReceiptsUnreachableError
from router.identity.access import open_access
from router.identity.api_keys import KeyTable
from router.telemetry.admin import AdminServer
from router.telemetry.metrics import Metrics
from router.trust.secrets import Secret
from tests.fakes.secure import Source
from tests.identity.support import CONTROL, EXPIRED, OPERATOR, RIGHT, UNKNOWN, WallHands, access
from tests.telemetry.test_admin import FakeGateway

TOKEN = "a token of this port"


class Told:
    """A `ConsoleSource` that says for whom it was asked."""

    def __init__(self):
        self.feeds = {}
        self.decisions = 3

    def join(self, scope):
        return self.feeds.setdefault(scope, Feed("boot"))

    def beginning(self, scope, feed):
        return feed.beginning([Event("fleet", {"owner": scope.owner})])

    async def state(self, scope):
        return {"owner": scope.owner}

    async def decision(self, scope, key):
        return {"owner": scope.owner, "key": key} if key == "d1" else None

    async def what_if(self, scope, policy):
        if policy != "balanced":
            raise ConfigError("policy", [("", "no such policy")])
        return {"owner": scope.owner, "decisions": self.decisions}

    async def past(self, scope, at):
        if at == 9.0:
            raise ReceiptsUnreachableError("the ledger did not answer in time", 1.0)
        return {"owner": scope.owner, "at": at} if at is None or at < 100.0 else None

    def forecasts(self, zone):
        return {"zone": zone} if zone == "SE" else None


class Served:
    def __init__(self, source, session):
        self.source, self.session = source, session

    async def get(self, path, token="", **headers):
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with self.session.get(path, headers=headers) as reply:
            return reply.status, reply.headers, await reply.read()

    async def owner(self, token=""):
        """Of the scope, or the status."""
        status, _, body = await self.get("/console/state", token)
        if status != 200:
            return status
        return body.decode()


@pytest.fixture
async def serve() -> AsyncIterator:
    open_ones = []

    async def serve(who=None, token=None):
        source, registry = Told(), CollectorRegistry()
        watched = Source(Secret(token)) if token else None
        shown = ConsolePages(source, source, who or open_access(WallHands()), watched, page())
        server = AdminServer(FakeGateway(), Metrics(registry), registry, token=watched, pages=shown)
        port = await server.start("127.0.0.1", 0)
        session = aiohttp.ClientSession(f"http://127.0.0.1:{port}")
        open_ones.append((server, session))
        return Served(source, session)

    yield serve
    for server, session in open_ones:
        await session.close()
        await server.stop()


ALL, ACME = '{"owner":null}', '{"owner":"acme"}'


async def test_where_nobody_is_asked_everybody_sees_all(serve):
    assert await (await serve()).owner() == ALL


async def test_the_token_of_the_port_opens_it(serve):
    served = await serve(token=TOKEN)
    assert [await served.owner(one) for one in (TOKEN, "", "another")] == [ALL, 401, 401]
    for path in ("/console/events", "/console/decisions/d1", "/console/what-if?policy=balanced"):
        assert (await served.get(path))[0] == 401
    # The page alone says nothing of the gateway.
    assert (await served.get("/"))[0] == 200
    assert (await served.get("/metrics"))[0] == 401


async def test_a_role_decides_what_is_seen(serve):
    served = await serve(access())
    assert [await served.owner(one) for one in (OPERATOR, CONTROL)] == [ALL, ACME]
    assert [await served.owner(one) for one in (RIGHT, EXPIRED, UNKNOWN, "")] == [
        403,
        401,
        401,
        401,
    ]


async def test_token_and_credentials_stand_beside_one_another(serve):
    served = await serve(access(), TOKEN)
    assert [await served.owner(one) for one in (TOKEN, OPERATOR, CONTROL, RIGHT)] == [
        ALL,
        ALL,
        ACME,
        403,
    ]


async def test_the_page_is_compressed_cached_and_guarded(serve):
    served = await serve()
    status, headers, body = await served.get("/")
    assert (status, body) == (200, page().body)
    assert headers["Content-Encoding"] == "gzip"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    status, _, body = await served.get("/", **{"If-None-Match": headers["ETag"]})
    assert (status, body) == (304, b"")
    status, headers, _ = await served.get("/", **{"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in headers


async def test_nothing_but_reading_is_possible(serve):
    served = await serve()
    for path in (
        "/",
        "/console/state",
        "/console/events",
        "/console/decisions/d1",
        "/console/what-if",
    ):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            async with served.session.request(method, path) as reply:
                assert reply.status == 405
    # A stream without its body would hold a place for nothing.
    async with served.session.head("/console/events") as reply:
        assert reply.status == 405


async def test_what_is_not_there_is_said_to_be_not(serve):
    served = await serve()
    assert (await served.get("/console/decisions/d1"))[0] == 200
    for key in ("d2", "x" * 2000, "%3Cscript%3E"):
        assert (await served.get(f"/console/decisions/{key}"))[0] == 404
    assert (await served.get("/console/what-if?policy=balanced"))[0] == 200
    status, _, body = await served.get("/console/what-if?policy=/etc/passwd")
    assert status == 400 and b"no such policy" in body


async def read_until(reply, text):
    found = b""
    async with asyncio.timeout(20.0):
        while text not in found:
            found += await reply.content.readany()
    return found


async def test_a_stream_begins_goes_on_and_is_resumed(serve):
    served = await serve()
    async with served.session.get("/console/events") as reply:
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        begun = await read_until(reply, b"event: fleet")
        assert begun.startswith(b"retry: 2000\n\n")
        feed = served.source.feeds[EVERYTHING]
        feed.publish([Event("tick", 1)])
        await read_until(reply, b"id: boot-1\nevent: tick\n")
    feed.publish([Event("tick", 2)])
    headers = {"Last-Event-ID": "boot-1"}
    async with served.session.get("/console/events", headers=headers) as reply:
        found = await read_until(reply, b"id: boot-2")
        assert b"fleet" not in found
    headers = {"Last-Event-ID": "of-another-7"}
    async with served.session.get("/console/events", headers=headers) as reply:
        await read_until(reply, b"event: fleet")


async def test_a_tenant_has_a_stream_of_its_own(serve):
    served = await serve(access())
    headers = {"Authorization": f"Bearer {CONTROL}"}
    async with served.session.get("/console/events", headers=headers) as reply:
        await read_until(reply, b'"owner":"acme"')
    assert set(served.source.feeds) == {Scope("acme")}


async def test_so_many_look_on_and_no_more(serve, monkeypatch):
    monkeypatch.setattr(pages, "MOST_ONLOOKERS", 2)
    served = await serve()
    async with (
        served.session.get("/console/events") as one,
        served.session.get("/console/events") as two,
    ):
        await read_until(one, b"fleet")
        await read_until(two, b"fleet")
        status, headers, _ = await served.get("/console/events")
        assert (status, headers["Retry-After"]) == (503, "10")
    feed = served.source.feeds[EVERYTHING]
    async with asyncio.timeout(20.0):
        while feed.onlookers:
            feed.publish([Event("tick", 1)])
            await asyncio.sleep(0.01)
    async with served.session.get("/console/events") as again:
        assert again.status == 200
        await read_until(again, b"fleet")


async def test_a_reader_that_hangs_is_let_go(serve):
    """It never reads: the others go on, and its connection is broken."""
    served = await serve()
    async with served.session.get("/console/events") as reply:
        await read_until(reply, b"fleet")
        feed = served.source.feeds[EVERYTHING]
        _, writer = await asyncio.open_connection("127.0.0.1", reply.url.port, limit=1024)
        writer.write(b"GET /console/events HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(20.0):
            while len(feed.onlookers) < 2:
                await asyncio.sleep(0.01)
            published = 0
            while len(feed.onlookers) == 2:
                feed.publish([Event("tick", "x" * 400_000)])
                published += 1
                await read_until(reply, b"id: boot-%d\n" % published)
        assert published < 200
        writer.close()


async def test_a_tenant_leaves_places_to_others(serve, monkeypatch):
    monkeypatch.setattr(pages, "MOST_OF_A_TENANT", 1)
    served = await serve(access(), TOKEN)
    mine = {"Authorization": f"Bearer {CONTROL}"}
    async with served.session.get("/console/events", headers=mine) as one:
        await read_until(one, b"fleet")
        assert (await served.get("/console/events", CONTROL))[0] == 503
        everything = {"Authorization": f"Bearer {TOKEN}"}
        async with served.session.get("/console/events", headers=everything) as other:
            assert other.status == 200


async def test_who_may_look_no_more_is_let_go(serve, monkeypatch):
    monkeypatch.setattr(pages, "RECOGNISED_S", 0.0)
    who = access()
    served = await serve(who)
    mine = {"Authorization": f"Bearer {CONTROL}"}
    async with served.session.get("/console/events", headers=mine) as reply:
        await read_until(reply, b"fleet")
        feed = served.source.feeds[Scope("acme")]
        feed.publish([Event("tick", "while it may")])
        await read_until(reply, b"while it may")
        who.credentials = who.credentials._replace(keys=KeyTable([]))
        feed.publish([Event("tick", "of others")])
        async with asyncio.timeout(20.0):
            assert b"of others" not in await reply.content.read()
    assert (await served.get("/console/events", CONTROL))[0] == 401


async def test_whoever_has_it_not_ends_the_connection_as_another_process_may(serve):
    served = await serve()
    for number, *paths in ((3, "decisions/d1"), (0, "decisions/d2")):
        served.source.decisions = number
        for path in (*paths, "what-if?policy=balanced"):
            _, headers, _ = await served.get(f"/console/{path}")
            assert (headers.get("Connection") == "close") == (not number)


async def test_so_many_questions_at_once_and_no_more(serve):
    served = await serve()
    asked, answer = asyncio.Semaphore(0), asyncio.Event()

    async def slowly(scope, key):
        asked.release()
        await answer.wait()
        return {"key": key}

    served.source.decision = slowly
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(served.get("/console/decisions/d1")) for _ in range(4)]
        for _ in tasks:
            await asked.acquire()
        for path in ("decisions/d1", "what-if?policy=balanced", "state"):
            status, headers, _ = await served.get(f"/console/{path}")
            assert (status, headers["Retry-After"]) == (503, "1")
        answer.set()
    assert {task.result()[0] for task in tasks} == {200}
    assert (await served.get("/console/state"))[0] == 200


async def test_what_was_is_told_by_scope_and_no_time_is_taken_for_one(serve):
    served = await serve(access(), TOKEN)
    for token, owner in ((TOKEN, "null"), (CONTROL, '"acme"')):
        status, _, body = await served.get("/console/past?at=7.5", token)
        assert (status, body.decode()) == (200, f'{{"owner":{owner},"at":7.5}}')
    assert (await served.get("/console/past", TOKEN))[2] == b'{"owner":null,"at":null}'
    for path in ("/console/past", "/console/past?at=7", "/console/forecasts?zone=SE"):
        assert [(await served.get(path, one))[0] for one in ("", RIGHT)] == [401, 403]
    for at in ("nan", "inf", "-1", "1e300", "yesterday", "%00"):
        assert (await served.get(f"/console/past?at={at}", TOKEN))[0] == 400
    # Of another worker it may be known.
    status, headers, body = await served.get("/console/past?at=100", TOKEN)
    assert (status, headers["Connection"], body) == (200, "close", b'{"how":"unknown"}')
    status, headers, _ = await served.get("/console/past?at=9", TOKEN)
    assert (status, headers["Retry-After"]) == (503, "1")
    assert (await served.get("/console/forecasts?zone=SE", TOKEN))[0] == 200
    assert (await served.get("/console/forecasts?zone=<b>", TOKEN))[0] == 404
