"""The sockets under gRPC's connections, found by the peer's address: bytes received, and closing.

gRPC has no way to ask for either. Linux: /proc/self/fd and TCP_INFO. Where the system has no such
thing, nothing is known of a connection and none is closed.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

_TABLE = Path("/proc/self/fd")
# struct tcp_info of linux/tcp.h: where tcpi_bytes_received stands, 64 bits.
_BYTES_RECEIVED = slice(128, 136)
# Descriptors looked at in one go, at about 5 us each.
_MAX_LOOKUPS = 512


class Sockets:
    """Of this process. A peer is what ``grpc.aio.ServicerContext.peer`` says, such as
    ``ipv4:10.0.0.7:40122``.
    """

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}
        self._seen: dict[int, str] = {}

    def received_bytes(self, peer: str) -> int | None:
        """What came in over this connection since it was opened; None when it is not known."""
        with contextlib.suppress(OSError), self._open(peer) as connection:
            if connection is not None:
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                if len(info) >= _BYTES_RECEIVED.stop:
                    return int.from_bytes(info[_BYTES_RECEIVED], "little")
        return None

    def close(self, peer: str) -> bool:
        """End this connection, with every call on it. False when there is none."""
        with contextlib.suppress(OSError), self._open(peer) as connection:
            if connection is not None:
                connection.shutdown(socket.SHUT_RDWR)
                return True
        return False

    @contextlib.contextmanager
    def _open(self, peer: str) -> Iterator[socket.socket | None]:
        """The socket, under a descriptor of our own: gRPC may close its own at any moment."""
        descriptor = self._descriptors.get(peer)
        if descriptor is None:
            self._look_around()
            descriptor = self._descriptors.get(peer)
        if descriptor is None:
            yield None
            return
        own = _socket_at(descriptor)
        try:
            if own is None or peer_of(own) != peer:
                self._descriptors.pop(peer, None)
                self._seen.pop(descriptor, None)
                yield None
            else:
                yield own
        finally:
            if own is not None:
                own.close()

    def _look_around(self) -> None:
        """Learn of descriptors that were not seen yet, or that were used for something else."""
        try:
            numbers = {int(entry.name) for entry in _TABLE.iterdir()}
        except OSError:
            return
        for gone in self._seen.keys() - numbers:
            self._descriptors.pop(self._seen.pop(gone), None)
        if not numbers - self._seen.keys():
            # A number is used anew as soon as it is free.
            self._seen.clear()
        for number in islice(numbers - self._seen.keys(), _MAX_LOOKUPS):
            found = _socket_at(number)
            peer = ""
            if found is not None:
                with found, contextlib.suppress(OSError):
                    peer = peer_of(found)
            self._seen[number] = peer
            if peer:
                self._descriptors[peer] = number


def peer_of(connection: socket.socket) -> str:
    """The other end in gRPC's words; empty unless it is TCP. Raises OSError when unconnected."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    host, port = connection.getpeername()[:2]
    host = host.removeprefix("::ffff:") if "." in host else host
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def plain(peer: str) -> str:
    """gRPC's own spelling, in which brackets are escaped, as `peer_of` has it."""
    return unquote(peer) if "%" in peer else peer


def _socket_at(descriptor: int) -> socket.socket | None:
    try:
        copy = os.dup(descriptor)
    except OSError:
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None
