"""The console on the admin port: the page, its feed, one decision, what-if, and what was.

It reads and nothing else: every route answers GET. The page itself says nothing of the gateway
and is for anybody. Whoever wants more shows the token of the port, or a credential of
`router.identity`: an operator sees everything, whoever has the role `control` what is its own.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Mapping
from typing import Final, Protocol

from aiohttp import web

from router.console.feed import Feed, Onlooker, json_of
from router.console.page import ConsolePage
from router.console.scene import Scope
from router.console.viewers import Viewers
from router.errors import (
    ConfigError,
)
from router.identity.access import Access
from router.trust.secrets import Secret
from router.trust.watched import Watched

PAGE: Final = "/"
STATE: Final = "/console/state"
EVENTS: Final = "/console/events"
DECISIONS: Final = "/console/decisions/"
WHAT_IF: Final = "/console/what-if"
PAST: Final = "/console/past"
FORECASTS: Final = "/console/forecasts"

# Fewer than connections that the port takes, so that there is always one for a probe.
MOST_ONLOOKERS: Final = 32
# Of tenants, so that there is always a place for an operator; and of one of them.
MOST_OF_TENANTS: Final = 24
MOST_OF_A_TENANT: Final = 8
HEARTBEAT_S: Final = 15.0
# Whoever looks on is asked again who it is, as keys are revoked and run out.
RECOGNISED_S: Final = 10.0
# What the kernel keeps for one who does not read.
_SEND_BUFFER: Final = 256 * 1024
_RETRY_MS: Final = 2000
_MOST_KEY: Final = 256
# The year 2200.
_LATEST_S: Final = 7.3e9

_GUARDED: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class ConsoleFeeds(Protocol):
    """What is shown as it is now; every answer is quick, but for what is awaited."""

    def join(self, scope: Scope) -> Feed:
        """The feed of a scope, which from now on is kept up."""
        ...

    def beginning(self, scope: Scope, feed: Feed) -> bytes:
        """What one who begins to look on is told."""
        ...

    async def state(self, scope: Scope) -> Mapping[str, object] | None:
        """All of it at once; None before the first snapshot."""
        ...


class ConsoleAnswers(Protocol):
    """What is asked beside. What is awaited may raise ReceiptsUnreachableError."""

    async def decision(self, scope: Scope, key: str) -> Mapping[str, object] | None:
        """With every term; None of one that is not kept, or is not of the scope."""
        ...

    async def what_if(self, scope: Scope, policy: str) -> Mapping[str, object]:
        """Raises ConfigError."""
        ...

    async def past(self, scope: Scope, at: float | None) -> Mapping[str, object] | None:
        """The scene at ``at``, unix s, None where nothing is known of then; of None how far back
        there is any."""
        ...

    def forecasts(self, zone: str) -> Mapping[str, object] | None:
        """Of a grid zone what was forecast and what came; None of one that is none."""
        ...


class ConsolePages:
    """Of one process."""

    def __init__(
        self,
        feeds: ConsoleFeeds,
        answers: ConsoleAnswers,
        access: Access,
        token: Watched[Secret] | None,
        page: ConsolePage,
    ) -> None:
        """``token``: of the port, None where it has none."""
        self._feeds = feeds
        self._answers = answers
        self._viewers = Viewers(access, token)
        self._page = page
        self._onlookers: dict[Onlooker, tuple[Scope, Feed]] = {}

    def add_to(self, app: web.Application) -> None:
        """Its routes."""
        app.router.add_get(PAGE, self._show)
        app.router.add_get(STATE, self._state)
        app.router.add_get(EVENTS, self._events, allow_head=False)
        app.router.add_get(DECISIONS + "{key}", self._decision)
        app.router.add_get(WHAT_IF, self._what_if)
        app.router.add_get(PAST, self._past)
        app.router.add_get(FORECASTS, self._forecasts)
        app.on_shutdown.append(self._close)

    def guards(self, path: str) -> bool:
        """Whether who may see ``path`` is looked at here."""
        return path == PAGE or path.startswith("/console/")

    async def _show(self, request: web.Request) -> web.Response:
        headers = {**_GUARDED, **self._page.headers}
        if self._page.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        body = self._page.body
        if "gzip" in request.headers.get("Accept-Encoding", "").lower():
            headers["Content-Encoding"] = "gzip"
            body = self._page.compressed
        return web.Response(body=body, headers=headers)

    async def _state(self, request: web.Request) -> web.Response:
        with self._viewers.asked(request) as scope:
            state = await self._feeds.state(scope)
        if state is None:
            return _json({"error": "no snapshot yet"}, 503)
        return _json(state)

    async def _decision(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        with self._viewers.asked(request) as scope:
            found = await self._answers.decision(scope, key) if len(key) <= _MOST_KEY else None
        if found is None:
            return _elsewhere(_json({"error": "not among the newest that are kept here"}, 404))
        return _json(found)

    async def _what_if(self, request: web.Request) -> web.Response:
        with self._viewers.asked(request) as scope:
            try:
                told = await self._answers.what_if(scope, request.query.get("policy", ""))
            except ConfigError as error:
                return _json({"error": str(error)}, 400)
        return _json(told) if told["decisions"] else _elsewhere(_json(told))

    async def _past(self, request: web.Request) -> web.Response:
        text = request.query.get("at", "")
        try:
            at = float(text) if text else None
        except ValueError:
            at = math.nan
        if at is not None and not 0.0 <= at <= _LATEST_S:
            return _json({"error": "at: not a time in unix seconds"}, 400)
        with self._viewers.asked(request) as scope:
            found = await self._answers.past(scope, at)
        if found is None:
            # Asked for by sight, and no error: browsers would tell their users of each.
            return _elsewhere(_json({"how": "unknown"}))
        return _json(found)

    async def _forecasts(self, request: web.Request) -> web.Response:
        with self._viewers.asked(request):
            found = self._answers.forecasts(request.query.get("zone", ""))
        if found is None:
            return _json({"error": "no such grid zone"}, 404)
        return _json(found)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        scope = self._viewers.scope(request)
        if self._is_full(scope):
            text = f"{len(self._onlookers)} look on already\n"
            return web.Response(text=text, status=503, headers={"Retry-After": "10"})
        response = web.StreamResponse(
            headers={
                **_GUARDED,
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        transport = request.transport
        _bound_buffer(transport)
        onlooker = Onlooker(lambda: None if transport is None else transport.abort())
        feed = self._feeds.join(scope)
        # Nothing awaits until it has joined: what it is told first and what follows meet.
        first = feed.since(request.headers.get("Last-Event-ID", ""))
        if first is None:
            first = self._feeds.beginning(scope, feed)
        feed.join(onlooker)
        self._onlookers[onlooker] = (scope, feed)
        try:
            await response.prepare(request)
            await response.write(b"retry: %d\n\n" % _RETRY_MS + first)
            clock = asyncio.get_running_loop().time
            again_at = clock() + RECOGNISED_S
            while (blob := await onlooker.next(HEARTBEAT_S)) is not None:
                if clock() >= again_at:
                    if not self._still_sees(request, scope):
                        break
                    again_at = clock() + RECOGNISED_S
                await response.write(blob)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            feed.leave(onlooker)
            self._onlookers.pop(onlooker, None)
        return response

    async def _close(self, _: web.Application) -> None:
        for onlooker, (_scope, feed) in list(self._onlookers.items()):
            feed.leave(onlooker)

    def _is_full(self, scope: Scope) -> bool:
        if scope.is_all or len(self._onlookers) >= MOST_ONLOOKERS:
            return len(self._onlookers) >= MOST_ONLOOKERS
        tenants = [one for one, _ in self._onlookers.values() if not one.is_all]
        return len(tenants) >= MOST_OF_TENANTS or tenants.count(scope) >= MOST_OF_A_TENANT

    def _still_sees(self, request: web.Request, scope: Scope) -> bool:
        try:
            return self._viewers.scope(request) == scope
        except web.HTTPException:
            return False


def _bound_buffer(transport: asyncio.Transport | None) -> None:
    """Whoever does not read is noticed, instead of filling megabytes of the kernel's."""
    link = None if transport is None else transport.get_extra_info("socket")
    if link is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)


def _elsewhere(response: web.Response) -> web.Response:
    """``response``, and no more on this connection: with workers the next may reach another."""
    response.force_close()
    return response


def _json(value: Mapping[str, object], status: int = 200) -> web.Response:
    return web.Response(
        body=json_of(value),
        status=status,
        headers={
            **_GUARDED,
            "Content-Type": "application/json; charset=utf-8",
            "Cache-Control": "no-store",
        },
    )
