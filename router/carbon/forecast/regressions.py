"""The three regressions of one grid zone: their sums, and what they say at many origins at once."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from router.carbon.forecast.design import (
    DAY_H,
    HOURLY_YEAR,
    PLAIN_YEAR,
    WINDOW_H,
    Array,
    Rows,
    build_rows,
    relative,
)
from router.carbon.forecast.mixing import REGRESSIONS
from router.carbon.forecast.ridge import (
    BINS,
    HOURLY_HALF_LIFE_D,
    LEAST_ROWS,
    NEARNESS,
    PENALTY_ROWS,
    PLAIN_HALF_LIFE_D,
    YEAR_PENALTY,
    Sums,
)

LEADS_H: Final = np.arange(1, 97, dtype=np.int64)
REACH_H: Final = 96
# A row's targets end four days after its own day.
DELAY_D: Final = REACH_H // DAY_H + 1
# The last day's rows reach back a window; three days more settle what fills gaps.
RING_H: Final = WINDOW_H + (DELAY_D + 3) * DAY_H
# Variance of day-to-day change below which a series is as good as constant.
LEAST_CHANGE: Final = 1e-8
# A regression may leave the range of the last four weeks by half as much again.
SPILL: Final = float(np.log(1.5))


class Regressions:
    """By the hour in the log and in level, and plain in the log; of one grid zone."""

    __slots__ = ("_change", "_leads_h", "_plain_fit", "hourly", "level", "plain")

    def __init__(self, leads_h: NDArray[np.int64]) -> None:
        """``leads_h``: which leads to forecast, 1 to REACH_H, rising."""
        self._leads_h = leads_h
        self._change = np.zeros(2)
        self._plain_fit: Array | None = None
        self.hourly: Sums | None = None
        self.level: Sums | None = None
        self.plain: Sums | None = None

    def absorb(self, history: Array, midnight: int) -> None:
        """Add the rows of the day that is ``DELAY_D`` days old at ``midnight`` to the sums.

        ``history``: (RING_H,) in the log, the last hour the one before ``midnight``.
        """
        first_h = midnight - DELAY_D * DAY_H
        start = RING_H - DELAY_D * DAY_H
        day = history[start : start + DAY_H]
        change = day - history[start - DAY_H : start]
        known = ~np.isnan(change)
        self._change *= 0.5 ** (1.0 / PLAIN_HALF_LIFE_D)
        self._change += np.sum(change[known] ** 2), known.sum()
        windows = sliding_window_view(history, WINDOW_H)[start - WINDOW_H :][:DAY_H]
        origins = first_h + np.arange(DAY_H)
        rows = build_rows(windows, origins)
        ahead = history[start + np.arange(DAY_H)[:, None] + self._leads_h - 1]
        usable = ~np.isnan(ahead - rows.base[:, None]).any(axis=1)
        if self.hourly is None and not usable.any():
            return
        hourly, level, plain = self._sums(rows)
        weight = np.where(usable, rows.weight, 0.0)
        targets = np.where(usable[:, None], ahead - rows.base[:, None], 0.0)
        hourly.add_day(rows.hourly, targets, weight)
        plain.add_day(rows.plain, targets, weight)
        ratios, base = relative(windows)
        targets = np.where(usable[:, None], np.exp(ahead) / base[:, None] - 1.0, 0.0)
        level.add_day(build_rows(ratios, origins).hourly, targets, weight)
        self._plain_fit = None

    def _sums(self, rows: Rows) -> tuple[Sums, Sums, Sums]:
        if self.hourly is None or self.level is None or self.plain is None:
            leads, columns = len(self._leads_h), rows.hourly.shape[1]
            self.hourly = Sums(BINS, columns, leads, HOURLY_HALF_LIFE_D)
            self.level = Sums(BINS, columns, leads, HOURLY_HALF_LIFE_D)
            self.plain = Sums(1, rows.plain.shape[1], leads, PLAIN_HALF_LIFE_D)
        return self.hourly, self.level, self.plain

    def predict(self, windows: Array, origins_h: NDArray[np.int64]) -> Array:
        """Shape (REGRESSIONS, n, leads), in the log; NaN where there is too little to go by.

        ``windows``: (n, WINDOW_H) in the log, that end where ``origins_h`` (n,) begin.
        """
        said = np.full((REGRESSIONS, len(windows), len(self._leads_h)), np.nan)
        hourly, level, plain = self.hourly, self.level, self.plain
        if hourly is None or level is None or plain is None or plain.rows < LEAST_ROWS:
            return said
        rows = build_rows(windows, origins_h)
        ready = ~np.isnan(rows.base)
        if not ready.all():
            if ready.any():
                said[:, ready] = self.predict(windows[ready], origins_h[ready])
            return said
        size = PENALTY_ROWS * max(self._change[0] / max(self._change[1], 1.0), LEAST_CHANGE)
        if self._plain_fit is None:
            self._plain_fit = plain.solve(np.ones(1), _penalty(plain, size, PLAIN_YEAR))
        penalty = _penalty(hourly, size, HOURLY_YEAR)
        near = NEARNESS[origins_h % DAY_H]
        ratios, mean = relative(windows)
        ratio = level.predict(build_rows(ratios, origins_h).hourly, near, penalty)
        low = np.nanmin(windows, axis=1)[:, None] - SPILL
        high = np.nanmax(windows, axis=1)[:, None] + SPILL
        base = rows.base[:, None]
        said[0] = base + hourly.predict(rows.hourly, near, penalty)
        said[1] = np.log(np.maximum(mean[:, None] * (1.0 + ratio), np.exp(low)))
        said[2] = base + rows.plain @ self._plain_fit
        bounded: Array = np.clip(said, low, high)
        return bounded


def _penalty(sums: Sums, size: float, year: slice) -> Array:
    penalty = np.full(sums.gram.shape[1], size)
    penalty[year] = YEAR_PENALTY
    return penalty
