"""energy-charts.info of Fraunhofer ISE: gCO2eq/kWh of Germany and other European countries.

``https://api.energy-charts.info/co2eq?country=de``, no key, data CC BY 4.0. The answer, as recorded
(the published description of the API does not list it): ``unix_seconds``, ``co2eq`` and
``co2eq_forecast``, lists of one length, with nulls where a slot has no such value; slots of a
quarter-hour from the start of the day to the end of the forecast. It does not name the country, so
that one is taken on trust.

Which emissions its factors count is stated nowhere that could be checked: the operator says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import Field

from router.carbon.providers.answers import (
    SKEW_S,
    Issue,
    fetch_each,
    intensity_g,
    listed,
    mapping,
    number,
    published_forecast,
)
from router.carbon.providers.bands import with_band
from router.carbon.providers.provider import Http, Reading, Want
from router.carbon.providers.rows import RowReader, usual_step_s
from router.carbon.providers.schema import ProviderContext, ProviderSchema
from router.config.fields import BaseUrl
from router.config.live import LimitSchema, call_limits
from router.errors import (
    ConfigError,
    NoDataError,
    ProviderAnswerError,
    ProviderError,
)
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal
from router.units import HOUR_S

BASE_URL: Final = "https://api.energy-charts.info"

_FIGURES: Final = ("co2eq", "co2eq_forecast")
_STEPS_S: Final = (900.0, 1800.0, 3600.0)
# Grid operators report within some hours; two hours later there should have been news.
_FRESH_S: Final = 4 * HOUR_S
_FORECAST_FRESH_S: Final = 24 * HOUR_S
_LONGEST_HISTORY_H: Final = 31 * 24


class EnergyCharts:
    """A Provider. One call a zone and fetch; just after midnight two, for today has no value yet.

    ``co2eq`` is of kind ESTIMATED: it is computed from output that grid operators still revise,
    with factors that are not published with it.
    """

    wants = frozenset(Want)
    zones_per_call = 1
    publishes_every_s = 900.0

    def __init__(
        self,
        http: Http,
        places: Mapping[str, str],
        *,
        factors: Factors,
        name: str = "energy_charts",
    ) -> None:
        """``places``: per grid zone its ``country``, as ``de``. ``factors``: what its figures are
        taken to count. Raises ConfigError for neither life-cycle nor direct.
        """
        if factors not in (Factors.LIFECYCLE, Factors.DIRECT):
            fix = f"must be lifecycle or direct, not {factors}"
            raise ConfigError(f"carbon source {name}", [("factors", fix)])
        self.name = name
        self.signal = Signal(Basis.AVERAGE, factors)
        self.grid_zones = frozenset(places)
        self._http = http
        self._places = dict(places)

    async def fetch(
        self, grid_zones: Sequence[str], want: Want, now: float, hours: int
    ) -> Mapping[str, Reading | ProviderError]:
        """As in ``Provider``. Every reading holds what the answer held, so that latest values
        come with the forecast. A history is at most 31 days deep.
        """
        return await fetch_each(grid_zones, lambda zone: self._read(zone, want, now, hours))

    async def _read(self, grid_zone: str, want: Want, now: float, hours: int) -> Reading:
        where = f"{self.name}, grid zone {grid_zone}"
        if grid_zone not in self._places:
            raise NoDataError(f"{where}: no country is configured for it")
        reader = RowReader(where)
        if want is Want.HISTORY:
            return Reading(await self._past(grid_zone, now, hours, reader), None, reader.dropped)
        answer = await self._get(grid_zone, {})
        series = _Series(answer, self.signal.factors, now, reader)
        observed = self._observed(series, now)
        forecast = None
        try:
            forecast = self._forecast(grid_zone, series, now, reader)
        except ProviderError:
            if want is Want.FORECAST:
                raise
        if want is Want.LATEST and not observed:
            observed = await self._past(grid_zone, now, 24, reader)
        return Reading(observed, forecast, reader.dropped)

    async def _past(
        self, grid_zone: str, now: float, hours: int, reader: RowReader
    ) -> tuple[Intensity, ...]:
        depth_h = min(max(hours, 1), _LONGEST_HISTORY_H)
        asked = {
            "start": _minute(now - depth_h * HOUR_S, reader.where),
            "end": _minute(now, reader.where),
        }
        answer = await self._get(grid_zone, asked)
        observed = self._observed(_Series(answer, self.signal.factors, now, reader), now)
        if not observed:
            raise reader.nothing(f"co2eq has no value in the last {depth_h} h")
        return observed

    async def _get(self, grid_zone: str, asked: Mapping[str, str]) -> Mapping[str, Any]:
        answer = await self._http.get_json(
            "/co2eq", params={"country": self._places[grid_zone], **asked}
        )
        return mapping(answer, f"{self.name}, grid zone {grid_zone}", "the answer")

    def _observed(self, series: _Series, now: float) -> tuple[Intensity, ...]:
        return tuple(
            with_band(
                g_per_kwh,
                self.signal,
                Kind.ESTIMATED,
                self.name,
                observed_at=start + series.step_s,
                expires_at=start + series.step_s + _FRESH_S,
            )
            for start, g_per_kwh in series.actual.items()
            if start <= now + SKEW_S
        )

    def _forecast(
        self, grid_zone: str, series: _Series, now: float, reader: RowReader
    ) -> Forecast:  # fmt: skip
        # It begins where values end, which is when it was made; what it said of this hour before
        # that is kept, and no older part.
        hour = now // HOUR_S * HOUR_S
        found = series.forecast
        ahead = {start: value for start, value in found.items() if start >= hour} or found
        issued_at = min(min(found), now) if found else None
        issue = Issue(self.name, self.signal, series.step_s, issued_at, _FORECAST_FRESH_S)
        return published_forecast(grid_zone, ahead, issue, now, reader)


class _Series:
    """Both figures by start of slot (unix s), rising; ``step_s``: length of a slot."""

    def __init__(
        self, answer: Mapping[str, Any], factors: Factors, now: float, reader: RowReader
    ) -> None:
        where = reader.where
        stamps = listed(answer.get("unix_seconds"), where, "unix_seconds")
        columns = [_column(answer, name, len(stamps), where) for name in _FIGURES]

        def read(row: Mapping[str, Any]) -> tuple[float, tuple[float | None, ...]]:
            start = number(row["unix_seconds"], where, "unix_seconds")
            return start, tuple(intensity_g(row[name], where, name, factors) for name in _FIGURES)

        cells = ("unix_seconds", *_FIGURES)
        rows = [dict(zip(cells, row, strict=True)) for row in zip(stamps, *columns, strict=True)]
        slots = reader.once(reader.each(rows, read, "unix_seconds"))
        self.step_s = _step_s(list(slots), where)
        slots = reader.in_step(slots, self.step_s, now)
        self.actual, self.forecast = (
            {start: value for start, found in slots.items() if (value := found[place]) is not None}
            for place in range(len(_FIGURES))
        )


def _column(answer: Mapping[str, Any], what: str, length: int, where: str) -> list[Any]:
    values = answer.get(what)
    if values is None:
        return [None] * length
    if not isinstance(values, list) or len(values) != length:
        raise ProviderAnswerError(f"{where}: {what} is not as long as unix_seconds")
    return values


def _step_s(starts: Sequence[float], where: str) -> float:
    """Length of a slot."""
    step_s = usual_step_s(starts, _STEPS_S) if len(starts) > 1 else _STEPS_S[0]
    if step_s is None:
        raise ProviderAnswerError(f"{where}: slots of unequal length, or of a strange one")
    return step_s


def _minute(when: float, where: str) -> str:
    try:
        return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%MZ")
    except (ValueError, OverflowError, OSError):
        raise NoDataError(f"{where}: {when:g} is no time to ask for") from None


class EnergyChartsSchema(ProviderSchema):
    """energy-charts.info of Fraunhofer ISE: Germany and neighbours, keyless."""

    kind: Literal["energy_charts"] = Field(description="selects this source")
    factors: Literal["lifecycle", "direct"] = Field(
        description="what its figures are taken to count: it does not say, so you decide"
    )
    base_url: BaseUrl = Field(default=BASE_URL, description="of the API")
    limits: list[LimitSchema] = call_limits(120, HOUR_S)

    def published_signal(self) -> Signal:
        """As in ``LiveSchema``."""
        return Signal(Basis.AVERAGE, Factors(self.factors))

    def build(self, context: ProviderContext) -> EnergyCharts:
        """As in ``ProviderSchema``."""
        http = context.http(self.base_url, self.limits)
        return EnergyCharts(http, context.zones, factors=Factors(self.factors), name=context.name)
