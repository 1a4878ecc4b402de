"""Open-Meteo: weather forecasts of any point by the hour, without a key.

``https://api.open-meteo.com/v1/forecast``. The free service is for non-commercial use, under 10,000
calls a day, 5,000 an hour and 600 a minute; a call of more than ten variables or two weeks counts
as several (open-meteo.com/en/terms; the limits are those of its source, ``RateLimiter.swift``).
Commercial use takes a key, and ``https://customer-api.open-meteo.com``. Data are CC BY 4.0:
"Weather data by Open-Meteo.com". Its server is free software (AGPL 3) and can be run by oneself.

Values at a time are momentary; irradiance and rain are of the hour before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from router.carbon.providers.answers import listed, mapping
from router.carbon.providers.provider import Http
from router.carbon.providers.rows import Dropped, Fault, RowReader
from router.carbon.weather.conditions import QUANTITIES, Array, WeatherForecast, weighted_mean
from router.errors import ProviderAnswerError, ProviderRowError
from router.trust.secrets import Secret, shown
from router.units import HOUR_S

BASE_URL: Final = "https://api.open-meteo.com"
NAME: Final = "open_meteo"
# Wind is asked for at this height by default: one that most of its models have.
WIND_HEIGHTS_M: Final = (10, 80, 100, 120)
# In the order of QUANTITIES: variable, the unit that is asked for as it is answered, and whether it
# is of the hour before its time.
_VARIABLES: Final = (
    ("wind_speed_{height}m", "m/s", False),
    ("shortwave_radiation", "W/m\N{SUPERSCRIPT TWO}", True),
    ("temperature_2m", "\N{DEGREE SIGN}C", False),
    ("dew_point_2m", "\N{DEGREE SIGN}C", False),
    ("precipitation", "mm", True),
)
# Two weeks count as one call: seven days behind any hour of today, and 96 h ahead of it.
PAST_DAYS: Final = 8
FORECAST_DAYS: Final = 6
# A cell of the coarsest model is a quarter of a degree; of another place, it is further away.
_NEAR_DEG: Final = 1.0


class WeatherPoint(NamedTuple):
    """A place whose weather counts for a grid zone, degrees (WGS 84), and by how much."""

    lat: float
    lon: float
    weight: float = 1.0


class PointReading(NamedTuple):
    """``hours``: (hours, quantities) from ``first_h`` on; ``dropped``: what could not be used."""

    first_h: int
    hours: Array
    dropped: tuple[Dropped, ...]


class OpenMeteo:
    """Asks for one point a call, as many calls as a grid zone has points."""

    def __init__(self, http: Http, *, wind_height_m: int = 80, key: Secret | None = None) -> None:
        self.name = NAME
        self._http = http
        self._key = key
        self._variables = [
            (name.format(height=wind_height_m), unit, before) for name, unit, before in _VARIABLES
        ]

    async def fetch(
        self, grid_zone: str, points: Sequence[WeatherPoint], now: float
    ) -> tuple[WeatherForecast, tuple[Dropped, ...]]:
        """The weather of a grid zone as it is forecast now, seven days back and 96 h ahead at
        least, and what of the answers could not be used. Raises ProviderError leaves.
        """
        readings = [await self._read(grid_zone, point, now) for point in points]
        first_h = min(reading.first_h for reading in readings)
        end_h = max(reading.first_h + len(reading.hours) for reading in readings)
        spread = []
        for reading in readings:
            values = np.full((end_h - first_h, len(QUANTITIES)), np.nan)
            at = reading.first_h - first_h
            values[at : at + len(reading.hours)] = reading.hours
            spread.append(values)
        mean = weighted_mean(spread, [point.weight for point in points])
        dropped = tuple(rows for reading in readings for rows in reading.dropped)
        return WeatherForecast(self.name, now, first_h, mean), dropped

    async def _read(self, grid_zone: str, point: WeatherPoint, now: float) -> PointReading:
        where = f"{self.name}, grid zone {grid_zone}, point {point.lat:g}/{point.lon:g}"
        params = {
            "latitude": f"{point.lat:.4f}",
            "longitude": f"{point.lon:.4f}",
            "hourly": ",".join(name for name, *_ in self._variables),
            "wind_speed_unit": "ms",
            "temperature_unit": "celsius",
            "precipitation_unit": "mm",
            "timeformat": "unixtime",
            "timezone": "GMT",
            "past_days": str(PAST_DAYS),
            "forecast_days": str(FORECAST_DAYS),
        }
        if self._key is not None:
            params["apikey"] = self._key.reveal()
        answer = mapping(await self._http.get_json("/v1/forecast", params=params), where, "answer")
        _check_place(answer, point, where)
        units = mapping(answer.get("hourly_units"), where, "hourly_units")
        self._check_units(units, where)
        series = mapping(answer.get("hourly"), where, "hourly")
        return self._hours(series, now, RowReader(where))

    def _check_units(self, units: Mapping[str, Any], where: str) -> None:
        for name, unit in [("time", "unixtime"), *((n, u) for n, u, _ in self._variables)]:
            if units.get(name) != unit:
                text = f"{where}: {name} is in {shown(units.get(name))}, not {unit}"
                raise ProviderAnswerError(text)

    def _hours(self, series: Mapping[str, Any], now: float, reader: RowReader) -> PointReading:
        columns = [
            listed(series.get(name), reader.where, f"hourly.{name}")
            for name in ("time", *(name for name, *_ in self._variables))
        ]
        if len(set(map(len, columns))) != 1:
            raise ProviderAnswerError(f"{reader.where}: hourly lists are not equally long")
        rows = [{"time": cells[0], "values": cells[1:]} for cells in zip(*columns, strict=True)]
        stated = reader.once(reader.each(rows, lambda row: self._row(row, reader.where), "time"))
        times = sorted(stated)
        step_s = min((later - at for at, later in pairwise(times)), default=0.0)
        if 0.0 < step_s < HOUR_S:
            raise ProviderAnswerError(f"{reader.where}: steps of {step_s:g} s, not of an hour")
        moments = reader.in_step(stated, HOUR_S, now)
        if not moments or next(iter(moments)) % HOUR_S:
            raise reader.nothing("no weather of whole hours")
        first_h = round(min(moments) / HOUR_S)
        values = np.full((round(max(moments) / HOUR_S) - first_h + 1, len(QUANTITIES)), np.nan)
        for time, row in moments.items():
            values[round(time / HOUR_S) - first_h] = row
        return PointReading(first_h, self._means(values), reader.dropped)

    def _row(self, row: Mapping[str, Any], where: str) -> tuple[float, tuple[float, ...]]:
        """A time and its values, NaN for null. Raises ProviderRowError."""
        time = row["time"]
        if isinstance(time, bool) or not isinstance(time, int | float) or not abs(time) < 1e11:
            raise ProviderRowError(f"{where}: time is no unix time", value=time)
        values = []
        for quantity, value in zip(QUANTITIES, row["values"], strict=True):
            if value is None:
                values.append(math.nan)
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                text = f"{where}: {quantity.name} is no number"
                raise ProviderRowError(text, value=value)
            if why := quantity.why_not(value):
                raise ProviderRowError(f"{where}: {why}", Fault.OUT_OF_RANGE)
            values.append(float(value))
        return float(time), tuple(values)

    def _means(self, moments: Array) -> Array:
        """From what stands at each full hour to means of the hours between them."""
        means = (moments[:-1] + moments[1:]) / 2.0
        for place, (_, _, before) in enumerate(self._variables):
            if before:
                means[:, place] = moments[1:, place]
        return means


def _check_place(answer: Mapping[str, Any], point: WeatherPoint, where: str) -> None:
    for name, asked in (("latitude", point.lat), ("longitude", point.lon)):
        value = answer.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ProviderAnswerError(f"{where}: {name} is no number")
        away = abs(value - asked)
        if not (away if name == "latitude" else min(away, abs(away - 360.0))) <= _NEAR_DEG:
            raise ProviderAnswerError(f"{where}: it is about {name} {value:g}: another place")
