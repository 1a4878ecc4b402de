"""Electricity Maps, API v3 and v4: average carbon intensity of over 350 zones, gCO2eq/kWh.

``https://api.electricitymaps.com/v3`` (or ``/v4``), key in the header ``auth-token``; reference:
app.electricitymaps.com/developer-hub/api/reference. ``datetime`` is the start of a slot. Figures
are consumption-based (imports traced to where they were generated).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import Field

from router.carbon.providers.answers import (
    SKEW_S,
    Issue,
    fetch_each,
    flag,
    intensity_g,
    iso,
    listed,
    mapping,
    published_forecast,
    spans,
    stamp,
)
from router.carbon.providers.bands import with_band
from router.carbon.providers.provider import Http, Reading, Want
from router.carbon.providers.rows import Fault, RowReader, usual_step_s
from router.carbon.providers.schema import KeyedSchema, ProviderContext
from router.config.fields import BaseUrl
from router.config.live import LimitSchema, call_limits
from router.errors import (
    ConfigError,
    NoDataError,
    ProviderAnswerError,
    ProviderError,
    ProviderRefusedError,
    ProviderRowError,
)
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal
from router.trust.secrets import Secret, shown
from router.units import HOUR_S

_STEP_S: Final = {"5_minutes": 300.0, "15_minutes": 900.0, "hourly": 3600.0}
_GRANULARITY: Final = "hourly"
# What a list may say of all its rows at once.
_SHARED: Final = ("zone", "emissionFactorType", "temporalGranularity", "flowTraced")
# What ``horizonHours`` takes.
_HORIZONS_H: Final = (6, 24, 48, 72)
# What ``history`` holds, and the longest hourly ``past-range``.
_DAY_H: Final = 24
_LONGEST_RANGE_S: Final = 240 * HOUR_S
# The current slot is published at its start, as an estimate: two hours after its end there should
# have been news twice. A forecast is issued every hour; after a day without one it is not used.
_FRESH_S: Final = 2 * HOUR_S
_FORECAST_FRESH_S: Final = 24 * HOUR_S
# Slots are filled days ahead and updated until past; this long before its slot, a value that was
# not updated since is an old forecast and no estimate.
_FROZEN_S: Final = 6 * HOUR_S


class ElectricityMaps:
    """A Provider. One call a zone and fetch; a history beyond a day takes one per ten days."""

    zones_per_call = 1
    wants = frozenset(Want)
    publishes_every_s = HOUR_S

    def __init__(
        self,
        http: Http,
        places: Mapping[str, str],
        *,
        key: Secret,
        factors: Factors,
        flow_traced: bool | None = None,
        name: str = "electricity_maps",
    ) -> None:
        """``places``: per grid zone its own name, as ``US-CAL-CISO``. ``flow_traced``: v4 only,
        where True asks for consumption-based figures as v3's are; None leaves it out. Raises
        ConfigError for ``factors`` that are neither life-cycle nor direct.
        """
        if factors not in (Factors.LIFECYCLE, Factors.DIRECT):
            fix = f"must be lifecycle or direct, not {factors}"
            raise ConfigError(f"carbon source {name}", [("factors", fix)])
        self.name = name
        self.signal = Signal(Basis.AVERAGE, factors)
        self.grid_zones = frozenset(places)
        self._http = http
        self._places = dict(places)
        self._key = key
        self._flow_traced = flow_traced
        self._day_only: set[str] = set()

    async def fetch(
        self, grid_zones: Sequence[str], want: Want, now: float, hours: int
    ) -> Mapping[str, Reading | ProviderError]:
        """As in ``Provider``. A history is of the last day on plans that do not sell more."""
        return await fetch_each(grid_zones, lambda zone: self._read(zone, want, now, hours))

    async def _read(self, grid_zone: str, want: Want, now: float, hours: int) -> Reading:
        if grid_zone not in self._places:
            raise NoDataError(f"{self.name}: no place is configured for grid zone {grid_zone}")
        reader = RowReader(self._where(grid_zone), self._key)
        if want is Want.FORECAST:
            forecast = await self._forecast(grid_zone, now, hours, reader)
            return Reading((), forecast, reader.dropped)
        found: list[Any]
        if want is Want.LATEST:
            found = [await self._get(grid_zone, "latest")]
        else:
            found = await self._history(grid_zone, now, hours)
        return Reading(self._observed(grid_zone, found, now, reader), None, reader.dropped)

    async def _history(self, grid_zone: str, now: float, hours: int) -> list[Any]:
        refused = False
        if hours > _DAY_H and grid_zone not in self._day_only:
            try:
                return await self._past_range(grid_zone, now, hours)
            except ProviderRefusedError:
                refused = True
        found = await self._rows(grid_zone, "history", "history")
        if refused:
            # The key is good, so its plan sells the last day alone.
            self._day_only.add(grid_zone)
        return found

    async def _past_range(self, grid_zone: str, now: float, hours: int) -> list[Any]:
        found: list[Any] = []
        start = (now // HOUR_S - hours) * HOUR_S
        for begin, end in spans(start, (now // HOUR_S + 1) * HOUR_S, _LONGEST_RANGE_S):
            span = {"start": iso(begin), "end": iso(end)}
            found += await self._rows(grid_zone, "past-range", "data", **span)
        return found

    async def _rows(self, grid_zone: str, what: str, key: str, **params: str) -> list[Any]:
        """The rows of one answer, each with what is stated once for all of them."""
        answer = await self._get(grid_zone, what, **params)
        shared = {name: answer[name] for name in _SHARED if answer.get(name) is not None}
        found = listed(answer.get(key), self._where(grid_zone), key)
        return [_completed(row, shared) if isinstance(row, dict) else row for row in found]

    def _observed(
        self, grid_zone: str, found: Iterable[Any], now: float, reader: RowReader
    ) -> tuple[Intensity, ...]:
        where = reader.where

        def read(row: Mapping[str, Any]) -> tuple[float, Intensity] | None:
            for statement in ("zone", "emissionFactorType"):
                if row.get(statement) is None:
                    raise ProviderRowError(f"{where}: a row without {statement}")
            self._verify_zone(grid_zone, row["zone"])
            self._verify_factors(where, row["emissionFactorType"])
            self._verify_tracing(where, row)
            start = stamp(row.get("datetime"), where, "datetime")
            if start > now + SKEW_S:
                text = f"{where}: the value is for a time to come"
                raise ProviderRowError(text, Fault.MISPLACED)
            if _updated_at(row, where, start) < start - _FROZEN_S:
                late_h = _FROZEN_S / HOUR_S
                text = f"{where}: the value was last updated over {late_h:g} h before its time"
                raise ProviderRowError(text, Fault.MISPLACED)
            value = self._intensity(row, where, start)
            return None if value is None else (start, value)

        values = reader.once(reader.each(found, read, "datetime"))
        if not values:
            raise reader.nothing("carbonIntensity is null or missing")
        return tuple(values.values())

    def _intensity(self, row: Mapping[str, Any], where: str, start: float) -> Intensity | None:
        g_per_kwh = intensity_g(
            row.get("carbonIntensity"), where, "carbonIntensity", self.signal.factors
        )
        estimated = flag(row.get("isEstimated"), where, "isEstimated")
        end = start + self._step_s(row, where)
        if g_per_kwh is None:
            return None
        return with_band(
            g_per_kwh,
            self.signal,
            # Unsaid, it may be an estimate.
            Kind.MEASURED if estimated is False else Kind.ESTIMATED,
            self.name,
            observed_at=end,
            expires_at=end + _FRESH_S,
        )

    async def _forecast(
        self, grid_zone: str, now: float, hours: int, reader: RowReader
    ) -> Forecast:
        horizon_h = next((h for h in _HORIZONS_H if h >= hours), _HORIZONS_H[-1])
        answer = await self._get(grid_zone, "forecast", horizonHours=str(horizon_h))
        where = reader.where
        self._verify_tracing(where, answer)
        if answer.get("emissionFactorType") is not None:
            self._verify_factors(where, answer["emissionFactorType"])
        elif self.signal.factors is not Factors.LIFECYCLE:
            # Life-cycle is the API's default, so that is what it may be.
            raise ProviderAnswerError(f"{where}: the forecast does not say its emission factors")

        def read(row: Mapping[str, Any]) -> tuple[float, float] | None:
            start = stamp(row.get("datetime"), where, "datetime")
            value = intensity_g(
                row.get("carbonIntensity"), where, "carbonIntensity", self.signal.factors
            )
            return None if value is None else (start, value)

        found = listed(answer.get("forecast"), where, "forecast")
        series = reader.once(reader.each(found, read, "datetime"))
        step_s = self._step_s(answer, where)
        if answer.get("temporalGranularity") is None:
            step_s = usual_step_s(series, _STEP_S.values()) or step_s
        updated = answer.get("updatedAt")
        issued_at = None if updated is None else stamp(updated, where, "updatedAt")
        issue = Issue(self.name, self.signal, step_s, issued_at, _FORECAST_FRESH_S)
        return published_forecast(grid_zone, series, issue, now, reader)

    async def _get(self, grid_zone: str, what: str, **params: str) -> Mapping[str, Any]:
        asked = {
            "zone": self._places[grid_zone],
            "emissionFactorType": self.signal.factors.value,
            "temporalGranularity": _GRANULARITY,
            # Else a zone unknown to it is answered with that of our own IP address.
            "disableCallerLookup": "true",
            **params,
        }
        if self._flow_traced is not None:
            asked["flowTraced"] = "true" if self._flow_traced else "false"
        answer = await self._http.get_json(
            f"/carbon-intensity/{what}",
            params=asked,
            headers={"auth-token": self._key.reveal()},
        )
        where = self._where(grid_zone)
        found = mapping(answer, where, "the answer")
        if "zone" not in found and ("error" in found or "message" in found):
            told = str(found.get("error") or found.get("message")).lower()
            if "no recent data" in told or "no data" in told:
                raise NoDataError(f"{where}: no recent data")
            raise ProviderAnswerError(f"{where}: answered with an error and no data")
        self._verify_zone(grid_zone, found.get("zone"))
        return found

    def _verify_zone(self, grid_zone: str, answered: Any) -> None:
        where, expected = self._where(grid_zone), self._places[grid_zone]
        if not isinstance(answered, str) or not answered:
            raise ProviderAnswerError(f"{where}: does not say for which zone it answers")
        if answered != expected:
            raise ProviderAnswerError(
                f"{where}: answered for zone {shown(answered, self._key)}, expected "
                f"{shown(expected, self._key)}"
            )

    def _verify_factors(self, where: str, answered: Any) -> None:
        if answered != self.signal.factors.value:
            raise ProviderAnswerError(
                f"{where}: answered with {shown(answered, self._key)} emission factors, asked for "
                f"{self.signal.factors}"
            )

    def _verify_tracing(self, where: str, answer: Mapping[str, Any]) -> None:
        traced = answer.get("flowTraced")
        if None not in (traced, self._flow_traced) and traced is not self._flow_traced:
            raise ProviderAnswerError(f"{where}: flowTraced is not {self._flow_traced} as asked")

    def _step_s(self, answer: Mapping[str, Any], where: str) -> float:
        granularity = answer.get("temporalGranularity")
        if granularity is None:
            return self.publishes_every_s
        if not isinstance(granularity, str) or granularity not in _STEP_S:
            raise ProviderRowError(f"{where}: temporalGranularity is none of {list(_STEP_S)}")
        return _STEP_S[granularity]

    def _where(self, grid_zone: str) -> str:
        return f"{self.name}, grid zone {grid_zone}"


def _completed(row: Mapping[str, Any], shared: Mapping[str, Any]) -> Mapping[str, Any]:
    """``row`` with what the answer states for all rows, where the row itself is silent."""
    return {**shared, **{name: cell for name, cell in row.items() if cell is not None}}


def _updated_at(row: Mapping[str, Any], where: str, otherwise: float) -> float:
    updated = row.get("updatedAt")
    return otherwise if updated is None else stamp(updated, where, "updatedAt")


class ElectricityMapsSchema(KeyedSchema):
    """Electricity Maps: over 200 grid zones, measured, estimated and forecast."""

    kind: Literal["electricity_maps"] = Field(description="selects this source")
    api: Literal["v3", "v4"] = Field(default="v4", description="version of the API")
    base_url: BaseUrl = Field(
        default="https://api.electricitymaps.com", description="without the version"
    )
    limits: list[LimitSchema] = call_limits(
        100, HOUR_S, "calls it may get; your plan may allow more"
    )

    def build(self, context: ProviderContext) -> ElectricityMaps:
        """As in ``ProviderSchema``."""
        return ElectricityMaps(
            context.http(f"{self.base_url}/{self.api}", self.limits),
            context.zones,
            key=context.secret("key"),
            factors=context.signal.factors,
            # v3 is always consumption-based; v4 is on request, and both must mean the same.
            flow_traced=True if self.api == "v4" else None,
            name=context.name,
        )
