"""A gateway with workers has its addresses to itself.

Workers share a port by SO_REUSEPORT, which lets any process of the same user join. So their parent
first takes a name that the kernel gives to one process only (an abstract socket, gone with its
process; names are of a network namespace, as ports are), then looks whether anybody listens.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

from router.errors import ConfigError

# Workers of a parent that was killed stop listening at once, but not at the same moment.
_PATIENCE_S: Final = 3.0
_AGAIN_S: Final = 0.1


@contextlib.contextmanager
def held(file: str, addresses: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Keep other gateways off ``addresses``, pairs of (configuration key, ``host:port``).

    Port 0 is anybody's. Raises ConfigError for one that is taken or not of this host.
    """
    with contextlib.ExitStack() as names:
        for key, address in addresses:
            if _is_anybodys(address):
                continue
            try:
                if sys.platform == "linux":
                    name = names.enter_context(socket.socket(socket.AF_UNIX))
                    name.bind(f"\0carbon-router {address}")
                _wait_until_free(address)
            except OSError as error:
                raise ConfigError(file, [(key, _words(address, error))]) from error
        yield


def require_free(file: str, addresses: Sequence[tuple[str, str]]) -> None:
    """Before somebody else is told to listen there, who would not say what stands in the way. As
    `held`."""
    for key, address in addresses:
        if _is_anybodys(address):
            continue
        try:
            _wait_until_free(address)
        except OSError as error:
            raise ConfigError(file, [(key, _words(address, error))]) from error


def _is_anybodys(address: str) -> bool:
    return address.endswith(":0")


def _words(address: str, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"cannot listen on {address}: {error.strerror or error}"
    return (
        f"cannot listen on {address}: another process of this host does, perhaps a gateway; give "
        "this one another address, or let both share it with `share_port: true`"
    )


def _wait_until_free(address: str) -> None:
    """Raises OSError when somebody still listens after a few seconds."""
    host, _, port = address.rpartition(":")
    waited_s = 0.0
    while True:
        try:
            return _look(host.strip("[]"), int(port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or waited_s >= _PATIENCE_S:
                raise
        time.sleep(_AGAIN_S)
        waited_s += _AGAIN_S


def _look(host: str, port: int) -> None:
    """Raises OSError when somebody listens, though ready to share."""
    flags = socket.AI_PASSIVE
    for family, kind, protocol, _, where in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=flags
    ):
        with socket.socket(family, kind, protocol) as probe:
            # Connections of an earlier gateway that linger do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
