"""What all fake providers share: an aiohttp app, switchable misbehaviour, a record of the calls.

Misbehaviour is a list of ``Fault`` windows on the world's clock; a provider's file says only what
its API answers when all is well, and where its answers may go wrong.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, ClassVar, NamedTuple

import trustme
from aiohttp import web

from tests.fakes.faults import Fault, Limit, What
from tests.fakes.world import World

NO_ANSWER = 0


class Call(NamedTuple):
    """One request. ``key``: what the caller showed, "" for nothing; ``status`` 0: no answer."""

    at: float
    endpoint: str
    zone: str
    key: str
    query: Mapping[str, str]
    status: int


class Refusal(Exception):
    """A handler's way of answering with something other than 200."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


Handler = Callable[["Ask"], Any]


class Ask(NamedTuple):
    """One request, as a handler sees it. ``now``: the provider's clock, which a fault may freeze.

    ``zone``: the provider's own id, "" where the caller named none.
    """

    request: web.Request
    endpoint: str
    zone: str
    now: float

    def query(self, name: str, default: str = "") -> str:
        return self.request.query.get(name, default)

    def path(self, name: str) -> str:
        return self.request.match_info.get(name, "")


class Fake:
    """A fake provider. ``zones``: its own ids, each with the zone of the world that it stands for.

    ``faults`` and ``limits`` may be changed at any time. ``calls`` records every request.
    """

    name: ClassVar[str] = ""
    content_type: str = "application/json"

    def __init__(
        self,
        world: World,
        zones: Mapping[str, str],
        *,
        faults: Iterable[Fault] = (),
        limits: Iterable[Limit] = (),
    ) -> None:
        self.world = world
        self.zones = dict(zones)
        self.faults = list(faults)
        self.limits = list(limits)
        self.calls: list[Call] = []
        self.release = asyncio.Event()
        self.slow_calls = 0
        self.huge_bytes = 64 << 20

    def app(self) -> web.Application:
        """A fresh application with every route of this provider."""
        app = web.Application()
        for path, endpoint, handler in self.routes():
            app.router.add_get(path, self._serve(endpoint, handler))
        app.router.add_get("/{unknown:.*}", self._serve("", self.unknown_path))
        return app

    def routes(self) -> Iterable[tuple[str, str, Handler]]:
        """(path, endpoint's name, what answers it)."""
        raise NotImplementedError

    def zone_of(self, request: web.Request) -> str:
        """The zone that a request names, "" for none."""
        raise NotImplementedError

    def key_of(self, request: web.Request) -> str:
        """The key that a request shows, "" for none."""
        return ""

    def unknown_path(self, ask: Ask) -> Any:
        raise Refusal(404, {"error": "Not Found"})

    def too_many(self) -> Any:
        """The body of a 429."""
        return {"error": "Too Many Requests"}

    def encode(self, body: Any) -> bytes:
        return json.dumps(body, separators=(",", ":")).encode()

    def pad(self, body: bytes) -> tuple[bytes, bytes, bytes]:
        """A valid body in three parts, of which the middle one may be repeated."""
        return b'{"padding":"', b" " * (1 << 16), b'",' + body.lstrip()[1:]

    def fault(self, what: What, ask_zone: str, endpoint: str) -> Fault | None:
        """The fault of that sort that is on now."""
        now = self.world.now()
        for fault in self.faults:
            if (
                fault.what is what
                and fault.zone in ("", ask_zone)
                and fault.endpoint in ("", endpoint)
                and fault.start <= now < fault.end
            ):
                return fault
        return None

    def on(self, what: What, ask: Ask) -> Fault | None:
        """The fault of that sort that a handler must heed."""
        return self.fault(what, ask.zone, ask.endpoint)

    def other_zone(self, zone: str) -> str:
        """Another zone of this provider, for answers that are about somewhere else."""
        return next((name for name in self.zones if name != zone), "ELSEWHERE")

    def world_zone(self, zone: str) -> str:
        return self.zones.get(zone, zone)

    def _serve(self, endpoint: str, handler: Handler) -> Callable[..., Any]:
        async def serve(request: web.Request) -> web.StreamResponse:
            zone = self.zone_of(request)
            status, headers = 200, {}
            try:
                await self._before(zone, endpoint, request)
                frozen = self.fault(What.FROZEN, zone, endpoint)
                now = frozen.start if frozen else self.world.now()
                body = self.encode(handler(Ask(request, endpoint, zone, now)))
            except Refusal as refusal:
                status, headers = refusal.status, refusal.headers
                body = self.encode(refusal.body)
            self._record(endpoint, zone, request, status)
            if status == NO_ANSWER:
                return web.Response()
            headers["Date"] = http_date(self.world.now())
            if status != 200:
                return self._whole(body, status, headers)
            return await self._after(body, zone, endpoint, request, headers)

        return serve

    async def _before(self, zone: str, endpoint: str, request: web.Request) -> None:
        """What goes wrong before anybody looks at the request."""
        if self.fault(What.SLOW, zone, endpoint):
            self.slow_calls += 1
            await self.release.wait()
        if self.fault(What.DEAD, zone, endpoint):
            assert request.transport is not None
            request.transport.abort()
            raise Refusal(NO_ANSWER, "")
        if broken := self.fault(What.SERVER_ERROR, zone, endpoint):
            raise Refusal(broken.status, {"message": "Internal server error"})
        if busy := self.fault(What.TOO_MANY, zone, endpoint):
            raise self._busy(busy.retry_after_s, busy.as_date)
        for limit in self.limits:
            if limit.endpoint in ("", endpoint):
                since = self.world.now() - limit.per_s
                same = [
                    c for c in self.calls if c.at > since and limit.endpoint in ("", c.endpoint)
                ]
                if len(same) >= limit.calls:
                    raise self._busy(math.ceil(same[-limit.calls].at - since), False)

    def _busy(self, retry_after_s: float | None, as_date: bool) -> Refusal:
        headers = {}
        if retry_after_s is not None:
            at = http_date(self.world.now() + retry_after_s)
            headers["Retry-After"] = at if as_date else f"{retry_after_s:.0f}"
        return Refusal(429, self.too_many(), headers)

    async def _after(
        self, body: bytes, zone: str, endpoint: str, request: web.Request, headers: dict[str, str]
    ) -> web.StreamResponse:
        """What goes wrong with a good answer on its way out."""

        def on(what: What) -> Fault | None:
            return self.fault(what, zone, endpoint)

        if on(What.TRUNCATED):
            return await self._cut_off(body, request, headers)
        if on(What.HUGE):
            return await self._huge(body, request, headers)
        if on(What.HTML):
            page = b"<!DOCTYPE html><html><body><h1>Just a moment</h1></body></html>"
            return self._whole(page, 200, headers, "text/html")
        if on(What.EMPTY):
            body = b""
        elif on(What.INVALID):
            body = body[: len(body) // 2]
        return self._whole(body, 200, headers)

    def _whole(
        self, body: bytes, status: int, headers: Mapping[str, str], content_type: str = ""
    ) -> web.Response:
        kind = {"Content-Type": content_type or self.content_type}
        return web.Response(body=body, status=status, headers={**headers, **kind})

    async def _cut_off(
        self, body: bytes, request: web.Request, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={**headers, "Content-Type": self.content_type})
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.close()
        return response

    async def _huge(
        self, body: bytes, request: web.Request, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        head, padding, tail = self.pad(body)
        response = web.StreamResponse(headers={**headers, "Content-Type": self.content_type})
        await response.prepare(request)
        await response.write(head)
        with suppress(ConnectionResetError):  # the caller has had enough
            for _ in range(self.huge_bytes // len(padding)):
                await response.write(padding)
            await response.write(tail)
        return response

    def _record(self, endpoint: str, zone: str, request: web.Request, status: int) -> None:
        call = Call(
            self.world.now(), endpoint, zone, self.key_of(request), dict(request.query), status
        )
        self.calls.append(call)


@asynccontextmanager
async def serving(fake: Fake, *, tls: bool = False) -> AsyncIterator[str]:
    """The base URL of ``fake`` on a port of 127.0.0.1; ``tls``: behind a certificate of nobody's.

    A request still being answered at the end is cancelled.
    """
    runner = web.AppRunner(
        fake.app(), shutdown_timeout=0.01, handler_cancellation=True, access_log=None
    )
    await runner.setup()
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"http{'s' * tls}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def http_date(when: float) -> str:
    """``when`` as HTTP writes it."""
    return format_datetime(datetime.fromtimestamp(when, UTC), usegmt=True)


def iso(when: float, timespec: str = "seconds") -> str:
    """``2022-05-14T00:00:00Z``; ``timespec`` milliseconds or minutes for other precisions."""
    text = datetime.fromtimestamp(when, UTC).isoformat(timespec=timespec)
    return text.replace("+00:00", "Z")


def parse_time(text: str) -> float:
    """Unix seconds of an ISO 8601 stamp; UTC where it says nothing. Raises ValueError."""
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
