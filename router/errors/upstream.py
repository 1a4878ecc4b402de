"""A backend failed."""

from __future__ import annotations

from collections.abc import Sequence

from router.errors.root import CarbonRouterError


class UpstreamError(CarbonRouterError):
    """A backend failed.

    ``endpoint``, ``region``, ``attempts`` and ``decision_id`` are filled in by whoever sent the
    request there.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """``retry_after_s``: what the server asked for, None when it did not say."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.endpoint = ""
        self.region = ""
        self.attempts = 0
        self.decision_id = ""


class UpstreamUnreachedError(UpstreamError):
    """No server has seen the request: connection or stream refused, or closed before it."""

    reason = "upstream_unreached"

    def __init__(self, message: str, *, refused: bool) -> None:
        """``refused``: the server lets nobody connect; else another connection may serve it, or
        this gateway lacks what one takes."""
        super().__init__(message)
        self.refused = refused


class UpstreamLostError(UpstreamError):
    """The connection broke, or was given up, while the server had the request."""

    reason = "upstream_lost"


class UpstreamFaultError(UpstreamError):
    """The server says that it cannot serve, or gives no answer."""

    reason = "upstream_fault"


class UpstreamBusyError(UpstreamError):
    """Backpressure: not a fault; marked busy, retryable."""

    reason = "upstream_busy"


class UpstreamBlamingError(UpstreamError):
    """The server itself failed the request, which may have deserved it.

    Only another endpoint's answer to the same request can tell. The server's own words and status
    are for the caller to read, so the message is theirs alone.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str = "",
        trailers: Sequence[tuple[str, str | bytes]] = (),
    ) -> None:
        """``status``: as the server's protocol names it, "" where it named none. Like ``trailers``
        it travels from a backend to a front of one protocol; nobody between them reads it.
        """
        super().__init__(message)
        self.status = status
        self.trailers = tuple(trailers)


class UpstreamInternalError(UpstreamBlamingError):
    """The server itself says that it failed, some of a bad tensor, some of a broken GPU."""

    reason = "upstream_internal"


class UpstreamDeniedError(UpstreamBlamingError):
    """Not found, not permitted and the like: of this endpoint, or of the request."""

    reason = "upstream_denied"


class UpstreamRejectedError(UpstreamBlamingError):
    """The backend blames the request: passed on.

    Where it lately answered the same caller well, another endpoint is asked first.
    """

    reason = "upstream_rejected"


class UpstreamTooLargeError(UpstreamRejectedError):
    """It is too large for the server, or to be sent there: it would be as large elsewhere."""


class UpstreamTimeoutError(UpstreamError):
    """The backend did not answer within the request's time."""

    reason = "upstream_timeout"
