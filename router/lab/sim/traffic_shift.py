"""How much traffic goes elsewhere from one update of the carbon signal to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class TrafficShifts:
    """Shares of traffic re-homed at each update, origins and models apart."""

    def __init__(self) -> None:
        self._found: list[tuple[float, float]] = []
        self._before: NDArray[np.float64] | None = None
        self._opened_s = 0.0

    def close(self, counts: NDArray[np.float64], at_s: float) -> None:
        """End an interval ``at_s`` seconds after the start, the signal changing.

        ``counts``: requests placed in it, (origins, models, regions); kept, not copied. Compared is
        what had traffic before and after: half the sum of what each region's share changed by.
        """
        if self._before is not None:
            before, now = self._before.sum(axis=2), counts.sum(axis=2)
            both = (before > 0.0) & (now > 0.0)
            if both.any():
                change = (
                    counts[both] / now[both][:, None] - self._before[both] / before[both][:, None]
                )
                share = 0.5 * np.abs(change).sum(axis=1)
                self._found.append((self._opened_s, float(np.average(share, weights=now[both]))))
        self._before, self._opened_s = counts, at_s

    @property
    def found(self) -> tuple[tuple[float, float], ...]:
        """(seconds since the start, share moved) of every update, mean by traffic."""
        return tuple(self._found)
