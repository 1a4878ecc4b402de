"""What callers may make this process hold: calls at once, and bytes of their messages.

Every message is read here, when there is room for it; what would go beyond is refused with
GatewayFullError, which a client may try elsewhere. gRPC does not say how much of a message has
come in, so while one is under way the kernel is asked what its connection has received.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, Protocol

import grpc

from router.contract import Metadata
from router.errors import (
    GatewayFullError,
    MessageTooLargeError,
    MetadataTooLargeError,
    RefusedError,
)
from router.gateway.oip.connection import Connection
from router.gateway.oip.context import Context
from router.gateway.oip.inflate import inflate, is_compressed
from router.gateway.oip.sockets import plain
from router.gateway.oip.trailers import metadata_bytes

# For questions about a server or a model: whatever they hold, decoding it takes a moment.
SMALL_BYTES = 65_536
# How often messages under way are looked at; a fast network brings some 30 MiB in this time.
CHECK_S = 0.025
_RETRY_AFTER_S = 1.0
# Beside a message's own bytes: its frames and headers, rather more than fewer, so that they never
# look like the beginning of another message.
_OVERHEAD_BYTES = 256
_MAX_INFLATING = 2
_MAX_KNOWN = 16_384


class IntakeLimits(NamedTuple):
    """``message_bytes``: of one message. ``buffered_bytes``: of all messages held; one connection
    may hold half of it, or one message. ``calls``: at once. ``metadata_bytes``: headers of a call.
    """

    message_bytes: int
    buffered_bytes: int
    calls: int
    metadata_bytes: int

    @property
    def share_bytes(self) -> int:
        """What one connection may hold."""
        return max(self.buffered_bytes // 2, self.message_bytes)


class PeerSockets(Protocol):
    """The sockets under connections; `router.gateway.oip.sockets.Sockets` in earnest."""

    def received_bytes(self, peer: str) -> int | None:
        """What came in over this connection since it was opened; None when it is not known."""
        ...

    def close(self, peer: str) -> bool:
        """End this connection, with every call on it. False when there is none."""
        ...


class Intake:
    """Counts for all connections of one server. Build it inside a running event loop."""

    def __init__(self, limits: IntakeLimits, sockets: PeerSockets) -> None:
        self.limits = limits
        self.held_bytes = 0
        self.calls = 0
        self._sockets = sockets
        self.loop = asyncio.get_running_loop()
        self._known: dict[str, Connection] = {}
        self._under_way: set[IncomingCall] = set()
        self._receiving: dict[Connection, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._freed: set[asyncio.Future[None]] = set()
        self._inflating = asyncio.Semaphore(_MAX_INFLATING)

    def enter(self, context: Context, metadata: Metadata, most_bytes: int = 0) -> IncomingCall:
        """Take in one call, before anything of it is read; ``leave`` it in any case.

        ``most_bytes``: of one message, where less than the limit will do. Raises GatewayFullError
        and MetadataTooLargeError.
        """
        limits = self.limits
        if self.calls >= limits.calls:
            raise GatewayFullError(
                f"this gateway has {limits.calls} calls under way, its limit", _RETRY_AFTER_S
            )
        size = metadata_bytes(metadata)
        if size > limits.metadata_bytes:
            raise MetadataTooLargeError(
                f"the request's headers take {size} bytes, more than {limits.metadata_bytes}"
            )
        call = IncomingCall(self, self._connection(plain(context.peer())), context, most_bytes)
        self._under_way.add(call)
        return call

    def end_all(self, reason: RefusedError) -> None:
        """Cancel every call; it is to be refused with ``reason``, see `IncomingCall.refusal`."""
        for call in self._under_way:
            call.end(reason)

    def leave(self, call: IncomingCall) -> None:
        """See `IncomingCall.leave`."""
        self._under_way.discard(call)

    def begin_reading(self, call: IncomingCall) -> None:
        """Watch the call's connection while it waits for a message."""
        connection = call.connection
        if not connection.reading:
            self._receiving[connection] = None
        connection.reading[call] = None
        if self._timer is None:
            self._timer = self.loop.call_later(CHECK_S, self.check)

    def end_reading(self, call: IncomingCall, delivered_bytes: int) -> None:
        """The opposite. ``delivered_bytes``: 0 when there was no message."""
        connection = call.connection
        connection.stop_reading(call, delivered_bytes)
        if not connection.reading:
            del self._receiving[connection]

    def hold(self, connection: Connection, size: int) -> None:
        """Count ``size`` more bytes, or fewer below 0."""
        self.held_bytes += size
        connection.held_bytes += size
        if size < 0 and self._freed:
            freed, self._freed = self._freed, set()
            for waiting in freed:
                if not waiting.done():
                    waiting.set_result(None)

    async def freed(self) -> None:
        """Return when something that was held no longer is."""
        waiting = self.loop.create_future()
        self._freed.add(waiting)
        try:
            await waiting
        finally:
            self._freed.discard(waiting)

    def too_full(self, connection: Connection, share: float = 1.0) -> bool:
        """Whether more than ``share`` of what may be held is, by all or by this connection."""
        limits = self.limits
        return (
            self.held_bytes > limits.buffered_bytes * share
            or connection.held_bytes > limits.share_bytes * share
        )

    async def inflated(self, connection: Connection, message: bytes, most_bytes: int) -> bytes:
        """``message`` as it was before it was compressed; beside the event loop."""
        async with self._inflating:
            self.hold(connection, most_bytes)
            try:
                if self.too_full(connection):
                    raise full()
                return await asyncio.to_thread(inflate, message, most_bytes)
            finally:
                self.hold(connection, -most_bytes)

    def judge(self, connection: Connection, lifetime_s: float, *, reset: bool) -> None:
        """Note how a call ended; close the connection of a client that only resets them."""
        if connection.resets.ended(lifetime_s, reset=reset):
            self._sockets.close(connection.peer)

    def _connection(self, peer: str) -> Connection:
        known = self._known
        connection = known.get(peer)
        if connection is None:
            if len(known) >= _MAX_KNOWN:
                self._forget()
            connection = known[peer] = Connection(peer)
        return connection

    def _forget(self) -> None:
        """Drop half of what is known of connections on which nothing runs, the oldest first."""
        idle = [peer for peer, connection in self._known.items() if not connection.calls]
        for peer in idle[: max(1, len(idle) // 2)]:
            del self._known[peer]

    def check(self) -> None:
        """Look at the messages under way; refuse some where they are too much together."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._receiving:
            return
        for connection in self._receiving:
            received_bytes = self._sockets.received_bytes(connection.peer)
            if received_bytes is not None:
                connection.measure(received_bytes)
        limits = self.limits
        for connection in self._receiving:
            connection.cut(connection.held_bytes + connection.unread_bytes - limits.share_bytes)
        under_way = sum(connection.unread_bytes for connection in self._receiving)
        excess = self.held_bytes + under_way - limits.buffered_bytes
        for connection in sorted(self._receiving, key=lambda one: -one.unread_bytes):
            if excess <= 0:
                break
            excess -= connection.cut(excess)
        self._timer = self.loop.call_later(CHECK_S, self.check)


def full() -> GatewayFullError:
    """The refusal of a message that there is no room for."""
    return GatewayFullError(
        "this gateway holds as many bytes of requests as it may: try again, or elsewhere",
        _RETRY_AFTER_S,
    )


class IncomingCall:
    """One call's part in it: from `Intake.enter` to `leave`."""

    __slots__ = ("_context", "_held_bytes", "_intake", "_limit_bytes", "_reader", "_refusal",
                 "_started", "_task", "connection", "half_closed", "is_cut")  # fmt: skip

    def __init__(
        self, intake: Intake, connection: Connection, context: Context, most_bytes: int
    ) -> None:
        self.connection = connection
        self.is_cut = False
        # Whether the client has said that no message follows.
        self.half_closed = False
        self._intake = intake
        self._context = context
        self._limit_bytes = most_bytes or intake.limits.message_bytes
        self._held_bytes = 0
        self._task = asyncio.current_task()
        self._reader: asyncio.Task[object] | None = None
        self._refusal: RefusedError | None = None
        self._started = intake.loop.time()
        intake.calls += 1
        connection.calls += 1

    async def message(self) -> bytes | None:
        """The next message; None when the client has half-closed. It is held until `release`.

        Raises GatewayFullError when it would be too much, MessageTooLargeError, and
        MalformedRequestError for a compressed one that is damaged.
        """
        message = await self._read()
        if message is None:
            return None
        if is_compressed(message):
            packed = len(message)
            try:
                message = await self._intake.inflated(self.connection, message, self._limit_bytes)
            finally:
                self.release(packed)
            self._hold(len(message))
        if len(message) > self._limit_bytes:
            self.release(len(message))
            raise MessageTooLargeError(
                f"the message has {len(message)} bytes, more than {self._limit_bytes}"
            )
        if self._intake.too_full(self.connection):
            self.release(len(message))
            raise full()
        return message

    async def room(self) -> None:
        """Wait while messages of this call are held and more than half of the room is taken.

        Not reading lets HTTP/2 flow control hold the client back.
        """
        while self._held_bytes and self._intake.too_full(self.connection, 0.5):
            await self._intake.freed()

    def release(self, size: int) -> None:
        """``size`` bytes of messages are no longer held."""
        self._hold(-size)

    def cut(self) -> None:
        """Read no further: the message is to be refused."""
        if self._reader is not None:
            self.is_cut = True
            self._reader.cancel()

    def end(self, reason: RefusedError) -> None:
        """Cancel whatever the call is at."""
        if self._task is not None and self._refusal is None:
            self._refusal = reason
            self._task.cancel()

    def refusal(self) -> RefusedError | None:
        """Of a call that was cancelled: what `end` said, None when it was the client's doing."""
        if self._refusal is None or self._task is None or self._task.uncancel() > 0:
            return None
        return self._refusal

    def leave(self) -> None:
        """The call has ended; nothing of it is held any more."""
        intake, connection = self._intake, self.connection
        if self._held_bytes:
            self._hold(-self._held_bytes)
        intake.calls -= 1
        connection.calls -= 1
        intake.leave(self)
        reset = self._task is not None and self._task.cancelling() > 0
        intake.judge(connection, intake.loop.time() - self._started, reset=reset)

    async def _read(self) -> bytes | None:
        intake = self._intake
        self._reader = reader = asyncio.current_task()
        intake.begin_reading(self)
        size = 0
        try:
            # A read of gRPC that is cancelled never frees a message that came in all the same.
            reading = intake.loop.create_task(self._take())
            reading.add_done_callback(_noted)
            message = await asyncio.shield(reading)
            if message is None:
                return None
            size = len(message) + _OVERHEAD_BYTES
            self._hold(len(message))
            return message
        except asyncio.CancelledError:
            # Ours from `cut`, unless somebody else cancelled as well.
            if self.is_cut and reader is not None and reader.uncancel() == 0:
                raise full() from None
            raise
        finally:
            self._reader = None
            intake.end_reading(self, size)

    async def _take(self) -> bytes | None:
        message: Any = await self._context.read()
        if message is grpc.aio.EOF:
            self.half_closed = True
            return None
        return bytes(message)

    def _hold(self, size: int) -> None:
        self._held_bytes += size
        self._intake.hold(self.connection, size)


def _noted(reading: asyncio.Task[object]) -> None:
    """What a read fails with after its call has ended is of no interest."""
    if not reading.cancelled():
        reading.exception()
