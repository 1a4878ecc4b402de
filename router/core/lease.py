"""An admitted request on one endpoint: ends succeeded, ignored or dropped, exactly once."""

from __future__ import annotations

from router.core.energy import Crowd
from router.core.outlier import OutlierEjection
from router.core.seat import Seat
from router.model import Burden, Outcome


class Lease:
    """Holds one place on a seat from construction until `close`; closing twice does nothing.

    ``departed``: monotonic seconds at which the request left; ``run_s``: how long it is predicted
    to take; ``outlier``: of its model there, None where nobody keeps that.
    """

    __slots__ = (
        "_burden",
        "_is_read",
        "crowd_at_start",
        "departed",
        "outcome",
        "outlier",
        "run_s",
        "seat",
    )

    def __init__(
        self,
        seat: Seat,
        burden: Burden,
        outlier: OutlierEjection | None = None,
        departed: float = 0.0,
        run_s: float = 0.0,
        now: float = 0.0,
    ) -> None:
        """``burden``: what the request adds to the endpoint; ``now``: as it was decided at."""
        self.seat = seat
        self.outlier = outlier
        self.departed = departed
        self.run_s = run_s
        self.outcome: Outcome | None = None
        self._burden = burden
        self._is_read = False
        seat.leases[self] = None
        if outlier is not None:
            outlier.in_flight += 1
        seat.take(burden, now)
        self.crowd_at_start = seat.crowd(burden)

    def crowd(self) -> Crowd:
        """Who was there on the mean of its start and now; while it is not closed."""
        before, now = self.crowd_at_start, self.seat.crowd(self._burden)
        return Crowd(
            (before.batch + now.batch) / 2.0,
            (before.prompts_ms + now.prompts_ms) / 2.0,
            (before.cached_tokens + now.cached_tokens) / 2.0,
        )

    def prompt_read(self) -> None:
        """The first token came, so its prompt is before nobody's any more. Calling it twice, or
        after `close`, does nothing."""
        if not self._is_read and self.outcome is None and self._burden.prompt_ms > 0.0:
            self._is_read = True
            self.seat.prompt_read(self._burden.prompt_ms)

    def close(self, outcome: Outcome) -> bool:
        """Give the place back; False when it was given back before."""
        if self.outcome is not None:
            return False
        self.outcome = outcome
        del self.seat.leases[self]
        if self.outlier is not None:
            self.outlier.in_flight -= 1
        self.seat.give_back(self._burden, self._is_read)
        return True
