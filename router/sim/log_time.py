"""Times of day of a log of requests -> seconds since a scenario's start on another day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

_DAY_S: Final = 86_400.0


class LogTime:
    """Moves times by whole days, so that the first ones lie in the day after ``start`` (unix s).

    Hours keep their meaning, for people and for grids. ``days``: by how many, known after the first
    `arrivals`. ``used``: whether the file at hand has times at all.
    """

    def __init__(self, start: float) -> None:
        self._start = start
        self._shift_s: float | None = None
        self.used = False

    @property
    def days(self) -> float:
        """Days by which times are moved; positive: towards the future."""
        return (self._shift_s or 0.0) / _DAY_S

    def arrivals(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], int | None]:
        """Seconds since the start, below 0 for what comes before it; the place of a bad time."""
        at = np.empty(len(texts))
        for place, text in enumerate(texts):
            try:
                when = datetime.fromisoformat(text)
            except ValueError:
                return at, place
            at[place] = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        at -= self._start
        if self._shift_s is None:
            self._shift_s = -math.floor(at.min() / _DAY_S) * _DAY_S
        return at + self._shift_s, None
