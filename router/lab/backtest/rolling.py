"""Rolling origins: at each, what every method would have said with what was known then.

Origin t is an hour's start. Known are the values of the hours before t; horizon h is the hour that
ends h hours after t, so that h = 1 is the hour that begins at t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.carbon.forecast.conformal import Bands
from router.carbon.forecast.regressions import REACH_H
from router.carbon.forecast.zone import ZoneModel
from router.carbon.weather.conditions import WeatherForecast

Array = NDArray[np.float64]
Hours = NDArray[np.int64]

HORIZONS_H: Final[Hours] = np.array((1, 3, 6, 12, 24, 48, 96), dtype=np.int64)
METHODS: Final = ("forecaster", "persistence", "same_hour_yesterday", "same_hour_last_week")
# After so much silence nothing is forecast.
SILENCE_H: Final = 24
# Errors older than this no longer count in weights and bands.
WARM_UP_H: Final = 120 * 24
_DAY_H: Final = 24
_WEEK_H: Final = 168
# The middle of LEVELS is the forecast itself.
_MIDDLE: Final = 3


@dataclass(frozen=True, slots=True)
class ZoneRun:
    """Forecasts of one grid zone. ``origins``: rows of the series. ``actual``: (origins, horizons),
    NaN where missing or past the end. ``quantiles``: (methods, origins, horizons, 7), the fourth
    being the forecast itself; NaN where none was possible. All in g/kWh.
    """

    grid_zone: str
    origins: Hours
    actual: Array
    quantiles: Array


def run_zone(
    grid_zone: str,
    values: Array,
    first_h: int,
    origins: Hours,
    *,
    offset_g: float,
    tick: Callable[[], None] = lambda: None,
    weather: WeatherForecast | None = None,
) -> ZoneRun:
    """Walk through ``values`` (hours,) once, forecasting at ``origins`` (rows, rising).

    ``tick`` is called once a day walked through. ``weather``: what the forecaster knows of every
    hour, at every origin; None for the past alone.
    """
    known = ~np.isnan(values)
    targets = origins[:, None] + HORIZONS_H - 1
    inside = targets < len(values)
    actual = np.where(inside, values[np.minimum(targets, len(values) - 1)], np.nan)
    shape = (len(METHODS), len(origins), len(HORIZONS_H), 7)
    quantiles = np.full(shape, np.nan)
    quantiles[0] = _forecaster(values, first_h, origins, offset_g, tick, weather)
    # A method's own trailing errors need forecasts at every hour, thinned or not.
    every = np.arange(max(int(origins[0]) - WARM_UP_H, 0), int(origins[-1]) + 1)
    newest = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    for place, points in enumerate(_naive(values, newest, every), 1):
        banded = _banded(points, values, first_h, every, offset_g)
        quantiles[place] = banded[origins - every[0]]
    silent = origins - 1 - newest[np.maximum(origins - 1, 0)] > SILENCE_H
    quantiles[:, silent | (newest[np.maximum(origins - 1, 0)] < 0)] = np.nan
    # As written to disk, so that what is scored can be recomputed from there.
    stored = quantiles.astype(np.float32).astype(np.float64)
    return ZoneRun(grid_zone, origins, actual, stored)


def leads_for(values: Array) -> Hours:
    """The leads that HORIZONS_H need, counted from the newest known hour: longer after a gap."""
    known = np.flatnonzero(~np.isnan(values))
    edges = np.concatenate([known, [len(values)]])
    longest = int(np.diff(edges).max()) - 1 if len(known) else 0
    late = np.arange(min(longest, SILENCE_H) + 1)
    leads = np.unique(HORIZONS_H[:, None] + late)
    past = leads > REACH_H
    leads[past] = REACH_H - _DAY_H + (leads[past] - 1) % _DAY_H + 1
    return np.unique(leads)


def _forecaster(
    values: Array,
    first_h: int,
    origins: Hours,
    offset_g: float,
    tick: Callable[[], None],
    weather: WeatherForecast | None,
) -> Array:
    """The live forecaster, fed hour by hour. Shape (origins, horizons, 7)."""
    found = np.full((len(origins), len(HORIZONS_H), 7), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    start = int(known[0])
    model = ZoneModel(first_h + start, leads_for(values), offset_g=offset_g)
    if weather is not None:
        model.take_weather(weather)
    scored_from = int(origins[0]) - WARM_UP_H
    place = int(np.searchsorted(origins, start + 1))
    for row in range(start, int(origins[-1])):
        if not np.isnan(values[row]):
            model.observe(first_h + row, float(values[row]), score=row >= scored_from)
        if (first_h + row) % _DAY_H == 0:
            tick()
        if place < len(origins) and origins[place] == row + 1:
            lead_h = first_h + row + HORIZONS_H - model.newest_h
            if lead_h[0] <= SILENCE_H + 1:
                issue, at = model.issue(), model.place(lead_h)
                logs = np.insert(issue.log_point + issue.offsets, _MIDDLE, issue.log_point, axis=0)
                found[place] = model.grams(logs[:, at]).T
            place += 1
    return found


def _naive(values: Array, newest: Hours, origins: Hours) -> list[Array]:
    """Persistence, same hour yesterday and last week: the newest known; each (origins, horizons).

    A value that is missing on the day or in the week before is taken from the one before that.
    """
    last = newest[np.maximum(origins - 1, 0)]
    last = np.where(origins > 0, last, -1)
    value = np.where(last >= 0, values[np.maximum(last, 0)], np.nan)
    found = [np.repeat(value[:, None], len(HORIZONS_H), axis=1)]
    for period_h in (_DAY_H, _WEEK_H):
        carried = values.copy()
        for row in np.flatnonzero(np.isnan(values)).tolist():
            if row >= period_h:
                carried[row] = carried[row - period_h]
        back = -(-HORIZONS_H // period_h) * period_h
        places = origins[:, None] + HORIZONS_H - 1 - back
        found.append(np.where(places >= 0, carried[np.maximum(places, 0)], np.nan))
    return found


def _banded(points: Array, values: Array, first_h: int, origins: Hours, offset_g: float) -> Array:
    """``points`` with quantiles from their own errors so far, by the forecaster's own rule."""
    logs = np.log(np.maximum(points + offset_g, 0.5))
    actual = np.log(np.maximum(values + offset_g, 0.5))
    bands = Bands(HORIZONS_H.astype(np.float64))
    found = np.empty((*points.shape, 7))
    columns = np.arange(len(HORIZONS_H))
    for index, origin in enumerate(origins.tolist()):
        # The newest hour known tells the errors of the forecasts that were made for it.
        issued = index - HORIZONS_H
        past = np.where(issued >= 0, logs[np.maximum(issued, 0), columns], np.nan)
        if origin:
            bands.learn(actual[origin - 1] - past, (first_h + origin - 1) % _DAY_H)
        hours = (first_h + origin + HORIZONS_H - 1) % _DAY_H
        spread = np.insert(bands.offsets(hours), _MIDDLE, 0.0, axis=0)
        found[index] = np.maximum(np.exp(logs[index] + spread) - offset_g, 0.0).T
    return found
