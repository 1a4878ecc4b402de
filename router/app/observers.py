"""Who is told of finished requests beside the metrics."""

from __future__ import annotations

from router.contract import Observer
from router.model import Receipt
from router.telemetry.request_file import RequestFile


class LoggedRequests:
    """An `Observer` that tells another one everything, and a file of requests what succeeded."""

    def __init__(self, observer: Observer, file: RequestFile) -> None:
        self._file = file
        self.decided = observer.decided
        self.retried = observer.retried
        self.ejected = observer.ejected
        self._finished = observer.finished

    def finished(self, receipt: Receipt, added_latency_s: float) -> None:
        """See `router.contract.Observer`."""
        self._finished(receipt, added_latency_s)
        self._file.finished(receipt)
