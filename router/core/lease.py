"""An admitted request on one endpoint: ends succeeded, ignored or dropped, exactly once."""

from __future__ import annotations

from router.core.board import Seat
from router.model import Outcome


class Lease:
    """Holds one place on a seat from construction until `close`; closing twice does nothing."""

    __slots__ = ("_batch_cap", "batch_at_start", "outcome", "seat")

    def __init__(self, seat: Seat, batch_cap: float) -> None:
        """``batch_cap``: concurrency beyond which this request's own budget would break."""
        self.seat = seat
        self.outcome: Outcome | None = None
        self._batch_cap = batch_cap
        seat.take(batch_cap)
        self.batch_at_start = seat.batch

    def close(self, outcome: Outcome) -> bool:
        """Give the place back; False when it was given back before."""
        if self.outcome is not None:
            return False
        self.outcome = outcome
        self.seat.give_back(self._batch_cap)
        return True
