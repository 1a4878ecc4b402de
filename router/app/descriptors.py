"""File descriptors: as many as are needed, and some always kept for other than clients."""

from __future__ import annotations

import logging
import resource
from typing import Final

from router.config.settings import ServerSettings

# For providers, a store, the admin port and files; for each endpoint there is one more.
_SPARE: Final = 256
# What one connection of a client may take: over HTTP a second one, to the server that answers.
_OVER_GRPC: Final = 1
_OVER_HTTP: Final = 2

_log = logging.getLogger(__name__)


def raise_limit(server: ServerSettings, endpoints: int) -> None:
    """Let this process open enough files for its clients on every front, and for ``endpoints``, as
    far as the system allows.

    The usual soft limit of 1,024 is for programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = max(soft, server.max_connections * _each(server) + _SPARE + endpoints)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        _log.warning("the limit on open files stays at %d: %s", soft, error)


def affordable(server: ServerSettings, endpoints: int) -> int:
    """Connections of clients that each front may have: ``max_connections``, or as many as leave
    descriptors for the rest, half of them at least.
    """
    connections = server.max_connections
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return connections
    most = _left(limit, endpoints) // _each(server)
    if most >= connections:
        return connections
    _log.warning(
        "at most %d connections on each front, not server.max_connections (%d): only %d files may "
        "be open",
        most, connections, limit,
    )  # fmt: skip
    return most


def affordable_in_all(connections: int, endpoints: int) -> int:
    """Connections of clients to one process that may take as many to servers: ``connections``, or
    fewer, as in `affordable`."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return connections
    most = _left(limit, endpoints) // _OVER_HTTP
    if most >= connections:
        return connections
    _log.warning(
        "at most %d connections, not server.max_connections of each of server.workers (%d): only "
        "%d files may be open",
        most, connections, limit,
    )  # fmt: skip
    return most


def _left(limit: int, endpoints: int) -> int:
    """Descriptors for clients and their requests."""
    return max(limit - _SPARE - endpoints, limit // 2)


def _each(server: ServerSettings) -> int:
    """Descriptors for one connection on each front."""
    return _OVER_GRPC if server.http is None else _OVER_GRPC + _OVER_HTTP
