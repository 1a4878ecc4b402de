"""The HTTP server: one listening address, its connections, and its orderly end."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from router.errors import (
    ConfigError,
    DrainingError,
    MalformedRequestError,
    MetadataTooLargeError,
)
from router.gateway.openai.ending import SERVER
from router.gateway.openai.front import Front, FrontParts, Limits
from router.gateway.openai.refusal import refusal_of
from router.http_api import api_of
from router.trust.contexts import ServerTls
from router.trust.listener import TlsListener

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
# What `web.Server` takes for itself; the rest is of each connection.
_OF_SERVER: Final = frozenset(("handler_cancellation", "request_factory", "loop"))
# Connections that nobody has looked at yet; the kernel's own limit is 4,096 mostly.
_BACKLOG: Final = 4096
# How often a drain looks whether all is done, and how long what is cut has for its last word.
_LOOK_S: Final = 0.02
_LAST_WORD_S: Final = 0.5
# How often one from which nothing is read is asked whether it is still there: ever more seldom,
# for there may be thousands.
_GONE_LOOK_S: Final = 0.025
_MOST_GONE_LOOK_S: Final = 0.4
_LOOKS_RARER: Final = 1.25
# First byte of Linux's tcp_info, of a connection whose other end closed it: TCP_CLOSE, _CLOSE_WAIT.
_CLOSED: Final = (7, 8)


class HttpServerOptions(NamedTuple):
    """``listen``: ``host:port``, port 0 for any free one. ``reuse_port``: several processes share
    it. ``max_connections``: of clients at once; more are closed as they come. ``head_s``: how long
    a new connection may take to send its first request's head. ``idle_s``: a connection without a
    call is closed. ``max_age_s``: one is closed after the first answer beyond it. ``silence_s``: a
    client that takes nothing of its answer for so long is given up (Linux). ``tls``: None for
    plaintext."""

    listen: str
    max_body_bytes: int = 64 * 2**20
    max_header_bytes: int = 16 * 2**10
    max_connections: int = 8_192
    head_s: float = 10.0
    idle_s: float = 300.0
    max_age_s: float = 1800.0
    silence_s: float = 60.0
    reuse_port: bool = False
    tls: ServerTls | None = None


class HttpGateway:
    """One listening server. Build it inside a running event loop.

    A client that goes away cancels its call at once, wherever that is. So does one that closes its
    sending side after the request, as HTTP/1.1 allows and few clients do: it looks the same.
    """

    def __init__(self, options: HttpServerOptions, parts: FrontParts) -> None:
        self._options = options
        self._front = Front(parts, Limits(options.max_body_bytes, options.max_header_bytes))
        self._server = _Server(
            options,
            self._front.handle,
            handler_cancellation=True,
            access_log=None,
            logger=_quiet(),
            keepalive_timeout=options.idle_s,
            auto_decompress=False,
            # What is over our own limit is refused by us, with a reason.
            max_line_size=4 * options.max_header_bytes,
            max_field_size=4 * options.max_header_bytes,
            max_headers=1024,
        )
        self._runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=0.0)
        self._site: web.TCPSite | None = None
        self._listener: TlsListener | None = None

    async def start(self) -> int:
        """Listen; returns the port. Raises ConfigError when the address cannot be had."""
        host, _, port = self._options.listen.rpartition(":")
        await self._runner.setup()
        try:
            if self._options.tls is None:
                return await self._listen(host.strip("[]"), int(port))
            return await self._listen_by_tls(self._options.tls, host.strip("[]"), int(port))
        except OSError as error:
            await self._runner.cleanup()
            problem = f"cannot listen on {self._options.listen}: {error.strerror or error}"
            raise ConfigError("", [("server.http", problem)]) from error

    async def _listen(self, host: str, port: int) -> int:
        shared = self._options.reuse_port or None
        site = web.TCPSite(self._runner, host, port, reuse_port=shared, backlog=_BACKLOG)
        await site.start()
        self._site = site
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def _listen_by_tls(self, tls: ServerTls, host: str, port: int) -> int:
        listener = TlsListener(
            self._server,
            tls.context,
            lambda: self._server.room,
            self._options.head_s,
            tls.failed,
        )
        bound = await listener.start(
            host, port, reuse_port=self._options.reuse_port, backlog=_BACKLOG
        )
        self._listener = listener
        return bound

    async def drain(self, grace_s: float) -> None:
        """Take no new connections, let calls in flight finish, cut them after ``grace_s``, and tell
        their callers why. Safe to call twice."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        if self._listener is not None:
            self._listener.stop()
        self._server.drain()
        if not await self._idle_within(grace_s):
            self._front.end_all(DrainingError("this gateway is shutting down: it was not done"))
            await self._idle_within(_LAST_WORD_S)
        self._server.abort()
        await self._runner.cleanup()

    async def _idle_within(self, most_s: float) -> bool:
        loop = asyncio.get_running_loop()
        by = loop.time() + most_s
        while not self._front.is_idle and loop.time() < by:
            await asyncio.sleep(_LOOK_S)
        return self._front.is_idle


