"""The console on the admin port: the page, its feed, one decision with all its terms, what-if.

It reads and nothing else: every route answers GET. The page itself says nothing of the gateway
and is for anybody. Whoever wants more shows the token of the port, or a credential of
`router.identity`: an operator sees everything, whoever has the role `control` what is its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from aiohttp import web

from router.console.feed import Feed, Onlooker, json_of
from router.console.page import ConsolePage
from router.console.scene import EVERYTHING, Scope
from router.errors import (
    CarbonRouterError,
    ConfigError,
    IdentityUnavailableError,
    NotPermittedError,
    UnauthenticatedError,
)
from router.identity.access import Access
from router.identity.principal import Role
from router.trust.peer import PeerCertificate, read_peer
from router.trust.secrets import Secret
from router.trust.watched import Watched

PAGE: Final = "/"
STATE: Final = "/console/state"
EVENTS: Final = "/console/events"
DECISIONS: Final = "/console/decisions/"
WHAT_IF: Final = "/console/what-if"

# Fewer than connections that the port takes, so that there is always one for a probe.
MOST_ONLOOKERS: Final = 32
HEARTBEAT_S: Final = 15.0
_RETRY_MS: Final = 2000
_MOST_KEY: Final = 256

_GUARDED: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class ConsoleSource(Protocol):
    """What the pages ask; every answer is quick, but for those that are awaited."""

    def join(self, scope: Scope) -> Feed:
        """The feed of a scope, which from now on is kept up."""
        ...

    def beginning(self, scope: Scope, feed: Feed) -> bytes:
        """What one who begins to look on is told."""
        ...

    async def state(self, scope: Scope) -> Mapping[str, object] | None:
        """All of it at once; None before the first snapshot."""
        ...

    async def decision(self, scope: Scope, key: str) -> Mapping[str, object] | None:
        """With every term; None of one that is not kept, or is not of the scope."""
        ...

    async def what_if(self, scope: Scope, policy: str) -> Mapping[str, object]:
        """Raises ConfigError."""
        ...


class ConsolePages:
    """Of one process."""

    def __init__(
        self,
        source: ConsoleSource,
        access: Access,
        token: Watched[Secret] | None,
        page: ConsolePage,
    ) -> None:
        """``token``: of the port, None where it has none."""
        self._source = source
        self._access = access
        self._token = token
        self._page = page
        self._onlookers: dict[Onlooker, Feed] = {}

    def add_to(self, app: web.Application) -> None:
        """Its routes."""
        app.router.add_get(PAGE, self._show)
        app.router.add_get(STATE, self._state)
        app.router.add_get(EVENTS, self._events)
        app.router.add_get(DECISIONS + "{key}", self._decision)
        app.router.add_get(WHAT_IF, self._what_if)
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
        state = await self._source.state(self._scope(request))
        if state is None:
            return _json({"error": "no snapshot yet"}, 503)
        return _json(state)

    async def _decision(self, request: web.Request) -> web.Response:
        scope = self._scope(request)
        key = request.match_info["key"]
        found = await self._source.decision(scope, key) if len(key) <= _MOST_KEY else None
        if found is None:
            return _json({"error": "not among the newest that are kept here"}, 404)
        return _json(found)

    async def _what_if(self, request: web.Request) -> web.Response:
        scope = self._scope(request)
        try:
            return _json(await self._source.what_if(scope, request.query.get("policy", "")))
        except ConfigError as error:
            return _json({"error": str(error)}, 400)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        scope = self._scope(request)
        if len(self._onlookers) >= MOST_ONLOOKERS:
            text = f"{MOST_ONLOOKERS} look on already\n"
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
        onlooker = Onlooker(lambda: None if transport is None else transport.abort())
        feed = self._source.join(scope)
        # Nothing awaits until it has joined: what it is told first and what follows meet.
        first = feed.since(request.headers.get("Last-Event-ID", ""))
        if first is None:
            first = self._source.beginning(scope, feed)
        feed.join(onlooker)
        self._onlookers[onlooker] = feed
        try:
            await response.prepare(request)
            await response.write(b"retry: %d\n\n" % _RETRY_MS + first)
            while (blob := await onlooker.next(HEARTBEAT_S)) is not None:
                await response.write(blob)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            feed.leave(onlooker)
            self._onlookers.pop(onlooker, None)
        return response

    async def _close(self, _: web.Application) -> None:
        for onlooker, feed in list(self._onlookers.items()):
            feed.leave(onlooker)

    def _scope(self, request: web.Request) -> Scope:
        """Raises web.HTTPException for whoever may see nothing."""
        if self._token is not None:
            scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() == "bearer" and self._token.value.equals(sent.strip()):
                return EVERYTHING
        if self._access.credentials is None:
            if self._token is None:
                return EVERYTHING
            raise _unauthorized("send the token of this port as `authorization: Bearer ...`")
        metadata = tuple((name.lower(), value) for name, value in request.headers.items())
        try:
            principal = self._access.admit(
                metadata, Role.CONTROL, request.remote or "", lambda: _peer(request)
            )
        except UnauthenticatedError as error:
            raise _unauthorized(str(error)) from None
        except NotPermittedError as error:
            raise web.HTTPForbidden(text=f"{error}\n") from None
        except (IdentityUnavailableError, CarbonRouterError) as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from None
        if principal.has(Role.OPERATOR):
            return EVERYTHING
        return Scope(principal.account)


def _unauthorized(text: str) -> web.HTTPUnauthorized:
    return web.HTTPUnauthorized(text=text + "\n", headers={"WWW-Authenticate": "Bearer"})


def _peer(request: web.Request) -> PeerCertificate | None:
    transport = request.transport
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    shown = connection.getpeercert(binary_form=True) if connection is not None else None
    return read_peer(shown) if shown else None


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
