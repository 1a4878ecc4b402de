"""The one table from gRPC statuses of upstream calls to leaves of the error tree.

A status is the server's own, or the transport's where it was given none; which of the two can only
be told by its words, since both use the same codes.
"""

from __future__ import annotations

import errno
import os
import re

import grpc

from router.contract import Metadata
from router.errors import (
    UpstreamBlamingError,
    UpstreamBusyError,
    UpstreamDeniedError,
    UpstreamError,
    UpstreamFaultError,
    UpstreamInternalError,
    UpstreamLostError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamTooLargeError,
    UpstreamUnreachedError,
)
from router.model import Endpoint
from router.trust.secrets import Secret, without_secret, without_secrets

_LEAVES: dict[grpc.StatusCode, type[UpstreamError]] = {
    grpc.StatusCode.UNAVAILABLE: UpstreamFaultError,
    grpc.StatusCode.DATA_LOSS: UpstreamFaultError,
    grpc.StatusCode.ABORTED: UpstreamFaultError,
    grpc.StatusCode.CANCELLED: UpstreamFaultError,
    grpc.StatusCode.INTERNAL: UpstreamInternalError,
    grpc.StatusCode.UNKNOWN: UpstreamInternalError,
    grpc.StatusCode.NOT_FOUND: UpstreamDeniedError,
    grpc.StatusCode.PERMISSION_DENIED: UpstreamDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: UpstreamDeniedError,
    grpc.StatusCode.UNIMPLEMENTED: UpstreamDeniedError,
    grpc.StatusCode.FAILED_PRECONDITION: UpstreamDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: UpstreamBusyError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UpstreamTimeoutError,
}

# The words of C-core's transport, under these codes: no connection; a stream that no server saw
# (REFUSED_STREAM, or beyond the last one of a GOAWAY); a connection that broke.
_TRANSPORT = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
    )
)
_REFUSED = re.compile(
    r"^(failed to connect to all addresses|(DNS|name) resolution failed|errors resolving )", re.I
)
# What this gateway lacks says nothing of the server: descriptors, ports, memory.
_OWN_LACKS = re.compile(
    "|".join(
        re.escape(os.strerror(number))
        for number in (
            errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL,
        )
    ),
    re.I,
)  # fmt: skip
# As OpenSSL and gRPC say it, which name no host.
_CERTIFICATE = re.compile(
    r"CERTIFICATE_VERIFY_FAILED: ([\w ]+)|(Hostname Verification Check failed)"
)
_SYSTEM = re.compile("|".join(re.escape(os.strerror(one)) for one in errno.errorcode), re.I)
_UNSEEN = re.compile(r"RST_STREAM with error code 7\b|^Stream removed \(GOAWAY received")
_LOST = re.compile(
    r"^Stream removed \((?!RST_STREAM)|socket closed|connection reset|broken pipe|"
    r"(keepalive|ping) timeout|^transport",
    re.IGNORECASE,
)

# RESOURCE_EXHAUSTED that no other replica would lift: the wording of C-core, grpc-go, grpc-java.
_TOO_LARGE = re.compile(
    r"larger than max|exceeds maximum size|metadata size exceeds", re.IGNORECASE
)
_MAX_DETAILS = 500
_LONGEST_WAIT_S = 24 * 3600.0
_WHOLE = re.compile(r"[0-9]{1,9}")


def error_of(
    endpoint: Endpoint, error: grpc.aio.AioRpcError, secret: Secret | None = None
) -> UpstreamError:
    """The leaf of the error tree for a call that ``endpoint`` ended, or its transport.

    ``secret``: the key that it was sent, which no word of it may tell.
    """
    code = error.code()
    details = without_secret(error.details() or "", secret)
    trailers = without_secrets(tuple(error.trailing_metadata() or ()), secret)
    if secret is not None and code is grpc.StatusCode.UNAUTHENTICATED:
        # Nothing that its caller could mend.
        return UpstreamFaultError(f"{endpoint.name}: it does not accept this gateway's key")
    message = f"{endpoint.name}: {code.name}: {details[:_MAX_DETAILS]}"
    # A server that answers sends trailers of its own, often; the transport never does.
    if code in _TRANSPORT and not trailers:
        # These messages, which callers read, are without the server's address; `__cause__` has it.
        refused = _REFUSED.search(details) is not None
        if refused or _UNSEEN.search(details):
            blamed = refused and not _OWN_LACKS.search(details)
            told = f"{endpoint.name}: cannot be reached: {_why(details)}"
            return UpstreamUnreachedError(told, refused=blamed)
        if _LOST.search(details):
            return UpstreamLostError(f"{endpoint.name}: the connection broke during the call")
    cls = _LEAVES.get(code, UpstreamRejectedError)
    if cls is UpstreamBusyError and _TOO_LARGE.search(details):
        cls = UpstreamTooLargeError
    if issubclass(cls, UpstreamBlamingError):
        return cls(details or code.name, status=code.name, trailers=trailers)
    return cls(message, retry_after_s=_retry_after_s(trailers))


def _why(details: str) -> str:
    """The transport's reason, as far as it names no host."""
    said = _CERTIFICATE.search(details)
    if said is not None:
        return f"its certificate: {said[1] or said[2]}"
    said = _SYSTEM.search(details)
    if said is not None:
        return said[0].lower()
    if "resol" in details:
        return "its name stands for nothing"
    return "no connection" if _REFUSED.search(details) else "it took no more calls"


def _retry_after_s(trailers: Metadata) -> float | None:
    """The backend's hint; None without one, and for a negative pushback, which is no time."""
    for key, unit_s in (("grpc-retry-pushback-ms", 1e-3), ("retry-after", 1.0)):
        for name, value in trailers:
            if name == key and isinstance(value, str) and _WHOLE.fullmatch(value):
                return min(int(value) * unit_s, _LONGEST_WAIT_S)
    return None
