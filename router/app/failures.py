"""Counts and logs requests that ended without a good answer."""

from __future__ import annotations

from typing import Final

from router.contract import Clock
from router.errors import (
    GatewayFullError,
    IdentityUnavailableError,
    MetadataTooLargeError,
    NotPermittedError,
    RateLimitedError,
    RefusedError,
    RequestError,
    UnauthenticatedError,
    UpstreamDeniedError,
    UpstreamError,
    UpstreamRejectedError,
    span_of,
)
from router.gateway.failures import CANCELLED, Arrival
from router.model import Request
from router.telemetry.logs import Event, RequestLine, RequestLog
from router.telemetry.metrics import Metrics
from router.telemetry.security import SecurityEvent, SecurityLog
from router.telemetry.tracing.tracer import RequestTracer, TurnedAway

# Of whom nobody has asked yet who they are, or who did not say.
_OF_STRANGERS: Final = (
    UnauthenticatedError,
    IdentityUnavailableError,
    GatewayFullError,
    MetadataTooLargeError,
)


class FailureReporter:
    """The gateway's `Failures`: one metric and at most one line for each failed request, among the
    events of security where it is about who calls."""

    def __init__(
        self,
        metrics: Metrics,
        log: RequestLog,
        clock: Clock,
        security: SecurityLog,
        tracer: RequestTracer | None = None,
    ) -> None:
        """``tracer``: tells of what no director has seen; None where nothing is traced."""
        self._metrics = metrics
        self._tracer = tracer
        self._log = log
        self._security = security
        self._clock = clock

    def failed(
        self,
        method: str,
        request: Request | None,
        code: str,
        reason: str,
        error: BaseException,
        client_retries: int = 0,
        arrival: Arrival | None = None,
    ) -> None:
        """See `router.gateway.failures.Failures`."""
        model = request.model if request else ""
        upstream = error if isinstance(error, UpstreamError) else None
        if upstream is not None:
            self._metrics.failed(upstream.region, model, code)
        elif isinstance(error, RefusedError | RequestError):
            self._metrics.refused(model, code, reason)
        else:
            self._metrics.failed("", model, code)
        retries = request.client_retries if request else client_retries
        if retries:
            self._metrics.asked_again(model, code)
        trace_id, span_id = self._span(request, reason, error, arrival)
        if reason == CANCELLED or self._is_about_the_caller(method, error):
            return
        event: Event = "failed"
        if isinstance(error, RefusedError):
            event = "refused"
        elif isinstance(error, RequestError | UpstreamRejectedError | UpstreamDeniedError):
            event = "invalid"
        known = isinstance(error, RefusedError | RequestError | UpstreamError)
        self._log.write(
            event,
            RequestLine(
                reason=reason,
                code=code,
                model=model,
                decision_id=upstream.decision_id if upstream else "",
                request_id=request.request_id if request else "",
                method=method,
                origin=request.origin if request else "",
                endpoint=upstream.endpoint if upstream else "",
                attempts=upstream.attempts if upstream else 0,
                client_retries=retries,
                trace_id=trace_id,
                span_id=span_id,
            ),
            self._clock.monotonic(),
            None if known else error,
        )

    def _span(
        self, request: Request | None, reason: str, error: BaseException, arrival: Arrival | None
    ) -> tuple[str, str]:
        """Trace and span that tell of it, "" where none is kept: the director's, else one now."""
        told = span_of(error)
        if told is not None:
            return told
        is_refused = isinstance(error, RefusedError | RequestError)
        if self._tracer is None or arrival is None or not is_refused:
            return "", ""
        return self._tracer.turned_away(
            TurnedAway(
                arrival.metadata,
                arrival.protocol,
                arrival.streamed,
                request,
                reason,
                isinstance(error, _OF_STRANGERS),
                arrival.after_s,
            )
        )

    def _is_about_the_caller(self, method: str, error: BaseException) -> bool:
        tell = self._security.tell
        if isinstance(error, UnauthenticatedError):
            tell(
                SecurityEvent.UNAUTHENTICATED,
                error.why,
                method=method,
                peer=error.peer,
                key_id=error.key_id,
            )
        elif isinstance(error, NotPermittedError):
            tell(SecurityEvent.NOT_PERMITTED, error.what, method=method, principal=error.principal)
        elif isinstance(error, RateLimitedError):
            tell(SecurityEvent.RATE_LIMITED, error.limit, method=method, principal=error.principal)
        else:
            return False
        return True
