"""The one table from what HTTP servers answer, and connections do, to leaves of the error tree."""

from __future__ import annotations

import errno
import http
import math
import os
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

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
from router.http_api import BODY, ERROR_FIELDS, stated_error
from router.model import Endpoint
from router.trust.secrets import Secret

# 498: Groq's, no capacity for its flex tier; 529: Anthropic's, overloaded.
_LEAVES: Final[Mapping[int, type[UpstreamError]]] = {
    401: UpstreamDeniedError,
    403: UpstreamDeniedError,
    404: UpstreamDeniedError,
    408: UpstreamTimeoutError,
    413: UpstreamTooLargeError,
    429: UpstreamBusyError,
    498: UpstreamBusyError,
    500: UpstreamInternalError,
    501: UpstreamInternalError,
    529: UpstreamBusyError,
}
# No connection could be had for what this gateway lacks: descriptors, ports or memory.
_OWN_LACKS: Final = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
)
# Of the body of an error: what is longer is no message, and a part of it is no JSON.
MAX_ERROR_BYTES: Final = 64 * 1024
_MAX_TEXT: Final = 500
_LONGEST_WAIT_S: Final = 24 * 3600.0


def leaf_of(status: int) -> type[UpstreamError]:
    """The leaf for a status that is no answer: below 200, or from 300 on."""
    known = _LEAVES.get(status)
    if known is not None:
        return known
    # A redirect is of the path that the caller chose; it would lead to a machine that the operator
    # did not name.
    return UpstreamRejectedError if 300 <= status < 500 else UpstreamFaultError


def error_of_status(
    endpoint: Endpoint,
    status: int,
    fields: Mapping[str, str],
    body: bytes,
    secret: Secret | None = None,
) -> UpstreamError:
    """The leaf for an answer with ``status``. ``body``: b"" where it was too long. ``secret``: the
    key that the server was sent, which no word of it may tell."""
    if secret is not None:
        if status == http.HTTPStatus.UNAUTHORIZED:
            # Nothing that its caller could mend.
            return UpstreamFaultError(f"{endpoint.name}: it does not accept this gateway's key")
        if secret.is_told_by(body.decode(errors="replace")):
            body = b""
    stated = stated_error(body)
    said = (stated.message if stated else "") or _phrase(status)
    leaf = leaf_of(status)
    if 300 <= status < 400:
        # Where it leads to is about the server.
        return UpstreamRejectedError("the server has no such page: it redirects", status="404")
    if issubclass(leaf, UpstreamBlamingError):
        kept = [
            (key, fields[key])
            for key in ERROR_FIELDS
            if key in fields and not (secret and secret.is_told_by(fields[key]))
        ]
        return leaf(said, status=str(status), trailers=(*kept, (BODY, body)) if body else ())
    message = f"{endpoint.name}: HTTP {status}: {said[:_MAX_TEXT]}"
    return leaf(message, retry_after_s=retry_after_s(fields))


def is_head_too_long(error: Exception) -> bool:
    """Whether a field of the answer's head is longer than is read; aiohttp tells by its words."""
    return isinstance(error, aiohttp.ClientResponseError) and "Got more than" in error.message


def error_of_opening(endpoint: Endpoint, error: Exception) -> UpstreamError:
    """The leaf for a request that got no answer. Its message, which callers read, is without the
    server's address; `__cause__` has it."""
    trouble = tls_trouble(error)
    if trouble:
        return UpstreamUnreachedError(f"{endpoint.name}: TLS failed: {trouble}", refused=True)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        number = getattr(error, "errno", None)
        why = os.strerror(number) if number else "no connection"
        return UpstreamUnreachedError(
            f"{endpoint.name}: cannot be reached: {why}", refused=number not in _OWN_LACKS
        )
    if isinstance(error, TimeoutError):
        return UpstreamTimeoutError(f"{endpoint.name}: no answer in time")
    if isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError):
        # aiohttp's word for a field that cannot be written, before anything was.
        return UpstreamRejectedError("a field has characters that no field has", status="400")
    if is_head_too_long(error):
        # What it echoes may be the caller's.
        text = f"{endpoint.name}: the answer's head is longer than is read here"
        return UpstreamInternalError(text, status="502")
    return UpstreamLostError(f"{endpoint.name}: the connection broke: {type(error).__name__}")


def tls_trouble(error: BaseException) -> str:
    """What is wrong with a handshake, without a name or an address; "" where it is not that.

    A server that wants another certificate of us says so after our side is done, in place of an
    answer, without having read anything.
    """
    inner = (getattr(error, name, None) for name in ("certificate_error", "os_error"))
    for found in (*inner, error.__cause__, error):
        if isinstance(found, ssl.SSLCertVerificationError):
            told: str = getattr(found, "verify_message", "")
            return told.partition(",")[0] or "the certificate is not accepted"
        if isinstance(found, ssl.SSLError):
            reason: str = getattr(found, "reason", None) or type(found).__name__
            return reason.lower().replace("_", " ")
    return ""


def error_of_body(endpoint: Endpoint, error: Exception, come_bytes: int) -> UpstreamError:
    """The leaf for an answer that broke off after ``come_bytes`` of its body."""
    if isinstance(error, TimeoutError):
        return UpstreamTimeoutError(
            f"{endpoint.name}: the answer, of which {come_bytes} bytes came, did not end in time"
        )
    return UpstreamLostError(
        f"{endpoint.name}: the answer broke off after {come_bytes} bytes: {type(error).__name__}"
    )


def retry_after_s(fields: Mapping[str, str]) -> float | None:
    """What the server asked for; None without it, and for what is no time.

    ``retry-after-ms`` (OpenAI's) goes before ``retry-after``: seconds, or a date, which counts
    from the answer's own.
    """
    for key, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = fields.get(key)
        if value is None:
            continue
        try:
            wait_s = float(value) * unit_s
        except ValueError:
            wait_s = _until(value, fields.get("date", ""))
        if 0.0 <= wait_s < math.inf:
            return min(wait_s, _LONGEST_WAIT_S)
    return None


def _until(date: str, now: str) -> float:
    try:
        return (parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP {status}"
