"""What redis-py raises, as a StateStoreError: in our words, because the server's may hold a secret.

An old server that does not know HELLO repeats its arguments, and with them the password.
"""

from __future__ import annotations

import re
import ssl
from enum import StrEnum

from redis import exceptions as redis_errors
from redis.asyncio.sentinel import MasterNotFoundError

from router.errors import StateStoreError

_CODE = re.compile(r"[A-Z][A-Z0-9_]{2,31}\b")


class UnexpectedAnswerError(Exception):
    """What came is no answer to what was asked; the connection may be a step behind, or somebody
    else's. Says nothing of what came: that may be a secret."""


class StoreFault(StrEnum):
    """Why the store cannot be had, for metrics and readiness."""

    UNREACHABLE = "unreachable"
    TLS = "tls"
    TIMEOUT = "timeout"
    DENIED = "denied"
    READ_ONLY = "read_only"
    FULL = "full"
    LOADING = "loading"
    CLUSTER_DOWN = "cluster_down"
    REFUSED = "refused"
    OTHER = "other"


_WORDS = {
    StoreFault.UNREACHABLE: "it cannot be reached",
    StoreFault.TLS: "TLS with it fails: its certificate or this gateway's is not accepted",
    StoreFault.TIMEOUT: "it does not answer in time",
    StoreFault.DENIED: "it denies this user: wrong password, or rights that are missing",
    StoreFault.READ_ONLY: "it is a read-only replica",
    StoreFault.FULL: "its memory is full",
    StoreFault.LOADING: "it is loading its data",
    StoreFault.CLUSTER_DOWN: "its cluster or its sentinels have no master for this",
    StoreFault.REFUSED: "it refused the command",
    StoreFault.OTHER: "its client failed",
}
# The first that fits; redis-py's errors derive from one another.
_KINDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], StoreFault], ...] = (
    (
        (
            redis_errors.AuthenticationError,
            redis_errors.AuthorizationError,
            redis_errors.NoPermissionError,
            redis_errors.AuthenticationWrongNumberOfArgsError,
        ),
        StoreFault.DENIED,
    ),
    # Connections that it lost count of: those to a server are fewer (`link.MAX_CALLS`).
    (redis_errors.MaxConnectionsError, StoreFault.OTHER),
    (redis_errors.BusyLoadingError, StoreFault.LOADING),
    (redis_errors.ReadOnlyError, StoreFault.READ_ONLY),
    (redis_errors.OutOfMemoryError, StoreFault.FULL),
    ((redis_errors.ClusterError, redis_errors.RedisClusterException), StoreFault.CLUSTER_DOWN),
    ((redis_errors.TimeoutError, TimeoutError), StoreFault.TIMEOUT),
    ((redis_errors.ConnectionError, OSError), StoreFault.UNREACHABLE),
    (redis_errors.ResponseError, StoreFault.REFUSED),
)
# What went wrong is its cause: of connecting over a Unix socket, of asking each node of a cluster.
_WRAPPERS = (redis_errors.ConnectionError, redis_errors.RedisClusterException)
# A user may run a script, but not what it does: Redis' words, twice, and Valkey's.
_DENIED_IN_SCRIPT = ("can't run this command", "can't access", "ACL failure in script")
_CODES = {
    "READONLY": StoreFault.READ_ONLY,
    "OOM": StoreFault.FULL,
    "LOADING": StoreFault.LOADING,
    "MASTERDOWN": StoreFault.CLUSTER_DOWN,
    "CLUSTERDOWN": StoreFault.CLUSTER_DOWN,
    "NOREPLICAS": StoreFault.REFUSED,
    "MISCONF": StoreFault.REFUSED,
    "DENIED": StoreFault.DENIED,
    "NOAUTH": StoreFault.DENIED,
    "WRONGPASS": StoreFault.DENIED,
    "NOPERM": StoreFault.DENIED,
    "BUSY": StoreFault.TIMEOUT,
}


def cause_of(error: BaseException) -> StoreFault:
    """Why ``error`` happened, as far as it says."""
    while type(error) in _WRAPPERS and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, ssl.SSLError) or isinstance(error.__context__, ssl.SSLError):
        return StoreFault.TLS
    if isinstance(error, MasterNotFoundError):
        return _of_sentinels(str(error))
    text = str(error)
    if (code := _code_of(error)) in _CODES:
        return _CODES[code]
    if any(words in text for words in _DENIED_IN_SCRIPT):
        return StoreFault.DENIED
    for kinds, cause in _KINDS:
        if isinstance(error, kinds):
            return cause
    return StoreFault.OTHER


def _code_of(error: BaseException) -> str:
    """The first word of a refusal, where it is a code: that never is a secret."""
    found = _CODE.match(str(error))
    return getattr(error, "status_code", None) or (found.group() if found else "")


def _of_sentinels(text: str) -> StoreFault:
    # It lists what each of them failed with, if any did.
    if "AuthenticationError" in text:
        return StoreFault.DENIED
    return StoreFault.UNREACHABLE if "Error" in text else StoreFault.CLUSTER_DOWN


def as_store_error(error: BaseException) -> StateStoreError:
    """``error`` in our words."""
    cause = cause_of(error)
    words = _WORDS[cause]
    if cause is StoreFault.OTHER:
        words = f"{words} ({type(error).__name__})"
    elif cause is StoreFault.REFUSED and (code := _code_of(error)):
        words = f"{words} ({code})"
    return StateStoreError(f"state store: {words}", cause)
