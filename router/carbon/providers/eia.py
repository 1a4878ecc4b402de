"""EIA-930 by the EIA's API v2: intensity of US balancing authorities, from generation by fuel.

``https://api.eia.gov/v2/electricity/rto/fuel-type-data/data/``, free key as a parameter, public
domain. One row is one fuel of one respondent in one hour; ``period`` is the **end** of the hour in
UTC, as ``2025-01-01T05``; ``value`` is MWh, a number, a string or null. Published an hour to a day
later. Production-based, with the factors of ``router/data/fuel_factors.csv``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import Field

from router.carbon.providers.answers import SKEW_S, listed, mapping
from router.carbon.providers.fuel_mix import MOST_MW, Fuel, FuelFactors, observed, slots_of
from router.carbon.providers.provider import Http, Reading, Want
from router.carbon.providers.rows import Fault, RowReader
from router.carbon.providers.schema import KeyedSchema, ProviderContext
from router.config.fields import BaseUrl
from router.config.live import LimitSchema, call_limits
from router.errors import NoDataError, ProviderAnswerError, ProviderError, ProviderRowError
from router.model import Factors
from router.trust.secrets import Secret, shown
from router.units import HOUR_S

BASE_URL: Final = "https://api.eia.gov"

_PATH: Final = "/v2/electricity/rto/fuel-type-data/data/"
_PAGE_ROWS: Final = 5000
# 17 fuels of five zones over 31 days fill 13.
_MOST_PAGES: Final = 16
# Enough to know what is usual, behind a publication that may be a day late.
_WINDOW_H: Final = 48
_LONGEST_HISTORY_H: Final = 31 * 24
_LAG_S: Final = 24 * HOUR_S
_PERIOD = re.compile(r"\d{4}-\d\d-\d\dT\d\d", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,12}(\.\d{0,40})?", re.ASCII)

# EIA's codes. Solar and wind with a battery behind them count as what feeds the battery.
_FUELS: Final = {
    "COL": Fuel.COAL,
    "NG": Fuel.GAS,
    "NUC": Fuel.NUCLEAR,
    "OIL": Fuel.OIL,
    "WAT": Fuel.HYDRO,
    "SUN": Fuel.SOLAR,
    "SNB": Fuel.SOLAR,
    "WND": Fuel.WIND,
    "WNB": Fuel.WIND,
    "GEO": Fuel.GEOTHERMAL,
    "BIO": Fuel.BIOMASS,
    "OTH": Fuel.OTHER,
    "UNK": Fuel.UNKNOWN,
    "PS": Fuel.STORAGE,
    "BAT": Fuel.STORAGE,
    "OES": Fuel.STORAGE,
    "UES": Fuel.STORAGE,
}


class Eia:
    """A Provider of observed values: what fuels generated is measured, their factors are assumed,
    so they are of kind ESTIMATED. Up to five zones a call; a history of nine days takes about
    three, one after the other.
    """

    wants = frozenset({Want.LATEST, Want.HISTORY})
    zones_per_call = 5
    publishes_every_s = HOUR_S

    def __init__(
        self,
        http: Http,
        places: Mapping[str, str],
        *,
        key: Secret,
        factors: Factors,
        name: str = "eia",
    ) -> None:
        """``places``: per grid zone its respondent, as ``CISO``. Raises ConfigError for ``factors``
        that are neither life-cycle nor direct.
        """
        self.name = name
        self._factors = FuelFactors.shipped(factors)
        self.signal = self._factors.signal
        self.grid_zones = frozenset(places)
        self._http = http
        self._places = dict(places)
        self._key = key

    async def fetch(
        self, grid_zones: Sequence[str], want: Want, now: float, hours: int
    ) -> Mapping[str, Reading | ProviderError]:
        """As in ``Provider``. At least two days are asked for, and at most 31."""
        known = [zone for zone in grid_zones if zone in self._places]
        answers: dict[str, Reading | ProviderError] = {
            zone: NoDataError(f"{self.name}: no respondent is configured for grid zone {zone}")
            for zone in grid_zones
            if zone not in self._places
        }
        if known:
            depth_h = _WINDOW_H
            if want is Want.HISTORY:
                depth_h = min(max(hours, _WINDOW_H), _LONGEST_HISTORY_H)
            reports = await self._reports({self._places[zone] for zone in known}, now, depth_h)
            answers.update((zone, self._reading(zone, reports, now)) for zone in known)
        if answers and not any(isinstance(found, Reading) for found in answers.values()):
            raise next(found for found in answers.values() if isinstance(found, ProviderError))
        return answers

    def _reading(
        self, grid_zone: str, reports: Mapping[str, _Report], now: float
    ) -> Reading | ProviderError:
        where = f"{self.name}, grid zone {grid_zone}"
        report = reports[self._places[grid_zone]]
        hours = report.hours(now)
        if not hours and report.reader.dropped:
            return report.reader.nothing("")
        try:
            values = observed(
                slots_of(hours, _FUELS, HOUR_S),
                self._factors,
                f"{self.name} (production-based)",
                lag_s=_LAG_S,
                reader=report.reader,
            )
        except ProviderError as error:
            return type(error)(f"{where}: {error}")
        return Reading(values, None, report.reader.dropped)

    async def _reports(
        self, respondents: Iterable[str], now: float, depth_h: int
    ) -> dict[str, _Report]:
        """What was answered, by respondent."""
        asked = {
            "api_key": self._key.reveal(),
            "frequency": "hourly",
            "data[0]": "value",
            "start": self._hour(now - depth_h * HOUR_S),
            "sort[0][column]": "period",
            "sort[0][direction]": "desc",
            "sort[1][column]": "respondent",
            "sort[1][direction]": "asc",
            "sort[2][column]": "fueltype",
            "sort[2][direction]": "asc",
            "length": str(_PAGE_ROWS),
        }
        ordered = sorted(respondents)
        asked.update({f"facets[respondent][{i}]": place for i, place in enumerate(ordered)})
        reports = {
            place: _Report(RowReader(f"{self.name}, respondent {place}", self._key))
            for place in ordered
        }
        for page in range(_MOST_PAGES):
            answer = await self._http.get_json(
                _PATH, params={**asked, "offset": str(page * _PAGE_ROWS)}
            )
            if self._take(answer, reports) < _PAGE_ROWS:
                return reports
        raise ProviderAnswerError(f"{self.name}: over {_MOST_PAGES} pages, without an end")

    def _take(self, answer: Any, reports: Mapping[str, _Report]) -> int:
        """Put one page into ``reports`` and tell its number of rows.

        A row may come twice, as rows move on to the next page when new ones come in between.
        """
        body = mapping(answer, self.name, "the answer")
        if "response" not in body:
            raise ProviderAnswerError(f"{self.name}: the answer has no response, but an error")
        response = mapping(body["response"], self.name, "response")
        frequency = response.get("frequency", "hourly")
        if frequency != "hourly":
            told = shown(frequency, self._key)
            raise ProviderAnswerError(f"{self.name}: answered {told} values, asked for hourly")
        found = listed(response.get("data"), self.name, "data")
        for row in found:
            place = row.get("respondent") if isinstance(row, dict) else None
            if isinstance(place, str) and place not in reports:
                told = shown(place, self._key)
                raise ProviderAnswerError(f"{self.name}: answered for {told}, which was not asked")
            unit = row.get("value-units") if isinstance(row, dict) else None
            if unit not in (None, "megawatthours"):
                told = shown(unit, self._key)
                raise ProviderAnswerError(f"{self.name}: values in {told}, not in megawatthours")
            # Whose hour a row without a respondent was, nobody knows.
            for report in [reports[place]] if isinstance(place, str) else reports.values():
                report.take(row)
        return len(found)

    def _hour(self, when: float) -> str:
        try:
            return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H")
        except (ValueError, OverflowError, OSError):
            raise NoDataError(f"{self.name}: {when:g} is no time to ask for") from None


class _Report:
    """What was answered for one respondent: MWh by end of hour (unix s) and fuel code.

    A mix that lacks a fuel can look clean, so a row that cannot be used costs the whole hour, and
    one that does not tell its hour costs each hour that lacks what it may have stated.
    """

    def __init__(self, reader: RowReader) -> None:
        self.reader = reader
        self._cells: list[tuple[tuple[float, str], float]] = []
        self._blank: set[tuple[float, str]] = set()
        # (hour, fuel) of the rows that were dropped, None where not even that is known.
        self._doubtful: set[tuple[float | None, str | None]] = set()

    def take(self, row: Any) -> None:
        """One row of the answer."""
        before = self.reader.kept
        for place, mwh in self.reader.each([row], _cell, "period"):
            if mwh is None:
                self._blank.add(place)
            else:
                self._cells.append((place, mwh))
        if self.reader.kept == before:
            self._doubtful.add(_place(row))

    def hours(self, now: float) -> dict[float, dict[str, float | None]]:
        """MWh by start of hour and fuel code, of the hours of which every row could be used."""
        cells = self.reader.once(self._cells)
        doubtful = self._doubtful | {place for place, _ in self._cells if place not in cells}
        hours: dict[float, dict[str, float | None]] = {}
        for end, fuel in sorted(self._blank | cells.keys()):
            if end <= now + SKEW_S:
                hours.setdefault(end, {})[fuel] = cells.get((end, fuel))
        every = {fuel for _, fuel in cells}
        lost_hours = {end for end, _ in doubtful if end is not None}
        lost_fuels = {fuel for end, fuel in doubtful if end is None and fuel is not None}
        if (None, None) in doubtful:
            lost_fuels |= every
        return {
            end - HOUR_S: mix
            for end, mix in hours.items()
            if end not in lost_hours and lost_fuels <= mix.keys()
        }


def _cell(row: Mapping[str, Any]) -> tuple[tuple[float, str], float | None]:
    fuel = row.get("fueltype")
    for name in ("respondent", "fueltype"):
        if not isinstance(row.get(name), str):
            raise ProviderRowError(f"no {name}")
    if row.get("value-units", "") is None:
        raise ProviderRowError("no unit")
    return (_end(row.get("period")), str(fuel)), _mwh(row.get("value"))


def _place(row: Any) -> tuple[float | None, str | None]:
    """The hour and fuel of a row, None where it does not tell."""
    if not isinstance(row, dict):
        return None, None
    fuel = row.get("fueltype")
    try:
        end = _end(row.get("period"))
    except ProviderRowError:
        return None, fuel if isinstance(fuel, str) else None
    return end, fuel if isinstance(fuel, str) else None


def _end(period: Any) -> float:
    """Unix s at which the hour ends."""
    if isinstance(period, str) and _PERIOD.fullmatch(period):
        try:
            return datetime.fromisoformat(f"{period}:00+00:00").timestamp()
        except ValueError:
            pass
    raise ProviderRowError("no hour in UTC", value=period)


def _mwh(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProviderRowError("no value in MWh", value=value)
    if not abs(value) <= MOST_MW:
        raise ProviderRowError("no hour's output in MWh", Fault.OUT_OF_RANGE, value)
    return float(value)


class EiaSchema(KeyedSchema):
    """EIA-930 by the EIA's API v2: US balancing authorities, from their generation by fuel."""

    wants = Eia.wants

    kind: Literal["eia"] = Field(description="selects this source")
    base_url: BaseUrl = Field(default=BASE_URL, description="of the API")
    limits: list[LimitSchema] = call_limits(1000, HOUR_S)

    def build(self, context: ProviderContext) -> Eia:
        """As in ``ProviderSchema``."""
        return Eia(
            context.http(self.base_url, self.limits),
            context.zones,
            key=context.secret("key"),
            factors=context.signal.factors,
            name=context.name,
        )
