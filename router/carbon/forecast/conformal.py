"""Quantiles around a forecast from its own past errors, corrected until they cover what they say.

Adaptive conformal inference (Gibbs and Candes, 2021; the quantile tracking form of Angelopoulos,
Candes and Tibshirani, 2023): an error is divided by the recent mean absolute error at that lead and
hour of the day; each quantile of the ratio moves up by RATE * level when the ratio lies above and
down by RATE * (1 - level) when below, so that over time the share below is the level, whatever
the errors do. Errors are in the log.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.carbon.forecast.design import DAY_H, Array

LEVELS: Final = (0.025, 0.05, 0.25, 0.75, 0.95, 0.975)
_LEVEL: Final = np.array(LEVELS)[:, None]
# Quantiles of a Laplace error of mean absolute size 1: ln(2 p) and -ln(2 (1 - p)).
LAPLACE: Final = np.sign(_LEVEL - 0.5) * -np.log(2.0 * np.minimum(_LEVEL, 1.0 - _LEVEL))
# Errors at long leads come in runs and late: a quick correction would chase them.
RATE: Final = 0.05
RATE_LEAD_H: Final = 6.0
HALF_LIFE_H: Final = 20 * 24.0
HALF_LIFE_D: Final = 20.0
_FADE: Final = 0.5 ** (1.0 / HALF_LIFE_H)
_FADE_D: Final = 0.5 ** (1.0 / HALF_LIFE_D)
# A prior size counts like this many hours (or days, of one hour of the day) of errors.
PRIOR_ERRORS: Final = 48.0
PRIOR_DAYS: Final = 5.0
# No error is smaller than a rounded reading's.
LEAST_SIZE: Final = 1e-4

# Before a zone's own errors are known: the persistence MAPE of eleven grids, 2021: 2.6 / 6.5 /
# 10.9 / 14.5 / 9.8 % at 1 / 3 / 6 / 12 / 24 h and 15 % at 96 h. Sizes never shrink with lead, so
# 24 h takes the 14.5 of 12 h.
LEADS_H: Final = (0, 1, 3, 6, 12, 24, 48, 96)
PRIOR_SIZE: Final = (0.0, 0.026, 0.065, 0.109, 0.145, 0.145, 0.148, 0.150)


class Bands:
    """Error sizes and quantiles of their ratio, by lead."""

    __slots__ = ("_by_hour", "_by_hour_n", "_n", "_rate", "_ratio", "_size")

    def __init__(self, leads_h: Array) -> None:
        prior = np.interp(leads_h, LEADS_H, PRIOR_SIZE)
        self._size = PRIOR_ERRORS * prior
        self._n = np.full(len(leads_h), PRIOR_ERRORS)
        # By hour of the day: relative to the size over all hours.
        self._by_hour = np.full((DAY_H, len(leads_h)), PRIOR_DAYS)
        self._by_hour_n = np.full((DAY_H, len(leads_h)), PRIOR_DAYS)
        self._rate = RATE / (1.0 + leads_h / RATE_LEAD_H)
        self._ratio = np.repeat(LAPLACE, len(leads_h), axis=1)

    def offsets(self, hours_of_day: NDArray[np.int64]) -> Array:
        """Shape (levels, leads): what to add to the forecast of a slot at that hour of the day."""
        columns = np.arange(len(self._size), dtype=np.int64)
        return np.sort(self._ratio * self._sizes(hours_of_day, columns), axis=0)

    def learn(self, errors: Array, hour_of_day: int) -> None:
        """``errors``: (leads,) observed minus forecast at one hour, NaN where none was issued."""
        known = ~np.isnan(errors)
        if not known.any():
            return
        columns = np.flatnonzero(known).astype(np.int64)
        error = errors[columns]
        overall = np.maximum(self._size[columns] / self._n[columns], LEAST_SIZE)
        ratio = error / self._sizes(np.full(len(columns), hour_of_day), columns)
        below = ratio < self._ratio[:, columns]
        self._ratio[:, columns] += self._rate[columns] * (_LEVEL - below)
        self._size[columns] = self._size[columns] * _FADE + np.abs(error)
        self._n[columns] = self._n[columns] * _FADE + 1.0
        relative = np.minimum(np.abs(error) / overall, 10.0)
        place = (hour_of_day, columns)
        self._by_hour[place] = self._by_hour[place] * _FADE_D + relative
        self._by_hour_n[place] = self._by_hour_n[place] * _FADE_D + 1.0

    def _sizes(self, hours_of_day: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
        overall = self._size[columns] / self._n[columns]
        by_hour = self._by_hour[hours_of_day, columns] / self._by_hour_n[hours_of_day, columns]
        sizes: Array = np.maximum(overall * by_hour, LEAST_SIZE)
        return sizes
