"""What the regressions see at an origin: the recent past of one grid zone as a row of numbers.

Everything is a departure, in the log, from the mean of the last 24 hours, so that a level that
moves between years moves the forecast with it. A value that is not known counts as no departure.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WINDOW_H: Final = 28 * 24
"""Hours of history that a row is made of."""

DAY_H: Final = 24
WEEK_H: Final = 168
HOURLY_LAGS: Final = 30
PLAIN_LAGS: Final = 48
# Of the profile over the last days: hours ahead of the origin (within a day, they come round).
PROFILE_AHEAD_H: Final = (0, 1, 2, 3, 5, 8, 11, 14, 17, 20, 23)
PROFILE_DAYS: Final = (7, 28)
# Where a row holds the sines of the year: behind the lags, eight means and the constant.
HOURLY_YEAR: Final = slice(HOURLY_LAGS + 9, HOURLY_LAGS + 13)
PLAIN_YEAR: Final = slice(PLAIN_LAGS + 9, PLAIN_LAGS + 13)
# Brings sines near the size of departures, so that one ridge penalty suits both.
SINE_SCALE: Final = 0.3
# Rows are weighed down when the days before them were restless (power of relative roughness).
ROUGHNESS_H: Final = 72
ROUGHNESS_FLOOR: Final = 0.3
ROUGHNESS_POWER: Final = 1.5


class Rows:
    """Origins as rows: ``hourly`` and ``plain`` features, their ``base`` (log) and ``weight``.

    ``base`` is NaN where the last 24 hours are too thin to forecast from (under 18 of 24 known, or
    the last hour missing); such a row must not be used.
    """

    __slots__ = ("base", "hourly", "plain", "weight")

    def __init__(self, hourly: Array, plain: Array, base: Array, weight: Array) -> None:
        self.hourly = hourly
        self.plain = plain
        self.base = base
        self.weight = weight


def relative(logs: Array) -> tuple[Array, Array]:
    """Levels of ``logs`` (n, WINDOW_H) over the mean level of the last 24 hours, and that mean.

    ``build_rows`` of these are departures in level rather than in the log.
    """
    levels = np.exp(logs)
    base = _mean(levels[:, -DAY_H:])
    return levels / base[:, None], base


def build_rows(windows: Array, origins_h: NDArray[np.int64]) -> Rows:
    """Rows for ``windows`` (n, WINDOW_H) of log intensity, oldest first, that end where
    ``origins_h`` (n,) begin: hours since 1970, UTC.
    """
    days = windows.reshape(len(windows), -1, DAY_H)
    last = days[:, -1]
    base = _mean(last)
    thin = np.isnan(windows[:, -1]) | (np.isnan(last).sum(axis=1) > DAY_H // 4)
    base = np.where(thin, np.nan, base)
    level = base[:, None]
    lags = windows[:, : -PLAIN_LAGS - 1 : -1] - level
    week = _mean(windows[:, -WEEK_H:])
    shared = [*_levels(days, level), *_calendar(origins_h), *_week_ago(windows)]
    profiles = _profiles(days, level)
    hourly = [lags[:, :HOURLY_LAGS], *shared, SINE_SCALE * _waves(origins_h, DAY_H, 1), *profiles]
    plain = [lags, *shared, *profiles, *_interactions(lags, base - week, origins_h)]
    return Rows(_stack(hourly), _stack(plain), base, _weight(windows))


def _levels(days: Array, level: Array) -> list[Array]:
    daily = np.stack([_mean(days[:, -back]) for back in range(2, 8)], axis=1)
    longer = [_mean(days[:, -count:].reshape(len(days), -1))[:, None] for count in (14, 28)]
    return [daily - level, *(mean - level for mean in longer)]


def _calendar(origins_h: NDArray[np.int64]) -> list[Array]:
    # Hour 0 of 1970 was a Thursday; only the phase of the sines depends on it.
    year = SINE_SCALE * _waves(origins_h, 365.25 * DAY_H, 2)
    week = SINE_SCALE * _waves(origins_h + 72, WEEK_H, 3)
    return [np.ones((len(origins_h), 1)), year, week]


def _week_ago(windows: Array) -> list[Array]:
    """The coming day as it was a week ago, every third hour, about that day's own mean."""
    day = windows[:, -WEEK_H : -WEEK_H + DAY_H]
    return [day[:, ::3] - _mean(day)[:, None]]


def _profiles(days: Array, level: Array) -> list[Array]:
    """Mean of the same hour over the last days, at hours ahead, about the mean of those days."""
    found = []
    for count in PROFILE_DAYS:
        profile = _mean(days[:, -count:].transpose(0, 2, 1))
        found.append(profile[:, PROFILE_AHEAD_H] - _mean(profile)[:, None])
    return found


def _interactions(lags: Array, trend: Array, origins_h: NDArray[np.int64]) -> list[Array]:
    """The hour of the day, alone and with the latest departures and the season."""
    hour = _waves(origins_h, DAY_H, 3)
    year = _waves(origins_h, 365.25 * DAY_H, 1)
    latest = lags[:, :1]
    departures = (latest, latest - lags[:, DAY_H - 1 : DAY_H], trend[:, None])
    found = [SINE_SCALE * hour, *(hour[:, :4] * part for part in departures), year * latest]
    found += [SINE_SCALE * year[:, k : k + 1] * hour[:, :4] for k in range(2)]
    return found


def _waves(hours: NDArray[np.int64], period_h: float, count: int) -> Array:
    phases = math.tau / period_h * hours[:, None] * np.arange(1, count + 1)
    waves: Array = np.concatenate([np.sin(phases), np.cos(phases)], axis=1)
    return waves


def _weight(windows: Array) -> Array:
    rough = np.abs(np.diff(windows, n=2, axis=1))
    recent, usual = _mean(rough[:, -ROUGHNESS_H:]), _mean(rough)
    ratio = np.where(usual > 0.0, recent / np.where(usual > 0.0, usual, 1.0), 1.0)
    weight: Array = (np.nan_to_num(ratio, nan=1.0) + ROUGHNESS_FLOOR) ** -ROUGHNESS_POWER
    return weight


def _mean(values: Array) -> Array:
    """Mean over the last axis of what is known; NaN where nothing is."""
    total = values.sum(axis=-1)
    if not np.isnan(total).any():
        mean: Array = total / values.shape[-1]
        return mean
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _stack(parts: list[Array]) -> Array:
    stacked: Array = np.nan_to_num(np.concatenate(parts, axis=1), nan=0.0)
    return stacked
