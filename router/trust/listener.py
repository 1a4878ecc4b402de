"""A listening address whose connections begin with TLS, by the certificate of the moment.

asyncio's own servers keep the context that they began with. In a context that is filled anew an
authority that was taken back would still count, and a key of another kind still be shown.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final

# What passes when there is room again.
_NO_ROOM: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_REST_S: Final = 1.0
# What OpenSSL says of clients that show no certificate, or one that is not accepted.
_FAILED: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_certificate",
    "CERTIFICATE_VERIFY_FAILED": "certificate",
}
FAILURES: Final = ("certificate", "no_certificate", "protocol", "timeout", "gone")
_AT_ONCE: Final = 64
# Handshakes that are done, whose connections count already, but whose tasks have not ended yet.
_DONE_SOON: Final = 16


class TlsListener:
    """Build it inside a running event loop. Connections outlive it."""

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext],
        room: Callable[[], int],
        handshake_s: float = 10.0,
        on_failed: Callable[[str], None] = lambda why: None,
    ) -> None:
        """``protocol``: of a new connection, which is told of it once the handshake is done.
        ``context``: for the next one. ``room``: how many more there may be; what goes well beyond
        is closed as it comes, the rest is for ``protocol`` to count. ``handshake_s``: what a
        handshake may take. ``on_failed``: told of one that came to nothing, in one word of
        `FAILURES`."""
        self._protocol = protocol
        self._context = context
        self._room = room
        self._handshake_s = handshake_s
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}

    async def start(
        self, host: str, port: int, *, reuse_port: bool = False, backlog: int = 128
    ) -> int:
        """Listen; returns the port (a free one for 0). Raises OSError when it cannot be had."""
        found = await self._loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        try:
            for family, kind, protocol, _, where in dict.fromkeys(found):
                self._sockets.append(
                    _bound(family, kind, protocol, where, reuse_port=reuse_port, backlog=backlog)
                )
        except OSError:
            self.stop()
            raise
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)
        bound: int = self._sockets[0].getsockname()[1]
        return bound

    def stop(self) -> None:
        """Listen no more, and end handshakes. Safe to call twice."""
        for timer in self._resting.values():
            timer.cancel()
        self._resting.clear()
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        self._sockets.clear()
        for handshake in tuple(self._handshakes):
            handshake.cancel()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._rest(listening)
                return
            if len(self._handshakes) >= self._room() + _DONE_SOON:
                connection.close()
                continue
            connection.setblocking(False)
            handshake = self._loop.create_task(self._shake_hands(connection))
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._context(),
                ssl_handshake_timeout=self._handshake_s,
            )
        except OSError as error:
            self._on_failed(failure_of(error))
        except asyncio.CancelledError:
            # We listen no more.
            connection.close()

    def _rest(self, listening: socket.socket) -> None:
        """There are no descriptors left: look again in a moment."""
        self._loop.remove_reader(listening)
        self._resting[listening] = self._loop.call_later(_REST_S, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        del self._resting[listening]
        self._loop.add_reader(listening, self._accept, listening)


def failure_of(error: OSError) -> str:
    """Why a handshake came to nothing, of `FAILURES`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate"
    if isinstance(error, ssl.SSLError):
        return _FAILED.get(getattr(error, "reason", None) or "", "protocol")
    if isinstance(error, TimeoutError) or "longer than" in str(error):
        return "timeout"
    return "gone"


def _bound(
    family: int,
    kind: int,
    protocol: int,
    where: tuple[object, ...],
    *,
    reuse_port: bool,
    backlog: int,
) -> socket.socket:
    """A socket that listens as those of ``asyncio.loop.create_server`` do."""
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(where)
        made.listen(backlog)
    except BaseException:
        made.close()
        raise
    return made
