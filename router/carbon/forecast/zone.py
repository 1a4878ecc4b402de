"""The forecaster of one grid zone: history in a ring, regressions, weights and bands on top.

Hours are counted from 1970 in UTC. Everything learnt at an hour comes from hours before it: errors
are scored when the hour after the scored one arrives, and a day enters the regressions once the
furthest lead from its last hour has been seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from router.carbon.forecast import seasonal
from router.carbon.forecast.conformal import LEVELS, Bands
from router.carbon.forecast.design import (
    DAY_H,
    HOURLY_YEAR,
    PLAIN_YEAR,
    WEEK_H,
    WINDOW_H,
    Array,
    Rows,
    build_rows,
    relative,
)
from router.carbon.forecast.mixing import EXPERTS, REGRESSIONS, Mix
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
# A gap up to this long is bridged by the day before; a longer one stays a gap.
BRIDGED_H: Final = DAY_H
BRIDGE_FADE: Final = 0.9
# Variance of day-to-day change below which a series is as good as constant.
LEAST_CHANGE: Final = 1e-8
# Half a gram: where a rounded reading says 0.
FLOOR_G: Final = 0.5
# A regression may leave the range of the last four weeks by half as much again.
SPILL: Final = float(np.log(1.5))

Usual = Callable[[int, int], Array]
"""(first hour, count) -> what is usual in g/kWh; empty when nothing is known."""


class Issue(NamedTuple):
    """A forecast as issued before ``origin_h``, for the slots ``origin_h - 1 + lead``; g/kWh.

    ``point``: (leads,), the median. ``experts``: (experts, leads) in the log, NaN where one has
    nothing to say. ``log_point``: (leads,). ``offsets``: (levels, leads) in the log.
    """

    origin_h: int
    point: Array
    log_point: Array
    offsets: Array
    experts: Array


class _Sums(NamedTuple):
    """What the regressions are made of: by the hour in the log and in level, and plain."""

    hourly: Sums
    level: Sums
    plain: Sums

    @classmethod
    def empty(cls, rows: Rows, leads: int) -> _Sums:
        hourly, plain = rows.hourly.shape[1], rows.plain.shape[1]
        return cls(
            Sums(BINS, hourly, leads, HOURLY_HALF_LIFE_D),
            Sums(BINS, hourly, leads, HOURLY_HALF_LIFE_D),
            Sums(1, plain, leads, PLAIN_HALF_LIFE_D),
        )


class ZoneModel:
    """Observes hourly means one after the other, and forecasts after any of them."""

    def __init__(
        self,
        first_h: int,
        leads_h: NDArray[np.int64] = LEADS_H,
        *,
        offset_g: float = 0.0,
        usual: Usual | None = None,
    ) -> None:
        """``leads_h``: which leads to forecast, 1 to 96; each is forecast as it would be alone.
        ``offset_g``: added before the log, for signals that come near 0.
        """
        leads = len(leads_h)
        self.newest_h = first_h - 1
        self._leads_h = leads_h
        self._offset_g = offset_g
        self._usual = usual
        self._ring = np.full(RING_H, np.nan)
        self._sums: _Sums | None = None
        self._plain_fit: Array | None = None
        self._change = np.zeros(2)
        self._mix = Mix(leads)
        self._bands = Bands(leads_h.astype(np.float64))
        self._pending = np.full((REACH_H, len(EXPERTS) + 1, leads), np.nan, dtype=np.float32)
        self._issued_h = np.full(REACH_H, -1, dtype=np.int64)
        self._issue: Issue | None = None

    def value(self, hour: int) -> float:
        """What is known of ``hour``: g/kWh, NaN when nothing (any more)."""
        if not self.newest_h - RING_H < hour <= self.newest_h:
            return float("nan")
        return float(self._ring[hour % RING_H])

    def observe(
        self, hour: int, g_per_kwh: float, *, score: bool = True, issue: bool = True
    ) -> None:
        """Set the mean of ``hour``; a new hour makes the ones before it final and learns from them.

        An hour of the last 36 days is corrected in place; an earlier one changes nothing. Without
        ``score`` only the regressions learn: for history so old that its errors no longer count.
        Without ``issue`` no forecast is made for what comes after, to be scored in its turn.
        """
        if hour > self.newest_h:
            if score:
                self._learn(issue)
            self._advance(hour)
        elif hour <= self.newest_h - RING_H:
            return
        self._ring[hour % RING_H] = g_per_kwh
        self._issue = None

    def issue(self) -> Issue:
        """The forecast from what is known now; the newest hour must be known."""
        if self._issue is None:
            self._issue = self._forecast()
        return self._issue

    def place(self, lead_h: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where leads >= 1 stand in the last axis of an issue; past the last one its day repeats.

        Every lead must be among those of the model.
        """
        within = np.where(lead_h <= REACH_H, lead_h, REACH_H - DAY_H + (lead_h - 1) % DAY_H + 1)
        return np.searchsorted(self._leads_h, within)

    def _learn(self, keep: bool) -> None:
        """Score what was forecast for the newest hour, then ``keep`` what is forecast after it."""
        value = self.value(self.newest_h)
        if np.isnan(value):
            return
        # Before anything is learnt: what is issued must not depend on whether it was asked for.
        issue = self.issue() if keep else None
        origins = self.newest_h + 1 - self._leads_h
        rows = origins % REACH_H
        past = self._pending[rows, :, np.arange(len(rows))].astype(np.float64)
        past[self._issued_h[rows] != origins] = np.nan
        errors = float(self._log(np.array(value))) - past.T
        self._mix.learn(errors[:-1])
        self._bands.learn(errors[-1], self.newest_h % DAY_H)
        if issue is None:
            return
        row = issue.origin_h % REACH_H
        self._pending[row, :-1] = issue.experts
        self._pending[row, -1] = issue.log_point
        self._issued_h[row] = issue.origin_h

    def _advance(self, hour: int) -> None:
        """Make ``hour`` the newest, with gaps before it; days that are over are learnt from."""
        if hour - self.newest_h > RING_H:
            self._ring[:] = np.nan
            self.newest_h = hour
            return
        for midnight in range((self.newest_h // DAY_H + 1) * DAY_H, hour + 1, DAY_H):
            self._blank(midnight - 1)
            self._absorb(midnight)
        self._blank(hour)

    def _blank(self, until_h: int) -> None:
        self._ring[np.arange(self.newest_h + 1, until_h + 1) % RING_H] = np.nan
        self.newest_h = until_h

    def _absorb(self, midnight: int) -> None:
        """Add the rows of the day that is ``DELAY_D`` days old at ``midnight`` to the sums."""
        history = self._history()
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
        if self._sums is None:
            if not usable.any():
                return
            self._sums = _Sums.empty(rows, len(self._leads_h))
        weight = np.where(usable, rows.weight, 0.0)
        targets = np.where(usable[:, None], ahead - rows.base[:, None], 0.0)
        self._sums.hourly.add_day(rows.hourly, targets, weight)
        self._sums.plain.add_day(rows.plain, targets, weight)
        ratios, base = relative(windows)
        targets = np.where(usable[:, None], np.exp(ahead) / base[:, None] - 1.0, 0.0)
        self._sums.level.add_day(build_rows(ratios, origins).hourly, targets, weight)
        self._plain_fit = None

    def _forecast(self) -> Issue:
        origin = self.newest_h + 1
        history = self._history()
        experts = np.full((len(EXPERTS), len(self._leads_h)), np.nan)
        experts[:REGRESSIONS] = self._regress(history[-WINDOW_H:], origin)
        experts[REGRESSIONS] = self._seasonal()
        experts[REGRESSIONS + 1] = history[-1]
        for place, period_h in ((2, DAY_H), (3, WEEK_H)):
            experts[REGRESSIONS + place] = history[(self._leads_h - 1) % period_h - period_h]
        available = ~np.isnan(experts)
        weights = self._mix.weights(available)
        log_point = np.where(available, weights * np.where(available, experts, 0.0), 0.0).sum(
            axis=0
        )
        hours_of_day = (self.newest_h + self._leads_h) % DAY_H
        return Issue(
            origin, self.grams(log_point), log_point, self._bands.offsets(hours_of_day), experts
        )

    def grams(self, logs: Array) -> Array:
        """From the log back to g/kWh, never below 0."""
        grams: Array = np.maximum(np.exp(logs) - self._offset_g, 0.0)
        return grams

    def _regress(self, window: Array, origin: int) -> Array:
        nothing = np.full((REGRESSIONS, len(self._leads_h)), np.nan)
        sums = self._sums
        if sums is None or sums.plain.rows < LEAST_ROWS:
            return nothing
        window = window[None, :]
        rows = build_rows(window, np.array([origin]))
        base = float(rows.base[0])
        if np.isnan(base):
            return nothing
        size = PENALTY_ROWS * max(self._change[0] / max(self._change[1], 1.0), LEAST_CHANGE)
        if self._plain_fit is None:
            self._plain_fit = sums.plain.solve(np.ones(1), _penalty(sums.plain, size, PLAIN_YEAR))
        penalty = _penalty(sums.hourly, size, HOURLY_YEAR)
        near = NEARNESS[origin % DAY_H]
        ratios, mean = relative(window)
        ratio = build_rows(ratios, np.array([origin])).hourly[0] @ sums.level.solve(near, penalty)
        low, high = np.nanmin(window) - SPILL, np.nanmax(window) + SPILL
        level = np.log(np.maximum(mean[0] * (1.0 + ratio), np.exp(low)))
        hourly = base + rows.hourly[0] @ sums.hourly.solve(near, penalty)
        plain = base + rows.plain[0] @ self._plain_fit
        bounded: Array = np.clip(np.stack([hourly, level, plain]), low, high)
        return bounded

    def _seasonal(self) -> Array:
        span = seasonal.WINDOW_H
        hours = np.arange(self.newest_h - span + 1, self.newest_h + 1)
        window = self._ring[hours % RING_H]
        count = span + int(self._leads_h[-1])
        usual = self._usual(int(hours[0]), count) if self._usual is not None else np.empty(0)
        if len(usual) != count:
            usual = np.full(count, np.nan)
        values = seasonal.predict(window, seasonal.at_level(usual, window), self._leads_h)
        return self._log(values)

    def _log(self, values: Array) -> Array:
        logs: Array = np.log(np.maximum(values + self._offset_g, FLOOR_G))
        return logs

    def _history(self) -> Array:
        """The ring in order, in the log, short gaps bridged by the day before them."""
        order = np.arange(self.newest_h - RING_H + 1, self.newest_h + 1) % RING_H
        return bridge(self._log(self._ring[order]))


def bridge(logs: Array) -> Array:
    """Fill gaps of up to BRIDGED_H from what came before them: the day before, shifted."""
    missing = np.flatnonzero(np.isnan(logs))
    filled = logs.copy()
    begins = np.diff(missing, prepend=-2) > 1
    run = np.arange(len(missing)) - np.flatnonzero(begins)[np.cumsum(begins) - 1]
    for place in missing[(run < BRIDGED_H) & (missing > DAY_H)].tolist():
        departure = filled[place - 1] - filled[place - 1 - DAY_H]
        yesterday = filled[place - DAY_H]
        bridged = yesterday + BRIDGE_FADE * departure
        filled[place] = filled[place - 1] if np.isnan(bridged) else bridged
    return filled


def _penalty(sums: Sums, size: float, year: slice) -> Array:
    penalty = np.full(sums.gram.shape[1], size)
    penalty[year] = YEAR_PENALTY
    return penalty


__all__ = ["LEADS_H", "LEVELS", "Issue", "Usual", "ZoneModel", "bridge"]
