"""The one table from errors to HTTP statuses, and to bodies in the shape of the API that was asked.

Statuses as the SDKs of OpenAI and Anthropic act on them: 408, 409, 429 and 5xx are asked again by
themselves, unless ``x-should-retry: false`` says that it is no use. The error's machine-readable
reason is its ``code``; what a server itself said of a request is passed on as it came.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec

from router import errors
from router.contract import Metadata
from router.http_api import BODY, ERROR_FIELDS, RESPONSES, Family, HttpApi

STATUSES: Final[dict[type[errors.CarbonRouterError], int]] = {
    errors.MissingIntensityError: 503,
    errors.MalformedRequestError: 400,
    errors.MessageTooLargeError: 413,
    errors.InvalidMetadataError: 400,
    errors.MetadataTooLargeError: 431,
    errors.RequestStalledError: 408,
    errors.UnknownMethodError: 404,
    errors.UnknownHostError: 421,
    errors.UnknownModelError: 404,
    errors.UnknownResponseError: 404,
    errors.UnknownReceiptError: 404,
    errors.UnknownFileError: 404,
    errors.UnknownBatchError: 404,
    errors.BatchEndedError: 400,
    errors.BatchOpenError: 400,
    errors.DeferralQuotaError: 429,
    errors.DeferralFullError: 507,
    errors.DeferralStoreError: 503,
    errors.UnsupportedMethodError: 501,
    errors.UnauthenticatedError: 401,
    errors.NotPermittedError: 403,
    errors.NothingFeasibleError: 503,
    errors.ShedError: 429,
    errors.CarbonBudgetError: 429,
    errors.CarbonBudgetHeldError: 429,
    errors.ResidencyError: 400,
    errors.PolicyExcludesError: 403,
    errors.BudgetImpossibleError: 504,
    errors.GatewayFullError: 429,
    errors.RateLimitedError: 429,
    errors.IdentityUnavailableError: 503,
    errors.ReceiptsUnreachableError: 503,
    errors.DrainingError: 503,
    errors.UpstreamUnreachedError: 502,
    errors.UpstreamLostError: 502,
    errors.UpstreamFaultError: 502,
    errors.UpstreamBusyError: 429,
    # The server's own status where it gave one.
    errors.UpstreamInternalError: 502,
    errors.UpstreamDeniedError: 502,
    errors.UpstreamRejectedError: 400,
    errors.UpstreamTooLargeError: 413,
    errors.UpstreamTimeoutError: 504,
}
_INTERNAL: Final = 500
# Of a caller that went away, as nginx writes it.
GONE: Final = 499
# Every word that `Failures` may hear from this front.
NAMES: Final = frozenset(map(str, (*STATUSES.values(), _INTERNAL, GONE, *range(400, 600))))
# OpenAI's word for it (`ResponseError.code`, openai 3.57).
RESIDENCY_CODE: Final = "data_residency_mismatch"
# Likewise, of a call without a valid key.
KEY_CODE: Final = "invalid_api_key"

_CODES: Final[dict[type[BaseException], str]] = {
    errors.ResidencyError: RESIDENCY_CODE, errors.UnauthenticatedError: KEY_CODE,
}  # fmt: skip

_OPENAI_TYPES: Final = {
    401: "authentication_error", 403: "permission_error", 408: "timeout", 429: "rate_limit_error",
    504: "timeout",
}  # fmt: skip
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
    404: "not_found_error", 408: "timeout_error", 413: "request_too_large",
    429: "rate_limit_error", 431: "invalid_request_error", 503: "overloaded_error",
    504: "timeout_error",
}  # fmt: skip
_MAX_MESSAGE: Final = 4096


class HttpRefusal(NamedTuple):
    """How a failed call ends."""

    status: int
    headers: dict[str, str]
    body: bytes
    reason: str


def refusal_of(
    error: BaseException, api: HttpApi, request_id: str = "", retried: int = 0
) -> HttpRefusal:
    """For any exception; of one that is not in the tree the caller learns nothing.

    ``retried``: how often the caller says that it has asked before.
    """
    status, code, message = _told(error)
    headers = {"content-type": "application/json", **_retrying(error, status, retried)}
    if status == 401:
        # RFC 9110, 11.6.1: it says how to ask.
        headers["www-authenticate"] = 'Bearer realm="carbon-router"'
    body = b""
    if isinstance(error, errors.UpstreamError) and error.decision_id:
        # The same id is in the operator's log.
        headers["x-carbon"] = f'id="{error.decision_id}", attempts={error.attempts}'
    if isinstance(error, errors.UpstreamBlamingError) and error.status.isdigit():
        status = int(error.status)
        body = _its_own(error.trailers, headers)
    return HttpRefusal(status, headers, body or _body(api, status, code, message, request_id), code)


def event_of(error: BaseException, api: HttpApi, got: str, sequence: int = 0) -> bytes:
    """The event that tells of an error in the midst of a stream, such that SDKs raise it.

    ``got``: how far the answer came.
    """
    status, code, message = _told(error)
    message = f"{message} ({got})"
    if api is RESPONSES:
        told = {
            "type": "error", "code": code, "message": message, "param": None,
            "sequence_number": sequence,
        }  # fmt: skip
        return b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"
    body = _body(api, status, code, message, "")
    if api.family is Family.ANTHROPIC:
        return b"event: error\ndata: " + body + b"\n\n"
    return b"data: " + body + b"\n\n"


def _told(error: BaseException) -> tuple[int, str, str]:
    """Status, code and message."""
    if not isinstance(error, errors.CarbonRouterError):
        return _INTERNAL, "internal", "internal error"
    status = next((STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES), _INTERNAL)
    if status == _INTERNAL:
        # About our own data or configuration: for the operator's log, not for the caller.
        return status, error.reason, "internal error"
    return status, _CODES.get(type(error), error.reason), str(error)[:_MAX_MESSAGE]


def _body(api: HttpApi, status: int, code: str, message: str, request_id: str) -> bytes:
    if api.family is Family.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        told: dict[str, object] = {
            "type": "error", "error": {"type": kind, "message": message, "code": code},
        }  # fmt: skip
        if request_id:
            told["request_id"] = request_id
        return msgspec.json.encode(told)
    kind = _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return msgspec.json.encode(
        {"error": {"message": message, "type": kind, "param": None, "code": code}}
    )


def _retrying(error: BaseException, status: int, retried: int) -> dict[str, str]:
    """When to ask again, and whether that is of any use."""
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is None or not (math.isfinite(retry_after_s) and retry_after_s >= 0.0):
        refused = isinstance(error, errors.RefusedError)
        return {"x-should-retry": "false"} if refused and status >= 408 else {}
    hints = {
        "retry-after-ms": str(math.ceil(retry_after_s * 1e3)),
        "retry-after": str(math.ceil(retry_after_s)),
    }
    told_before = retried and isinstance(error, errors.ShedError)
    if told_before or isinstance(error, errors.CarbonBudgetError):
        # It was told when, and came: the fleet is full, and each try costs it a look. Of a carbon
        # budget nothing is left before the day ends, and SDKs ask again after 8 s at the latest.
        hints["x-should-retry"] = "false"
    return hints


def _its_own(trailers: Metadata, headers: dict[str, str]) -> bytes:
    """The body of what a server said itself; the fields that tell of it join ``headers``."""
    body = b""
    for key, value in trailers:
        if key == BODY and isinstance(value, bytes):
            body = value
        elif key in ERROR_FIELDS:
            headers[key] = str(value)
    return body
