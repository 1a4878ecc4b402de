"""What callers may make this process hold: calls at once, and bytes of their messages.

Who calls is asked first. Every message is read here, when there is room for it; what would go
beyond is refused with GatewayFullError, which a client may try elsewhere. gRPC does not say how
much of a message has come in, so while one is under way the kernel is asked what its connection has
received.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import grpc

from router.contract import Metadata
from router.errors import (
    MessageTooLargeError,
    MetadataTooLargeError,
    RefusedError,
)
from router.gateway.capacity import Capacity, full
from router.gateway.inflate import inflate, is_compressed
from router.gateway.oip.connection import Connection
from router.gateway.oip.context import Context
from router.gateway.oip.peer import peer_of
from router.gateway.oip.sockets import plain
from router.gateway.oip.trailers import metadata_bytes
from router.identity.access import Access
from router.identity.limits import FREE
from router.identity.principal import Principal, Role

# For questions about a server or a model: whatever they hold, decoding it takes a moment.
SMALL_BYTES = 65_536
# How often messages under way are looked at; a fast network brings some 30 MiB in this time.
CHECK_S = 0.025
# Beside a message's own bytes: its frames and headers, rather more than fewer, so that they never
# look like the beginning of another message. TLS takes 22 bytes of a record, and some clients write
# records of 1,300.
_OVERHEAD_BYTES = 256
_FRAMES = 1 / 1024
_FRAMES_AND_RECORDS = 1 / 32
_MAX_KNOWN = 16_384
# Whose a long stream is, is asked again after so long, s: keys are revoked meanwhile.
RENEW_S = 30.0


class IntakeLimits(NamedTuple):
    """``message_bytes``: of one message. ``buffered_bytes``: of all messages held; one connection
    may hold half of it, or one message. ``calls``: at once. ``metadata_bytes``: headers of a call.
    ``encrypted``: whether connections are TLS, whose records take bytes of their own.
    """

    message_bytes: int
    buffered_bytes: int
    calls: int
    metadata_bytes: int
    encrypted: bool = False

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

    def __init__(
        self,
        limits: IntakeLimits,
        sockets: PeerSockets,
        access: Access,
        capacity: Capacity | None = None,
    ) -> None:
        """``access``: who may call; ``capacity``: shared with other fronts, None where there is
        none."""
        self.limits = limits
        self.access = access
        self.capacity = capacity or Capacity(limits.calls, limits.buffered_bytes)
        self._sockets = sockets
        self.loop = asyncio.get_running_loop()
        self._known: dict[str, Connection] = {}
        self._under_way: set[IncomingCall] = set()
        self._receiving: dict[Connection, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(
        self,
        context: Context,
        metadata: Metadata,
        needs: Role | None,
        most_bytes: int = 0,
        metered: bool = True,
    ) -> IncomingCall:
        """Take in one call, before anything of it is read; ``leave`` it in any case.

        ``needs``: the role that it takes, None for what anybody may ask; ``most_bytes``: of one
        message, where less than the limit will do; ``metered``: whether it is a request by itself,
        which a stream is not. Raises GatewayFullError, MetadataTooLargeError, RateLimitedError and
        as `Access.admit` does.
        """
        limits = self.limits
        self.capacity.require_call()
        size = metadata_bytes(metadata)
        if size > limits.metadata_bytes:
            raise MetadataTooLargeError(
                f"the request's headers take {size} bytes, more than {limits.metadata_bytes}"
            )
        peer = plain(context.peer())
        admission = partial(
            self.access.admit_carried, metadata, needs, peer, partial(peer_of, context)
        )
        principal = admission()
        self.capacity.begin(principal.account, principal.weight)
        call = IncomingCall(self, self._connection(peer), context, most_bytes, admission, principal)
        if metered:
            try:
                call.use = self.access.limiter.begin(principal)
            except BaseException:
                call.leave()
                raise
        call.metadata = self.access.travelling(metadata, principal)
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
        connection.held_bytes += size
        self.capacity.hold(size)

    def too_full(self, connection: Connection, share: float = 1.0) -> bool:
        """Whether more than ``share`` of what may be held is, by all or by this connection."""
        limits = self.limits
        return (
            self.capacity.held_bytes > limits.buffered_bytes * share
            or connection.held_bytes > limits.share_bytes * share
        )

    def wire_bytes(self, message_bytes: int) -> int:
        """About what a message took on its connection."""
        share = _FRAMES_AND_RECORDS if self.limits.encrypted else _FRAMES
        return message_bytes + int(message_bytes * share) + _OVERHEAD_BYTES

    async def inflated(self, connection: Connection, message: bytes, most_bytes: int) -> bytes:
        """``message`` as it was before it was compressed; beside the event loop."""
        async with self.capacity.inflating:
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
        excess = self.capacity.held_bytes + under_way - limits.buffered_bytes
        for connection in sorted(self._receiving, key=lambda one: -one.unread_bytes):
            if excess <= 0:
                break
            excess -= connection.cut(excess)
        self._timer = self.loop.call_later(CHECK_S, self.check)


class IncomingCall:
    """One call's part in it: from `Intake.enter` to `leave`. ``principal``: whose it is; ``use``:
    its part of what that may use; ``metadata``: what of its headers travels on."""

    __slots__ = ("_account", "_admission", "_admitted_at", "_context", "_held_bytes", "_intake",
                 "_limit_bytes", "_reader", "_refusal", "_started", "_task", "connection",
                 "half_closed", "is_cut", "metadata", "principal", "use")  # fmt: skip

    def __init__(
        self,
        intake: Intake,
        connection: Connection,
        context: Context,
        most_bytes: int,
        admission: Callable[[], Principal],
        principal: Principal,
    ) -> None:
        self.connection = connection
        self.principal = principal
        self._account = principal.account
        self._admission = admission
        self.use = FREE
        self.metadata: Metadata = ()
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
        self._started = self._admitted_at = intake.loop.time()
        connection.calls += 1

    def renewed(self) -> bool:
        """Of a long stream, now and then: whether what its ``principal`` may has changed.

        Raises as `Access.admit` does, once it is nobody's any more.
        """
        now = self._intake.loop.time()
        if now - self._admitted_at < RENEW_S:
            return False
        before, self.principal = self.principal, self._admission()
        self._admitted_at = now
        return self.principal != before

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
            await self._intake.capacity.freed()

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
        self.use.end()
        intake.capacity.end(self._account)
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
            size = intake.wire_bytes(len(message))
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
