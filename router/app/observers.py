"""Who is told of finished requests beside the metrics."""

from __future__ import annotations

from collections.abc import Callable

from router.contract import Observer
from router.model import Receipt
from router.telemetry.request_file import RequestFile
from router.telemetry.security import SecurityEvent, SecurityLog


class LoggedRequests:
    """An `Observer` that tells another one everything, a file of requests what succeeded, and the
    log of security whose reports were not believed. ``onlooker``: who else sees receipts just now,
    None for nobody; must not block."""

    def __init__(self, observer: Observer, file: RequestFile, security: SecurityLog) -> None:
        self._file = file
        self._security = security
        self.decided = observer.decided
        self.retried = observer.retried
        self.ejected = observer.ejected
        self.judged = observer.judged
        self._finished = observer.finished
        self.onlooker: Callable[[Receipt], None] | None = None

    def finished(self, receipt: Receipt, added_latency_s: float, trace_id: str = "") -> None:
        """See `router.contract.Observer`."""
        self._finished(receipt, added_latency_s, trace_id)
        self._file.finished(receipt)
        if self.onlooker is not None:
            self.onlooker(receipt)
        for doubt in receipt.doubts:
            self._security.tell(
                SecurityEvent.REPORT_REJECTED,
                doubt,
                endpoint=receipt.decision.endpoint.name,
                region=receipt.region,
                decision_id=receipt.decision_id,
            )
