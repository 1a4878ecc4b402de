"""The one table from errors to gRPC status codes, with the trailers that go along.

Codes: gRPC's own meanings (grpc.github.io/grpc/core/md_doc_statuscodes.html); retry hints as of
gRFC A6. Every refusal carries ``x-carbon-reason``, the error's machine-readable reason.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import grpc

from router import errors
from router.contract import Metadata
from router.reserved_names import is_reserved

_CODE = grpc.StatusCode
# Status messages and trailers travel in one header block, of which 8 KiB is the usual limit.
_MAX_MESSAGE = 1024
_MAX_TRAILERS = 4096

CODES: dict[type[errors.CarbonRouterError], grpc.StatusCode] = {
    errors.ConfigError: _CODE.INTERNAL,
    errors.TraceError: _CODE.INTERNAL,
    # Told to an operator, at the command line or in the log.
    errors.NoLedgerError: _CODE.INTERNAL,
    errors.DiscoveryError: _CODE.INTERNAL,
    errors.MissingIntensityError: _CODE.UNAVAILABLE,
    errors.MixedBasisError: _CODE.INTERNAL,
    # No request waits for what gateways share.
    errors.StateStoreError: _CODE.INTERNAL,
    # Told to an operator, before anything listens.
    errors.EnvoyPlaneError: _CODE.INTERNAL,
    errors.JudgeError: _CODE.INTERNAL,
    errors.HintNotTakenError: _CODE.INTERNAL,
    # Providers are asked in the background: no caller waits for one.
    **dict.fromkeys(
        (
            errors.ProviderRefusedError,
            errors.ProviderBusyError,
            errors.ProviderUnavailableError,
            errors.ProviderRowError,
            errors.NoDataError,
            errors.CallBudgetError,
        ),
        _CODE.INTERNAL,
    ),
    errors.MalformedRequestError: _CODE.INVALID_ARGUMENT,
    errors.MessageTooLargeError: _CODE.RESOURCE_EXHAUSTED,
    errors.InvalidMetadataError: _CODE.INVALID_ARGUMENT,
    errors.MetadataTooLargeError: _CODE.RESOURCE_EXHAUSTED,
    errors.RequestStalledError: _CODE.DEADLINE_EXCEEDED,
    errors.UnknownResponseError: _CODE.NOT_FOUND,
    errors.UnknownReceiptError: _CODE.NOT_FOUND,
    errors.UnknownFileError: _CODE.NOT_FOUND,
    errors.UnknownBatchError: _CODE.NOT_FOUND,
    errors.BatchEndedError: _CODE.FAILED_PRECONDITION,
    errors.BatchOpenError: _CODE.FAILED_PRECONDITION,
    errors.DeferralQuotaError: _CODE.RESOURCE_EXHAUSTED,
    errors.DeferralFullError: _CODE.RESOURCE_EXHAUSTED,
    errors.DeferralStoreError: _CODE.UNAVAILABLE,
    errors.UnknownMethodError: _CODE.UNIMPLEMENTED,
    errors.UnknownHostError: _CODE.PERMISSION_DENIED,
    errors.UnknownModelError: _CODE.NOT_FOUND,
    errors.UnsupportedMethodError: _CODE.UNIMPLEMENTED,
    errors.UnauthenticatedError: _CODE.UNAUTHENTICATED,
    errors.NotPermittedError: _CODE.PERMISSION_DENIED,
    errors.NothingFeasibleError: _CODE.UNAVAILABLE,
    errors.ShedError: _CODE.RESOURCE_EXHAUSTED,
    errors.CarbonBudgetError: _CODE.RESOURCE_EXHAUSTED,
    errors.CarbonBudgetHeldError: _CODE.RESOURCE_EXHAUSTED,
    errors.ResidencyError: _CODE.FAILED_PRECONDITION,
    errors.PolicyExcludesError: _CODE.FAILED_PRECONDITION,
    errors.BudgetImpossibleError: _CODE.DEADLINE_EXCEEDED,
    errors.GatewayFullError: _CODE.RESOURCE_EXHAUSTED,
    errors.RateLimitedError: _CODE.RESOURCE_EXHAUSTED,
    errors.IdentityUnavailableError: _CODE.UNAVAILABLE,
    errors.ReceiptsUnreachableError: _CODE.UNAVAILABLE,
    errors.DrainingError: _CODE.UNAVAILABLE,
    errors.UpstreamUnreachedError: _CODE.UNAVAILABLE,
    errors.UpstreamLostError: _CODE.UNAVAILABLE,
    errors.UpstreamFaultError: _CODE.UNAVAILABLE,
    errors.UpstreamBusyError: _CODE.RESOURCE_EXHAUSTED,
    # The backend's own code where it named one; see ``status_of``.
    errors.UpstreamInternalError: _CODE.INTERNAL,
    errors.UpstreamDeniedError: _CODE.INTERNAL,
    errors.UpstreamTooLargeError: _CODE.INTERNAL,
    errors.UpstreamTimeoutError: _CODE.DEADLINE_EXCEEDED,
}


# Every word that `Failures` may hear from this front.
NAMES = frozenset(code.name for code in grpc.StatusCode)


class Status(NamedTuple):
    """How a failed call ends."""

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str | bytes], ...]
    reason: str


def status_of(error: BaseException) -> Status:
    """The status for any exception; of one that is not in the tree the caller learns nothing."""
    if not isinstance(error, errors.CarbonRouterError):
        return _status(_CODE.INTERNAL, "internal error", "internal", ())
    code = next((CODES[cls] for cls in type(error).__mro__ if cls in CODES), _CODE.INTERNAL)
    kept: Metadata = ()
    if isinstance(error, errors.UpstreamBlamingError):
        # What the server said itself is passed on, in its words and under its code.
        code = _passed_on(error.status)
        kept = passable(error.trailers, keep=("grpc-status-details-bin",))
    elif code is _CODE.INTERNAL:
        # About our own data or configuration: for the operator's log, not for the caller.
        return _status(code, "internal error", error.reason, ())
    trailers: list[tuple[str, str | bytes]] = list(kept)
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None and math.isfinite(retry_after_s) and retry_after_s >= 0.0:
        if isinstance(error, errors.CarbonBudgetError):
            # Hours: by a pushback that long a client would hold the call open.
            trailers.append(("grpc-retry-pushback-ms", "-1"))
            trailers.append(("x-carbon-retry-after-s", str(math.ceil(retry_after_s))))
        else:
            trailers.append(("grpc-retry-pushback-ms", str(math.ceil(retry_after_s * 1e3))))
    if isinstance(error, errors.UpstreamError) and error.decision_id:
        # The same id is in the operator's log.
        trailers.append(("x-carbon-decision-id", error.decision_id))
        trailers.append(("x-carbon-attempts", str(error.attempts)))
    return _status(code, str(error), error.reason, trailers)


def passable(metadata: Metadata, keep: tuple[str, ...] = ()) -> list[tuple[str, str | bytes]]:
    """A backend's metadata as a client may see it.

    Without what the transport of each hop writes for itself, without the backend's load report
    (it is about the backend; a balancer in front would take it for the gateway's), without
    receipts of a router further up, which would pass for ours, and without values that are not
    ASCII, for which gRPC would fail the whole call.
    """
    return [
        item
        for item in metadata
        if item[0] in keep
        or not (
            item[0] in _HOP_BY_HOP
            or item[0].startswith(("grpc-", ":", "endpoint-load-metrics"))
            or is_reserved(item[0])
            or not (isinstance(item[1], bytes) or item[1].isascii())
        )
    ]


def passable_head(metadata: Metadata) -> list[tuple[str, str | bytes]]:
    """A backend's initial metadata as a client may see it, without what servers and proxies of HTTP
    write by themselves: to a caller of gRPC it says nothing, and where nothing is left the answer
    needs no frame of its own for it, of which each costs the gateway a tenth of a request."""
    return [item for item in passable(metadata) if item[0] not in _OF_HTTP]


# RFC 9110 and 9111, and Envoy's stopwatch. Of a POST, as each call of gRPC is, nothing is cached.
_OF_HTTP = frozenset(
    ("date", "via", "trailer", "content-length", "accept-ranges", "last-modified", "cache-control",
     "expires", "age", "x-envoy-upstream-service-time")
)  # fmt: skip

_HOP_BY_HOP = frozenset(("te", "content-type", "user-agent", "host", "connection", "server"))


def _status(code: grpc.StatusCode, message: str, reason: str, trailers: Metadata) -> Status:
    size = sum(len(key) + len(value) for key, value in trailers)
    kept = tuple(trailers) if size <= _MAX_TRAILERS else ()
    # Each character beyond ASCII takes up to 12 bytes on the wire.
    limit = _MAX_MESSAGE if message.isascii() else _MAX_MESSAGE // 8
    short = message if len(message) <= limit else message[:limit] + "..."
    return Status(code, short, (("x-carbon-reason", reason), *kept), reason)


def _passed_on(name: str) -> grpc.StatusCode:
    """A backend's code by name; INTERNAL for none, and for what must not escape (UNKNOWN, OK)."""
    code = grpc.StatusCode.__members__.get(name, _CODE.INTERNAL)
    return _CODE.INTERNAL if code in (_CODE.UNKNOWN, _CODE.OK) else code
