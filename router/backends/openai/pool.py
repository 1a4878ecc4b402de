"""The connections to one address, and the calls that run on them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from aiohttp.abc import AbstractResolver, ResolveResult

from router.backends.openai.exchange import Connector, Exchange, destination_of
from router.backends.openai.sending import watched_socket

# How long the connections of a pool may take to close.
_CLOSE_S: Final = 1.0


class HttpOptions(NamedTuple):
    """How endpoints are reached over HTTP.

    ``max_message_bytes``: of an answer in one piece; ``max_event_bytes``: of one event of a stream;
    ``max_field_bytes``: of one field of an answer's head. ``keep_s``: a connection without work is
    kept: uvicorn and cpp-httplib close theirs after 5 s. ``connect_s``: for one connection.
    ``silence_s``: a peer that acknowledges nothing is given up. ``leave_s``: how long calls may
    still take where a name pointed before. ``ending_s``: how long the body of a stream may take to
    end after its last event; nobody waits for it.
    """

    max_message_bytes: int = 64 * 2**20
    max_event_bytes: int = 16 * 2**20
    max_field_bytes: int = 64 * 2**10
    keep_s: float = 4.0
    connect_s: float = 5.0
    silence_s: int = 20
    leave_s: float = 900.0
    ending_s: float = 1.0


class GivenUp(Protocol):
    """A call that can be ended from without."""

    def give_up(self) -> None:
        """End it at once, wherever it is."""
        ...


class ConnectionPool:
    """One a host and port. ``calls``: those under way.

    ``hosts``: the IP addresses that the name stands for; empty: whatever the resolver says.
    ``context``: of TLS, None for plaintext. ``server_name``: what certificates must be for, "" for
    the host of the address.
    """

    def __init__(
        self,
        options: HttpOptions,
        address: str,
        hosts: Sequence[str] = (),
        context: ssl.SSLContext | None = None,
        server_name: str = "",
    ) -> None:
        """Build it inside a running event loop."""
        self._options = options
        self._hosts = hosts
        self._context = context
        self.destination = destination_of(
            "http" if context is None else "https",
            address,
            server_name or None,
            options.connect_s,
            # A server may echo what its caller sent, which is bounded elsewhere.
            options.max_field_bytes,
        )
        self.calls: set[GivenUp] = set()
        # Answers of which all that matters has come, by the timers that close them.
        self._resting: dict[Exchange, asyncio.TimerHandle] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.kept = self._connector(keepalive_timeout=options.keep_s)
        self._fresh: Connector | None = None

    @property
    def fresh(self) -> Connector:
        """For requests that must not meet a connection that was used before."""
        if self._fresh is None:
            self._fresh = self._connector(force_close=True)
        return self._fresh

    def enter(self, call: GivenUp) -> None:
        """A call begins."""
        self.calls.add(call)
        self._idle.clear()

    def leave(self, call: GivenUp) -> None:
        """A call has ended."""
        self.calls.discard(call)
        if not self.calls:
            self._idle.set()

    def rest(self, exchange: Exchange) -> None:
        """Nobody reads on: its connection is kept if its body ends soon, and closed if not."""
        if exchange.content.is_eof():
            return
        loop = asyncio.get_running_loop()
        self._resting[exchange] = loop.call_later(self._options.ending_s, self._end_rest, exchange)
        # At its end it gives its connection back by itself.
        exchange.content.on_eof(lambda: self._end_rest(exchange))

    async def idle(self, within_s: float) -> None:
        """Return when no call runs, after ``within_s`` at the latest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()

    async def close(self) -> None:
        """Give up every call and close every connection."""
        for call in tuple(self.calls):
            call.give_up()
        for exchange in tuple(self._resting):
            self._end_rest(exchange)
        # A connection with bytes that its peer does not take would be waited for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self.kept.close()
                if self._fresh is not None:
                    await self._fresh.close()

    def _end_rest(self, exchange: Exchange) -> None:
        self._resting.pop(exchange).cancel()
        if not exchange.content.is_eof():
            exchange.close()

    def _connector(self, **kept: Any) -> Connector:
        # Its own limits on calls bound an endpoint's connections.
        return Connector(
            limit=0,
            resolver=_Fixed(self._hosts) if self._hosts else None,
            socket_factory=self._socket,
            ssl=True if self._context is None else self._context,
            **kept,
        )

    def _socket(self, address: Any) -> socket.socket:
        family, kind, proto = address[:3]
        return watched_socket(family, kind, proto, self._options.silence_s)


class _Fixed(AbstractResolver):
    """Knows one name."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses it was given."""
        return [
            ResolveResult(
                hostname=host,
                host=one,
                port=port,
                family=socket.AF_INET6 if ":" in one else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for one in self._hosts
        ]

    async def close(self) -> None:
        """Nothing is held."""
