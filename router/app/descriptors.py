"""File descriptors: as many as are needed, and some always kept for other than clients."""

from __future__ import annotations

import logging
import resource

# For endpoints, providers, the admin port and files.
_SPARE = 256

_log = logging.getLogger(__name__)


def raise_limit(connections: int) -> None:
    """Let this process open enough files for ``connections``, as far as the system allows.

    The usual soft limit of 1,024 is for programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = max(soft, connections + _SPARE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        _log.warning("the limit on open files stays at %d: %s", soft, error)


def affordable(connections: int) -> int:
    """``connections``, or as many as leave descriptors for the rest: half of them at least."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return connections
    most = max(limit - _SPARE, limit // 2)
    if most >= connections:
        return connections
    _log.warning(
        "at most %d connections, not server.max_connections (%d): only %d files may be open",
        most, connections, limit,
    )  # fmt: skip
    return most
