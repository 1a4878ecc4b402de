"""What the weather ahead tells beyond the past: it corrects a forecast, lead by lead.

The errors of the forecast that knows the past alone are regressed on the weather forecast for the
hour that they fell in: wind and its power, irradiance, warmth, heating and cooling, moisture and
rain, as departures from the means of the last 24 hours and seven days, beside what the same hour a
day before had, whose effect the past has seen. Where the forecast and the last day stand against
the last seven days goes in too, so that weather may take back what the past carried along. One
ridge regression a lead and three-hour group of the day, near hours sharing, from sums that fade as
in `ridge`. The corrected forecast counts as far as it did better lately, by the rule of `mixing`;
where the weather of an hour is not known, nothing is corrected.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.carbon.forecast.design import DAY_H, WEEK_H, Array
from router.carbon.forecast.mixing import HALF_LIFE_H as SKILL_HALF_LIFE_H
from router.carbon.forecast.mixing import SHARPNESS
from router.carbon.forecast.regressions import REACH_H
from router.carbon.forecast.ridge import BINS, NEARNESS
from router.carbon.weather.conditions import (
    DEW_POINT,
    IRRADIANCE,
    PRECIPITATION,
    TEMPERATURE,
    WIND,
    WeatherForecast,
)
from router.units import HOUR_S

# Weather that was forecast so long ago corrects nothing.
STALE_H: Final = 24
HALF_LIFE_D: Final = 180.0
# The penalty, in rows: inputs are scaled to about 1.
PENALTY_ROWS: Final = 1.0
# Of a turbine: nothing below, all from there on (machines of IEC class II, at hub height).
CUT_IN_M_S: Final = 3.0
RATED_M_S: Final = 12.0
# Wind at 10 m is 1.4 times as fast at a hub (power law with the exponent 1/7, 100 m).
HUB: Final = 1.4
# Beyond these people heat and cool (bases of degree days differ by country; 10 to 18 are in use).
HEAT_BELOW_C: Final = 10.0
COOL_ABOVE_C: Final = 18.0
MOST_RAIN_MM: Final = 3.0
# What each input is divided by, to be about 1.
_SCALES: Final = np.array([5.0, 0.5, 500.0, 15.0, 8.0, 8.0, 15.0, 3.0])
# What departures of a forecast, in the log, are multiplied by, likewise.
_POINT_SCALE: Final = 3.0
INPUTS: Final = len(_SCALES)
COLUMNS: Final = 3 * INPUTS + 3
_GROUP_H: Final = DAY_H // BINS
_FADE: Final = 0.5 ** (1.0 / (HALF_LIFE_D * DAY_H))
_SKILL_FADE: Final = 0.5 ** (1.0 / SKILL_HALF_LIFE_H)
# Sums are brought back to this day's weight before they lose precision.
_AGE_LIMIT: Final = 1e6
# Before there is evidence the corrected forecast is taken to be this much worse, for so many hours.
_PRIOR_WORSE: Final = 1.2
_PRIOR_ERRORS: Final = 72.0
_PRIOR_LOSS: Final = 0.1


def inputs(values: Array) -> Array:
    """What of the weather moves a grid: (..., INPUTS), each about 1, of (..., quantities)."""
    wind, sun, air = (values[..., place] for place in (WIND, IRRADIANCE, TEMPERATURE))
    power = ((HUB * wind) ** 3 - CUT_IN_M_S**3) / (RATED_M_S**3 - CUT_IN_M_S**3)
    parts = (
        wind, np.clip(power, 0.0, 1.0), sun,
        air, np.maximum(air - COOL_ABOVE_C, 0.0), np.maximum(HEAT_BELOW_C - air, 0.0),
        values[..., DEW_POINT], np.minimum(values[..., PRECIPITATION], MOST_RAIN_MM),
    )  # fmt: skip
    scaled: Array = np.stack(parts, axis=-1) / _SCALES
    return scaled


def weather_columns(
    forecast: WeatherForecast, origin_h: int, leads_h: NDArray[np.int64]
) -> Array:  # fmt: skip
    """What the regressions see of the weather of the hours that ``leads_h`` reach.

    (leads, 3 INPUTS), NaN where that of the hour, or of any of the seven days before ``origin_h``,
    is not known.
    """
    seen = _rows(forecast, np.arange(origin_h - WEEK_H, origin_h))
    coming = _rows(forecast, origin_h - 1 + leads_h)
    day = seen[-DAY_H:]
    mean = day.mean(axis=0)
    before = day[(leads_h - 1) % DAY_H]
    return np.concatenate([coming - mean, before - mean, coming - seen.mean(axis=0)], axis=1)


def point_columns(log_point: Array, week: Array) -> Array:
    """What they see of the forecast: (leads, 3); ``week`` (WEEK_H,), what was observed before it,
    all in the log.
    """
    level = week.mean()
    standing = np.full(len(log_point), week[-DAY_H:].mean() - level)
    parts = [_POINT_SCALE * (log_point - level), _POINT_SCALE * standing, np.ones(len(log_point))]
    return np.stack(parts, axis=1)


def _rows(forecast: WeatherForecast, hours: NDArray[np.int64]) -> Array:
    places = hours - forecast.first_h
    within = (places >= 0) & (places < len(forecast.values))
    rows = np.full((len(hours), INPUTS), np.nan)
    rows[within] = inputs(forecast.values[places[within]])
    return rows


class WeatherCorrection:
    """The regressions of one grid zone, and how well they did."""

    __slots__ = ("_age", "_cross", "_gram", "_leads_h", "_loss", "_losses", "_weather")

    def __init__(self, leads_h: NDArray[np.int64]) -> None:
        leads = len(leads_h)
        self._leads_h = leads_h
        self._gram = np.zeros((BINS, leads, COLUMNS, COLUMNS))
        self._cross = np.zeros((BINS, leads, COLUMNS))
        # Sums grow instead of fading: a row weighs ``_age``.
        self._age = 1.0
        # Of the plain and the corrected forecast.
        self._loss = np.zeros((2, leads))
        self._losses = np.zeros(leads)

    def correct(self, log_point: Array, seen: Array, hours_of_day: NDArray[np.int64]) -> Array:
        """``log_point`` (leads,) as the weather corrects it; NaN where ``seen`` (leads, COLUMNS),
        is.
        """
        near = NEARNESS[hours_of_day].T
        gram = (near[:, :, None, None] * self._gram).sum(axis=0)
        cross = (near[:, :, None] * self._cross).sum(axis=0)
        gram[:, np.arange(COLUMNS), np.arange(COLUMNS)] += PENALTY_ROWS * self._age
        fits = np.linalg.solve(gram, cross[:, :, None])[:, :, 0]
        corrected: Array = log_point + (seen * fits).sum(axis=1)
        return corrected

    def blend(self, log_point: Array, corrected: Array) -> Array:
        """Both, weighed by how well each did lately; the plain one where that is all there is."""
        prior = _PRIOR_ERRORS * _PRIOR_LOSS * np.array([[1.0], [_PRIOR_WORSE]])
        loss = (self._loss + prior) / (self._losses + _PRIOR_ERRORS)
        weights = np.exp(-SHARPNESS * (loss / loss.min(axis=0) - 1.0))
        share = np.where(np.isnan(corrected), 0.0, weights[1] / weights.sum(axis=0))
        blended: Array = log_point + share * np.nan_to_num(corrected - log_point)
        return blended

    def learn(self, errors: Array, after: Array, seen: Array, hour_of_day: int) -> None:
        """What was observed of one hour: ``errors`` (leads,) in the log of the plain forecasts made
        for it, ``after`` those of the corrected ones, ``seen`` (leads, COLUMNS) what was seen of
        its weather when they were made; NaN where nothing was.
        """
        known = ~(np.isnan(errors) | np.isnan(seen).any(axis=1))
        x = np.where(known[:, None], seen, 0.0)
        y = np.where(known, errors, 0.0)
        self._age /= _FADE
        group = hour_of_day // _GROUP_H
        self._gram[group] += self._age * (x[:, :, None] * x[:, None, :])
        self._cross[group] += self._age * (x * y[:, None])
        if self._age > _AGE_LIMIT:
            self._gram /= self._age
            self._cross /= self._age
            self._age = 1.0
        both = np.abs(np.stack([errors, after]))
        judged = ~np.isnan(both).any(axis=0)
        self._loss = np.where(judged, self._loss * _SKILL_FADE + both, self._loss)
        self._losses = np.where(judged, self._losses * _SKILL_FADE + 1.0, self._losses)


class CorrectedForecast(NamedTuple):
    """What was said at one origin, by lead: ``plain`` and ``corrected`` (leads,) in the log, and
    ``point``, what came of both; ``seen`` (leads, COLUMNS)."""

    plain: Array
    corrected: Array
    point: Array
    seen: Array


class ZoneWeather:
    """The newest weather forecast of one grid zone, and what was learned by those before."""

    def __init__(self, leads_h: NDArray[np.int64], forecast: WeatherForecast | None = None) -> None:
        self.forecast = forecast
        self._leads_h = leads_h
        self._correction = WeatherCorrection(leads_h)
        leads = len(leads_h)
        self._pending = np.full((REACH_H, leads, COLUMNS + 2), np.nan, dtype=np.float32)
        self._issued_h = np.full(REACH_H, -1, dtype=np.int64)

    def say(self, origin_h: int, log_point: Array, week: Array) -> CorrectedForecast | None:
        """``log_point`` (leads,) as corrected by the weather; None without any that is fresh.

        ``week``: (WEEK_H,) what was observed before it, in the log.
        """
        forecast = self.forecast
        if forecast is None or origin_h - forecast.issued_at / HOUR_S > STALE_H:
            return None
        weather = weather_columns(forecast, origin_h, self._leads_h)
        seen = np.concatenate([weather, point_columns(log_point, week)], axis=1)
        if np.isnan(seen).any(axis=1).all():
            return None
        hours_of_day = (origin_h - 1 + self._leads_h) % DAY_H
        corrected = self._correction.correct(log_point, seen, hours_of_day)
        return CorrectedForecast(
            log_point, corrected, self._correction.blend(log_point, corrected), seen
        )

    def keep(self, origin_h: int, said: CorrectedForecast) -> None:
        """What was said, to be judged when its hours have been observed."""
        row = origin_h % REACH_H
        self._pending[row, :, 0], self._pending[row, :, 1] = said.plain, said.corrected
        self._pending[row, :, 2:] = said.seen
        self._issued_h[row] = origin_h

    def learn(self, hour: int, log_value: float) -> None:
        """What ``hour`` turned out to be."""
        origins = hour + 1 - self._leads_h
        rows = origins % REACH_H
        past = self._pending[rows, np.arange(len(rows))].astype(np.float64)
        past[self._issued_h[rows] != origins] = np.nan
        errors = log_value - past[:, :2]
        self._correction.learn(errors[:, 0], errors[:, 1], past[:, 2:], hour % DAY_H)
