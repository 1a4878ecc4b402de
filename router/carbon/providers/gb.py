"""GB Carbon Intensity API (NESO): Great Britain and its 17 regions, half-hours, 48 h ahead.

``https://api.carbonintensity.org.uk``, no key, data CC BY 4.0. Its factors count what burns and no
more (NESO, National Carbon Intensity Forecast methodology, May 2024: gas 394 and 651, coal 937,
biomass 120, nuclear, wind, sun and water 0 g/kWh; imports and transmission losses included), so
its signal is average/direct and never meets life-cycle data. Only the national figure has actual
values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field

from router.carbon.providers.answers import (
    SKEW_S,
    Issue,
    fetch_each,
    intensity_g,
    listed,
    mapping,
    published_forecast,
    stamp,
)
from router.carbon.providers.bands import with_band
from router.carbon.providers.provider import Http, Reading, Want
from router.carbon.providers.rows import RowReader
from router.carbon.providers.schema import ProviderContext, ProviderSchema
from router.config.fields import BaseUrl
from router.config.live import LimitSchema, call_limits
from router.errors import (
    ConfigError,
    NoDataError,
    ProviderAnswerError,
    ProviderError,
    ProviderRowError,
)
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal
from router.trust.secrets import shown
from router.units import HOUR_S

BASE_URL: Final = "https://api.carbonintensity.org.uk"
NATIONAL: Final = "national"

_STEP_S: Final = 1800.0
_REGION_IDS: Final = range(1, 18)
# ``actual`` follows its half-hour; further back, several are there for certain.
_LOOK_BACK_S: Final = 3 * HOUR_S
_DAY_H: Final = 24
_LONGEST_HISTORY_H: Final = 14 * _DAY_H
_FRESH_S: Final = 2 * HOUR_S
_FORECAST_FRESH_S: Final = 24 * HOUR_S
# Half-width of the 90 % interval: 10.4 % of 1.3 million published national forecasts, up to 48 h
# ahead, were off by more than 50 g/kWh (nmpowell/carbon-intensity-forecast-tracking, 2023-03 to
# 2023-06, Student t fitted there). Nobody publishes the regions' errors: taken to be the same.
FORECAST_HALF_WIDTH_G: Final = 50.0


class _HalfHour(NamedTuple):
    start: float
    forecast: float | None
    actual: float | None


class GreatBritain:
    """A Provider. One call a zone and fetch; a national history takes one call a day."""

    signal = Signal(Basis.AVERAGE, Factors.DIRECT)
    zones_per_call = 1
    publishes_every_s = _STEP_S

    def __init__(
        self, http: Http, places: Mapping[str, str], *, name: str = "gb_carbon_intensity"
    ) -> None:
        """``places``: per grid zone ``national`` or a region's id, ``1`` to ``17`` (13: London).

        Raises ConfigError for any other.
        """
        known = {NATIONAL, *map(str, _REGION_IDS)}
        problems = [
            (f"zones.{zone}", f"{place!r} is neither national nor a region's id from 1 to 17")
            for zone, place in places.items()
            if place not in known
        ]
        if problems:
            raise ConfigError(f"carbon source {name}", problems)
        self.name = name
        self.grid_zones = frozenset(places)
        national = NATIONAL in places.values()
        self.wants = frozenset(Want) if national else frozenset({Want.FORECAST})
        self._http = http
        self._places = dict(places)

    async def fetch(
        self, grid_zones: Sequence[str], want: Want, now: float, hours: int
    ) -> Mapping[str, Reading | ProviderError]:
        """As in ``Provider``. Latest values come with the forecast, which is 45 to 48 h long. A
        region has a forecast only. A history is at most 14 days deep.
        """
        return await fetch_each(grid_zones, lambda zone: self._read(zone, want, now, hours))

    async def _read(self, grid_zone: str, want: Want, now: float, hours: int) -> Reading:
        place = self._places.get(grid_zone)
        where = f"{self.name}, grid zone {grid_zone}"
        if place is None:
            raise NoDataError(f"{where}: no region is configured for it")
        if want is not Want.FORECAST and place != NATIONAL:
            raise NoDataError(f"{where}: a region has forecasts, but no actual values")
        reader = RowReader(where)
        if want is Want.HISTORY:
            return Reading(await self._history(reader, now, hours), None, reader.dropped)
        hour = now // HOUR_S * HOUR_S
        back_s = _LOOK_BACK_S if want is Want.LATEST else 0.0
        found = await self._ahead(place, hour - back_s, now, reader)
        observed = self._observed(found, now)
        if want is Want.FORECAST:
            forecast = self._forecast(grid_zone, found, now, reader)
            return Reading(observed, forecast, reader.dropped)
        if not observed:
            raise reader.nothing(f"no actual value in the last {_LOOK_BACK_S / 3600:g} h")
        try:
            forecast = self._forecast(grid_zone, found, now, reader)
        except ProviderError:
            return Reading(observed, None, reader.dropped)
        return Reading(observed, forecast, reader.dropped)

    async def _ahead(
        self, place: str, start: float, now: float, reader: RowReader
    ) -> list[_HalfHour]:
        since, where = _within(start, reader.where), reader.where
        if place == NATIONAL:
            answer = await self._http.get_json(f"/intensity/{since}/fw48h")
            return _half_hours(_data(answer, where), now, reader)
        answer = await self._http.get_json(f"/regional/intensity/{since}/fw48h/regionid/{place}")
        return _half_hours(_regional(_data(answer, where), place, where), now, reader)

    async def _history(self, reader: RowReader, now: float, hours: int) -> tuple[Intensity, ...]:
        values: dict[float, Intensity] = {}
        depth_h = min(max(hours, 1), _LONGEST_HISTORY_H)
        end = now // _STEP_S * _STEP_S
        for day in range(math.ceil(depth_h / _DAY_H)):
            until = _within(end - day * _DAY_H * HOUR_S, reader.where)
            answer = await self._http.get_json(f"/intensity/{until}/pt24h")
            found = _half_hours(_data(answer, reader.where), now, reader)
            for value in self._observed(found, now):
                values[value.observed_at] = value
        if not values:
            raise reader.nothing(f"no actual value in the last {depth_h} h")
        return tuple(values[end] for end in sorted(values))

    def _observed(self, found: Sequence[_HalfHour], now: float) -> tuple[Intensity, ...]:
        """The actual values. NESO derives them from metered output, and calls them actual."""
        return tuple(
            with_band(
                half_hour.actual,
                self.signal,
                Kind.MEASURED,
                self.name,
                observed_at=half_hour.start + _STEP_S,
                expires_at=half_hour.start + _STEP_S + _FRESH_S,
            )
            for half_hour in found
            if half_hour.actual is not None and half_hour.start <= now + SKEW_S
        )

    def _forecast(
        self, grid_zone: str, found: Sequence[_HalfHour], now: float, reader: RowReader
    ) -> Forecast:
        # Forecasts of past half-hours are answered too; those of this hour make up its mean.
        hour = now // HOUR_S * HOUR_S
        current = [h for h in found if h.start >= hour] or found
        series = {h.start: h.forecast for h in current if h.forecast is not None}
        issue = Issue(self.name, self.signal, _STEP_S, None, _FORECAST_FRESH_S)
        published = published_forecast(grid_zone, series, issue, now, reader)
        return replace(published, slots=tuple(map(_with_band, published.slots)))


def _with_band(slot: Intensity) -> Intensity:
    value = slot.g_per_kwh
    return replace(
        slot,
        low_g_per_kwh=max(0.0, value - FORECAST_HALF_WIDTH_G),
        high_g_per_kwh=value + FORECAST_HALF_WIDTH_G,
    )


def _within(when: float, where: str) -> str:
    """A time inside the half-hour that starts at ``when``: its start counts to the one before."""
    try:
        return datetime.fromtimestamp(when + 60.0, UTC).strftime("%Y-%m-%dT%H:%MZ")
    except (ValueError, OverflowError, OSError):
        raise NoDataError(f"{where}: {when:g} is no time to ask for") from None


def _data(answer: Any, where: str) -> Any:
    found = mapping(answer, where, "the answer")
    if "data" not in found:
        raise ProviderAnswerError(f"{where}: the answer has no data, but an error or nothing")
    return found["data"]


def _regional(data: Any, place: str, where: str) -> Any:
    """The half-hours of region ``place``; ``data`` is documented as a list, and comes as either."""
    regions = [data] if isinstance(data, dict) else listed(data, where, "data")
    if len(regions) != 1:
        raise ProviderAnswerError(f"{where}: the answer is for {len(regions)} regions, not 1")
    region = mapping(regions[0], where, "the region")
    answered = region.get("regionid")
    if isinstance(answered, bool) or str(answered) != place:
        raise ProviderAnswerError(
            f"{where}: answered for region {shown(answered)}, asked for {place}"
        )
    return region.get("data")


def _half_hours(data: Any, now: float, reader: RowReader) -> list[_HalfHour]:
    """The half-hours of ``data``, rising."""
    where = reader.where

    def read(row: Mapping[str, Any]) -> _HalfHour:
        start, end = stamp(row.get("from"), where, "from"), stamp(row.get("to"), where, "to")
        if end - start != _STEP_S:
            raise ProviderRowError(f"{where}: a slot of {end - start:g} s, not half an hour")
        intensity = row.get("intensity")
        if not isinstance(intensity, dict):
            raise ProviderRowError(f"{where}: intensity is no object", value=intensity)
        return _HalfHour(
            start,
            intensity_g(intensity.get("forecast"), where, "forecast", Factors.DIRECT),
            intensity_g(intensity.get("actual"), where, "actual", Factors.DIRECT),
        )

    rows = [data] if isinstance(data, dict) else listed(data, where, "data")
    found = reader.once((one.start, one) for one in reader.each(rows, read, "from"))
    return list(reader.in_step(found, _STEP_S, now).values())


class GreatBritainSchema(ProviderSchema):
    """The GB Carbon Intensity API: national or one of 17 regions, keyless, direct emissions."""

    fixed_signal = GreatBritain.signal
    zones_note = "also takes regions 1 to 17"

    kind: Literal["gb_carbon_intensity"] = Field(description="selects this source")
    base_url: BaseUrl = Field(default=BASE_URL, description="of the API")
    limits: list[LimitSchema] = call_limits(120, HOUR_S)

    def build(self, context: ProviderContext) -> GreatBritain:
        """As in ``ProviderSchema``."""
        http = context.http(self.base_url, self.limits)
        return GreatBritain(http, context.zones, name=context.name)
