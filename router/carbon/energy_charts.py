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
from itertools import pairwise
from typing import Any, Final

from router.carbon.answers import (
    SKEW_S,
    Issue,
    Row,
    fetch_each,
    intensity_g,
    mapping,
    number,
    published_forecast,
)
from router.carbon.bands import with_band
from router.carbon.provider import Http, Reading, Want
from router.errors import ConfigError, NoDataError, ProviderAnswerError, ProviderError
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal

BASE_URL: Final = "https://api.energy-charts.info"

_HOUR_S: Final = 3600.0
_STEPS_S: Final = (900.0, 1800.0, 3600.0)
# Grid operators report within some hours; two hours later there should have been news.
_FRESH_S: Final = 4 * _HOUR_S
_FORECAST_FRESH_S: Final = 24 * _HOUR_S
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
        if want is Want.HISTORY:
            return Reading(observed=await self._past(grid_zone, now, hours, where))
        answer = await self._get(grid_zone, {})
        series = _series(answer, where)
        observed = self._observed(series, answer, now, where)
        forecast = None
        try:
            forecast = self._forecast(grid_zone, series, answer, now, where)
        except ProviderError:
            if want is Want.FORECAST:
                raise
        if want is Want.LATEST and not observed:
            observed = await self._past(grid_zone, now, 24, where)
        return Reading(observed, forecast)

    async def _past(
        self, grid_zone: str, now: float, hours: int, where: str
    ) -> tuple[Intensity, ...]:
        depth_h = min(max(hours, 1), _LONGEST_HISTORY_H)
        asked = {
            "start": _minute(now - depth_h * _HOUR_S, where),
            "end": _minute(now, where),
        }
        answer = await self._get(grid_zone, asked)
        observed = self._observed(_series(answer, where), answer, now, where)
        if not observed:
            raise NoDataError(f"{where}: co2eq has no value in the last {depth_h} h")
        return observed

    async def _get(self, grid_zone: str, asked: Mapping[str, str]) -> Mapping[str, Any]:
        answer = await self._http.get_json(
            "/co2eq", params={"country": self._places[grid_zone], **asked}
        )
        return mapping(answer, f"{self.name}, grid zone {grid_zone}", "the answer")

    def _observed(
        self, starts: Sequence[float], answer: Mapping[str, Any], now: float, where: str
    ) -> tuple[Intensity, ...]:
        step_s = _step_s(starts, where)
        return tuple(
            with_band(
                row.g_per_kwh,
                self.signal,
                Kind.ESTIMATED,
                self.name,
                observed_at=row.start + step_s,
                expires_at=row.start + step_s + _FRESH_S,
            )
            for row in self._rows(starts, answer.get("co2eq"), "co2eq", where)
            if row.start <= now + SKEW_S
        )

    def _forecast(
        self,
        grid_zone: str,
        starts: Sequence[float],
        answer: Mapping[str, Any],
        now: float,
        where: str,
    ) -> Forecast:
        what = "co2eq_forecast"
        found = self._rows(starts, answer.get(what), what, where)
        # It begins where values end, which is when it was made; what it said of this hour before
        # that is kept, and no older part.
        hour = now // _HOUR_S * _HOUR_S
        series = [row for row in found if row.start >= hour] or found
        issued_at = min(found[0].start, now) if found else None
        issue = Issue(self.name, self.signal, _step_s(starts, where), issued_at, _FORECAST_FRESH_S)
        return published_forecast(grid_zone, series, issue, now, where)

    def _rows(self, starts: Sequence[float], values: Any, what: str, where: str) -> list[Row]:
        if values is None:
            return []
        if not isinstance(values, list) or len(values) != len(starts):
            raise ProviderAnswerError(f"{where}: {what} is not as long as unix_seconds")
        parsed = [intensity_g(value, where, what, self.signal.factors) for value in values]
        return [
            Row(start, value)
            for start, value in zip(starts, parsed, strict=True)
            if value is not None
        ]


def _series(answer: Mapping[str, Any], where: str) -> Sequence[float]:
    """Starts of the slots, unix s, which rise."""
    stamps = answer.get("unix_seconds")
    if not isinstance(stamps, list):
        raise ProviderAnswerError(f"{where}: unix_seconds is not a list")
    starts = [number(stamp, where, "unix_seconds") for stamp in stamps]
    if any(later <= earlier for earlier, later in pairwise(starts)):
        raise ProviderAnswerError(f"{where}: unix_seconds do not rise")
    return starts


def _step_s(starts: Sequence[float], where: str) -> float:
    """Length of a slot: the shortest gap, for slots may be missing."""
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    step_s = min(gaps, default=_STEPS_S[0])
    if step_s not in _STEPS_S or any(gap % step_s for gap in gaps):
        raise ProviderAnswerError(f"{where}: slots of {step_s:g} s, or of unequal length")
    return step_s


def _minute(when: float, where: str) -> str:
    try:
        return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%MZ")
    except (ValueError, OverflowError, OSError):
        raise NoDataError(f"{where}: {when:g} is no time to ask for") from None
