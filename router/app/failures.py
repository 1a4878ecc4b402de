"""Counts and logs requests that ended without a good answer."""

from __future__ import annotations

from router.contract import Clock
from router.errors import (
    RefusedError,
    RequestError,
    UpstreamDeniedError,
    UpstreamError,
    UpstreamRejectedError,
)
from router.gateway.failures import CANCELLED
from router.model import Request
from router.telemetry.logs import Event, RequestLine, RequestLog
from router.telemetry.metrics import Metrics


class FailureReporter:
    """The gateway's `Failures`: one metric and at most one line for each failed request."""

    def __init__(self, metrics: Metrics, log: RequestLog, clock: Clock) -> None:
        self._metrics = metrics
        self._log = log
        self._clock = clock

    def failed(
        self, method: str, request: Request | None, code: str, reason: str, error: BaseException
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
        if reason == CANCELLED:
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
            ),
            self._clock.monotonic(),
            None if known else error,
        )
