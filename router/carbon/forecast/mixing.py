"""Weights among experts by how well each did lately, lead by lead.

An expert's loss is its mean absolute error in the log, recent errors counting most. Weights fall
off exponentially with the loss relative to the best expert's, so that an expert 10 % worse keeps
e^-1.5 of the best one's weight: good regressions average, a naive forecast takes over only where it
does better. Until there are errors, PRIOR_LOSS ranks them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.carbon.forecast.design import Array

EXPERTS: Final = (
    *("hourly", "level", "plain"),
    *("seasonal", "persistence", "yesterday", "last_week"),
)
REGRESSIONS: Final = 3
SEASONAL: Final = EXPERTS.index("seasonal")
# Loss before there is evidence, relative to the seasonal expert's.
PRIOR_LOSS: Final = np.array([1.3, 1.3, 1.3, 1.0, 1.6, 1.2, 1.5])
PRIOR_ERRORS: Final = 72.0
SHARPNESS: Final = 15.0
HALF_LIFE_H: Final = 90 * 24.0
_FADE: Final = 0.5 ** (1.0 / HALF_LIFE_H)


class Mix:
    """Losses of every expert at every lead."""

    __slots__ = ("_count", "_loss")

    def __init__(self, leads: int) -> None:
        self._loss = np.zeros((len(EXPERTS), leads))
        self._count = np.zeros((len(EXPERTS), leads))

    def weights(self, available: NDArray[np.bool_]) -> Array:
        """Shape (experts, leads), summing to 1 over the ``available`` (one at least)."""
        seen = np.maximum(self._count[SEASONAL], 1.0)
        typical = np.where(self._count[SEASONAL] > 0, self._loss[SEASONAL] / seen, 1.0)
        prior = PRIOR_ERRORS * PRIOR_LOSS[:, None] * np.maximum(typical, 1e-9)
        loss = (self._loss + prior) / (self._count + PRIOR_ERRORS)
        loss = np.where(available, loss, np.inf)
        best = loss.min(axis=0)
        weights = np.exp(-SHARPNESS * (loss / best - 1.0))
        shares: Array = weights / weights.sum(axis=0)
        return shares

    def learn(self, errors: Array) -> None:
        """``errors``: (experts, leads) in the log, NaN where nothing was forecast."""
        known = ~np.isnan(errors)
        self._loss = np.where(known, self._loss * _FADE + np.abs(errors), self._loss)
        self._count = np.where(known, self._count * _FADE + 1.0, self._count)
