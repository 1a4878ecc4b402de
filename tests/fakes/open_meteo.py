"""Open-Meteo's ``/v1/forecast``: hourly variables of one or several points.

Shapes after its documentation and source (open-meteo/open-meteo, ``Public/docs/openapi.yml``,
``RateLimiter.swift``): one point is an object, several a list of them; units are told; a variable
that a model lacks is null; refusals are 400 with ``error`` and ``reason``. Days are of UTC and
begin at midnight; a point is answered by the centre of its cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from aiohttp import web

from tests.fakes.faults import What
from tests.fakes.serving import Ask, Fake, Handler, Refusal
from tests.fakes.world import DAY, HOUR, World

CELL_DEG: Final = 0.25
LONGEST_DAYS: Final = {"past_days": 92, "forecast_days": 16}
# Variable: its unit by what was asked for.
UNITS: Final = {
    "wind_speed_10m": "wind", "wind_speed_80m": "wind", "wind_speed_120m": "wind",
    "shortwave_radiation": "W/m\N{SUPERSCRIPT TWO}", "temperature_2m": "air",
    "dew_point_2m": "air", "precipitation": "mm", "cloud_cover": "%",
}  # fmt: skip
# What a model lacks: known, and null throughout.
ABSENT: Final = {"wind_speed_100m": "wind"}
WIND: Final = {
    "kmh": ("km/h", 3.6),
    "ms": ("m/s", 1.0),
    "mph": ("mp/h", 2.237),
    "kn": ("kn", 1.944),
}
AIR: Final = {"celsius": "\N{DEGREE SIGN}C", "fahrenheit": "\N{DEGREE SIGN}F"}


class FakeOpenMeteo(Fake):
    """``keys``: of a paid plan; None for the free service. ``step_s``: of its answers."""

    name: ClassVar[str] = "open_meteo"

    def __init__(self, world: World, *, keys: Iterable[str] | None = None, **more: Any) -> None:
        super().__init__(world, {}, **more)
        self.keys = None if keys is None else frozenset(keys)
        self.step_s = HOUR

    def routes(self) -> Iterable[tuple[str, str, Handler]]:
        yield "/v1/forecast", "forecast", self.forecast

    def zone_of(self, request: web.Request) -> str:
        return f"{request.query.get('latitude', '')}/{request.query.get('longitude', '')}"

    def key_of(self, request: web.Request) -> str:
        return request.query.get("apikey", "")

    def too_many(self) -> Any:
        reason = "Minutely API request limit exceeded. Please try again in one minute."
        return {"error": True, "reason": reason}

    def forecast(self, ask: Ask) -> Any:
        if self.keys is not None:
            if not ask.query("apikey"):
                raise refusal("API key required. Please add &apikey= to the URL.", 401)
            if ask.query("apikey") not in self.keys or self.on(What.KEY_REVOKED, ask):
                raise refusal("The supplied API key is invalid.")
        if self.on(What.NO_DATA, ask):
            raise refusal("No data is available for this location")
        places = list(
            zip(_degrees(ask, "latitude", 90), _degrees(ask, "longitude", 180), strict=True)
        )
        answers = [self._point(ask, lat, lon) for lat, lon in places]
        return answers[0] if len(answers) == 1 else answers

    def _point(self, ask: Ask, lat: float, lon: float) -> dict[str, Any]:
        names = [name for name in ask.query("hourly").split(",") if name]
        for name in names:
            if name not in UNITS | ABSENT:
                raise refusal(
                    "Data corrupted at path ''. Cannot initialize SurfacePressureAndHeightVariable"
                    f" from invalid String value {name}."
                )
        if self.on(What.WRONG_ZONE, ask):
            lat = lat - 20.0 if lat > 0 else lat + 20.0
        times = self._times(ask)
        unix = ask.query("timeformat", "iso8601") == "unixtime"
        hourly: dict[str, Any] = {"time": [int(t) if unix else _iso(t) for t in times]}
        units = {"time": "unixtime" if unix else "iso8601"}
        for name in names:
            unit, values = self._series(ask, name, lat, lon, times)
            units[name], hourly[name] = unit, values
        if self.on(What.NO_ROWS, ask):
            hourly = {key: [] for key in hourly}
        return {
            "latitude": round(lat / CELL_DEG) * CELL_DEG,
            "longitude": round(lon / CELL_DEG) * CELL_DEG,
            "generationtime_ms": 0.0513,
            "utc_offset_seconds": 0,
            "timezone": "GMT",
            "timezone_abbreviation": "GMT",
            "elevation": 38.0,
            "hourly_units": units,
            "hourly": hourly,
        }

    def _times(self, ask: Ask) -> list[float]:
        past, ahead = _days(ask, "past_days", 0), _days(ask, "forecast_days", 7)
        midnight = math.floor(ask.now / DAY) * DAY
        start, end = midnight - past * DAY, midnight + ahead * DAY
        if short := self.on(What.SHORT, ask):
            end = math.floor(ask.now / HOUR) * HOUR + short.hours * HOUR
        count = math.ceil((end - start) / self.step_s)
        return [start + place * self.step_s for place in range(count)]

    def _series(
        self, ask: Ask, name: str, lat: float, lon: float, times: list[float]
    ) -> tuple[str, list[float | None]]:
        kind = (UNITS | ABSENT)[name]
        factor, unit = 1.0, kind
        if kind == "wind":
            asked = "kmh" if self.on(What.OTHER_UNIT, ask) else ask.query("wind_speed_unit", "kmh")
            unit, factor = WIND[asked]
        elif kind == "air":
            unit = AIR[ask.query("temperature_unit", "celsius")]
        if name in ABSENT or self.on(What.NULL, ask):
            return unit, [None] * len(times)
        return unit, [round(moment(name, lat, lon, at) * factor, 2) for at in times]


def moment(name: str, lat: float, lon: float, at: float) -> float:
    """What stands at a time in that place, in SI units; radiation and rain of the hour before."""
    hour = at / HOUR + lon / 15.0
    if name.startswith("wind_speed"):
        return 7.0 + 4.0 * math.sin(hour / 17.0 + lat) + 2.0 * math.sin(hour / 5.0)
    if name == "shortwave_radiation":
        return max(0.0, 600.0 * math.sin(math.tau * (hour - 6.5) / 24.0))
    if name == "precipitation":
        return max(0.0, math.sin(hour / 11.0) - 0.8)
    air = 15.0 - abs(lat) / 10.0 + 6.0 * math.sin(math.tau * (hour - 9.0) / 24.0)
    return air if name == "temperature_2m" else air - 5.0


def refusal(reason: str, status: int = 400) -> Refusal:
    return Refusal(status, {"error": True, "reason": reason})


def _degrees(ask: Ask, name: str, most: float) -> list[float]:
    found = []
    for text in ask.query(name).split(","):
        try:
            value = float(text)
        except ValueError:
            raise refusal(f"Parameter '{name}' must be a number") from None
        if not abs(value) <= most:
            raise refusal(
                f"{name.capitalize()} must be in range of -{most:g} to {most:g}°. Given: {value}."
            )
        found.append(value)
    return found


def _days(ask: Ask, name: str, otherwise: int) -> int:
    days, most = int(ask.query(name, str(otherwise))), LONGEST_DAYS[name]
    if not 0 <= days <= most:
        raise refusal(f"Parameter '{name}' is out of allowed range from 0 to {most}. Given {days}.")
    return days


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M")
