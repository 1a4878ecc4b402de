"""An admitted request on one endpoint: ends succeeded, ignored or dropped, exactly once."""

from __future__ import annotations

from router.core.outlier import OutlierEjection
from router.core.seat import Seat
from router.model import Outcome


class Lease:
    """Holds one place on a seat from construction until `close`; closing twice does nothing.

    ``departed``: monotonic seconds at which the request left; ``run_s``: how long it is predicted
    to take; ``outlier``: of its model there, None where nobody keeps that.
    """

    __slots__ = ("_batch_cap", "batch_at_start", "departed", "outcome", "outlier", "run_s", "seat")

    def __init__(
        self,
        seat: Seat,
        batch_cap: float,
        outlier: OutlierEjection | None = None,
        departed: float = 0.0,
        run_s: float = 0.0,
    ) -> None:
        """``batch_cap``: concurrency beyond which this request's own budget would break."""
        self.seat = seat
        self.outlier = outlier
        self.departed = departed
        self.run_s = run_s
        self.outcome: Outcome | None = None
        self._batch_cap = batch_cap
        seat.leases[self] = None
        if outlier is not None:
            outlier.in_flight += 1
        seat.take(batch_cap)
        self.batch_at_start = seat.batch

    def close(self, outcome: Outcome) -> bool:
        """Give the place back; False when it was given back before."""
        if self.outcome is not None:
            return False
        self.outcome = outcome
        del self.seat.leases[self]
        if self.outlier is not None:
            self.outlier.in_flight -= 1
        self.seat.give_back(self._batch_cap)
        return True