class _Server(web.Server):
    def __init__(self, options: HttpServerOptions, handler: _Handler, **kwargs: Any) -> None:
        super().__init__(self._handle, **kwargs)
        self._options = options
        self._handler = handler
        self._arguments = kwargs
        self.draining = False

    def __call__(self) -> RequestHandler:
        kept = {key: value for key, value in self._arguments.items() if key not in _OF_SERVER}
        return _Connection(self, self._options, asyncio.get_running_loop(), **kept)

    @property
    def room(self) -> int:
        """How many more connections there may be."""
        return self._options.max_connections - len(self.connections)

    def drain(self) -> None:
        """Connections without a call end at once, others after it."""
        self.draining = True
        for connection in self.connections:
            if isinstance(connection, _Connection):
                connection.end_if_idle()

    def abort(self) -> None:
        """Close every connection, whatever it is at."""
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, _Connection)
        connection.begin()
        return await self._handler(request)


class _Connection(RequestHandler):
    """aiohttp's, within limits, and telling of bytes that are no HTTP in the shape of the API."""

    __slots__ = ("_asked", "_gone_look", "_heading", "_limits", "_opened_at", "_others", "_time")

    def __init__(
        self,
        server: _Server,
        limits: HttpServerOptions,
        loop: asyncio.AbstractEventLoop,
        **kwargs: Any,
    ) -> None:
        super().__init__(server, loop=loop, **kwargs)
        self._limits = limits
        self._others = server
        self._time = loop.time
        self._opened_at = loop.time()
        # Whether a call is under way.
        self._asked = False
        # A client that begins and does not go on.
        self._heading: asyncio.TimerHandle | None = None
        self._gone_look: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """A request has come."""
        self._asked = True
        self._headed()

    def end_if_idle(self) -> None:
        """Close it, unless a call is under way; then it is closed after that."""
        if not self._asked and self.transport is not None:
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it at once where there are too many."""
        super().connection_made(transport)
        if len(self._others.connections) > self._limits.max_connections:
            self._abort()
            return
        self._heading = self._loop.call_later(self._limits.head_s, self._abort)
        _watch(transport.get_extra_info("socket"), int(self._limits.silence_s * 1e3))

    def data_received(self, data: bytes) -> None:
        """Of requests sent ahead so many are taken in and no more: from then on nothing is read,
        not even that the client closed the connection, unless somebody asks."""
        super().data_received(data)
        if self._gone_look is None and self._is_unread():
            self._look_later(_GONE_LOOK_S)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nobody is left to wait for."""
        self._headed()
        if self._gone_look is not None:
            self._gone_look.cancel()
            self._gone_look = None
        super().connection_lost(exc)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sign it, and close a connection that is old after it."""
        if not resp.prepared:
            resp.headers.setdefault("server", SERVER)
            old = self._time() - self._opened_at > self._limits.max_age_s
            if old or self._others.draining:
                resp.force_close()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._asked = False
            if self._others.draining:
                self.end_if_idle()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        text = f"the request is no HTTP that can be read: {message or exc or status}"[:512]
        told: BaseException
        if status >= 500:
            told = exc or RuntimeError(text)
        elif status == 431 or "LineTooLong" in type(exc).__name__ or "Too many headers" in text:
            told = MetadataTooLargeError(text)
        else:
            told = MalformedRequestError(text)
        ended = refusal_of(told, api_of(request.raw_path))
        response = web.Response(status=ended.status, headers=ended.headers, body=ended.body)
        response.force_close()
        return response

    def _is_unread(self) -> bool:
        transport = self.transport
        return transport is not None and not (transport.is_closing() or transport.is_reading())

    def _look_later(self, after_s: float) -> None:
        self._gone_look = self._loop.call_later(after_s, self._look_whether_gone, after_s)

    def _look_whether_gone(self, after_s: float) -> None:
        self._gone_look = None
        if not self._is_unread():
            return
        assert self.transport is not None
        if _is_closed(self.transport.get_extra_info("socket")):
            self.transport.abort()
            return
        self._look_later(min(_LOOKS_RARER * after_s, _MOST_GONE_LOOK_S))

    def _headed(self) -> None:
        if self._heading is not None:
            self._heading.cancel()
            self._heading = None

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def _watch(connected: socket.socket | None, silence_ms: int) -> None:
    """Have the kernel give up a peer that is gone, or takes nothing."""
    if connected is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence_ms)


def _is_closed(connected: socket.socket | None) -> bool:
    """Whether the other end has closed a connection, whatever came before that and is unread."""
    if connected is None or not hasattr(socket, "TCP_INFO"):
        return False
    return connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _CLOSED


def _quiet() -> logging.Logger:
    """Calls that fail are told of by ourselves; a client that goes away is no news."""
    logger = logging.getLogger("router.gateway.openai.aiohttp")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    return logger
