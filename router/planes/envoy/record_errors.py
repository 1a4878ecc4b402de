"""Why a request that Envoy carried, or refused, was not answered: as an error of the one tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from router.errors import (
    BudgetImpossibleError,
    CarbonBudgetError,
    CarbonBudgetHeldError,
    CarbonRouterError,
    IdentityUnavailableError,
    InvalidMetadataError,
    MalformedRequestError,
    NothingFeasibleError,
    NotPermittedError,
    PolicyExcludesError,
    RateLimitedError,
    ResidencyError,
    ShedError,
    UnauthenticatedError,
    UnknownModelError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamFaultError,
    UpstreamInternalError,
    UpstreamLostError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamUnreachedError,
)
from router.model import Request
from router.planes.envoy.layout import RequestRecord

# As reason_t of source/caller.h numbers them; a test compares the words.
REFUSALS: Final[tuple[type[CarbonRouterError] | None, ...]] = (
    None, MalformedRequestError, InvalidMetadataError,
    UnknownModelError, ShedError, NothingFeasibleError, ResidencyError, PolicyExcludesError,
    BudgetImpossibleError, NothingFeasibleError, UnauthenticatedError, NotPermittedError,
    IdentityUnavailableError, RateLimitedError, CarbonBudgetError, CarbonBudgetHeldError,
)  # fmt: skip
# Of the two fronts, gRPC's and HTTP's, as failures tell of them.
METHODS: Final = ("ModelInfer", "POST /v1/chat/completions")
# As `router.gateway.failures.Failures`.
Failed = Callable[[str, Request | None, str, str, BaseException], None]
# grpc.StatusCode, by number.
_GRPC_NAMES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
# What Envoy says of requests that their callers left.
_LEFT: Final = ("downstream", "http1.", "http2.", "destroyed")
# Of Envoy's own clock: a caller's deadline, or the longest that a request may take.
_LATE: Final = ("max_duration_timeout", "upstream_response_timeout", "stream_idle_timeout")
_UNREACHED: Final = ("connection_failure", "remote_connection_failure", "connection_timeout")
_HTTP_OF_GRPC: Final = {
    3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 10: 503, 11: 400, 12: 404, 14: 503, 15: 503,
    16: 401,
}  # fmt: skip


class LeftError(UpstreamError):
    """Its caller went away."""

    reason = "cancelled"


def error_of(record: RequestRecord) -> UpstreamError | None:
    """Why it was not answered; None where it was."""
    details = record.details.decode(errors="replace")
    text = f"Envoy: {details or 'no details'}"
    if any(word in details for word in _UNREACHED):
        return UpstreamUnreachedError(text, refused=True)
    if any(word in details for word in _LATE):
        return UpstreamTimeoutError(text)
    if "upstream_reset" in details:
        late = "timeout" in details or record.grpc_status == 4
        return UpstreamTimeoutError(text) if late else UpstreamLostError(text)
    if record.cut_short and (not details or details.startswith(_LEFT)):
        return LeftError(text)
    status = record.status
    if not record.is_http:
        number = record.grpc_status
        if number == 0:
            return None
        if number < 0 and record.cut_short:
            return LeftError(text)
        # An answer that HTTP alone wrote is none, whatever its status.
        if number > 0 or status < 400:
            status = _HTTP_OF_GRPC.get(number, 500)
    if 200 <= status < 400:
        return None
    text = f"the server answered {record.status} {grpc_name(record.grpc_status)}"
    if status in (502, 503, 504):
        return UpstreamFaultError(text)
    if status == 429:
        return UpstreamBusyError(text)
    if status < 500:
        return UpstreamRejectedError(text, status=str(status))
    return UpstreamInternalError(text, status=str(status))


def refusal_of(record: RequestRecord, principal: str = "") -> CarbonRouterError:
    """Why the module refused it. ``principal``: whose it was, as far as is known."""
    kind = REFUSALS[record.reason] if record.reason < len(REFUSALS) else None
    if kind is RateLimitedError:
        limit = record.details.decode(errors="replace")
        return RateLimitedError("refused by Envoy's plane", None, limit, principal)
    if kind is NotPermittedError:
        return NotPermittedError("refused by Envoy's plane", "model", principal)
    return (kind or MalformedRequestError)("refused by Envoy's plane")


def grpc_name(number: int) -> str:
    """``grpc.StatusCode`` in words; UNKNOWN where there is none of that number."""
    return _GRPC_NAMES[number] if 0 <= number < len(_GRPC_NAMES) else "UNKNOWN"
