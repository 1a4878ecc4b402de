"""ENTSO-E's transparency platform: intensity of European bidding zones, from generation by type.

Actual generation per production type (document A75, process A16) through entsoe-py, an optional
extra: ``pip install 'carbon-router[entsoe]'``. Production-based, hourly means, with the factors of
``router/data/fuel_factors.csv``. Observed values only: what is published ahead (A69 wind and sun,
A71 the total) does not say what will generate the rest, and so is no forecast of intensity.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Literal
from xml.parsers import expat

from pydantic import Field

from router.carbon.providers.answers import fetch_each
from router.carbon.providers.budget import CallAllowance, CallBudget
from router.carbon.providers.entsoe_points import mark_lost
from router.carbon.providers.entsoe_transport import Transport
from router.carbon.providers.fuel_mix import MOST_MW, Fuel, FuelFactors, observed, slots_of
from router.carbon.providers.provider import Reading, Want
from router.carbon.providers.rows import RowReader
from router.carbon.providers.schema import KeyedSchema, ProviderContext
from router.config.fields import BaseUrl
from router.config.live import LimitSchema, call_limits
from router.contract import Clock
from router.errors import (
    CallBudgetError,
    ConfigError,
    NoDataError,
    ProviderAnswerError,
    ProviderError,
)
from router.extras import need
from router.model import Factors
from router.trust.secrets import Secret, shown
from router.units import HOUR_S

BASE_URL: Final = "https://web-api.tp.entsoe.eu/api"

_WINDOW_H: Final = 30
_LONGEST_HISTORY_H: Final = 31 * 24
# Due an hour after the hour (Regulation (EU) 543/2013), in practice some later.
_LAG_S: Final = 3 * HOUR_S
_UNIT = re.compile(r"<quantity_Measure_Unit\.name[^>]*>\s*([^<\s]*)", re.ASCII)
_DOMAIN = re.compile(r"<(?:in|out)BiddingZone_Domain\.mRID[^>]*>\s*([^<\s]+)\s*</", re.ASCII)

# Names of entsoe-py for the codes B01 to B25. Peat and oil shale burn at least as dirty as coal.
_FUELS: Final = {
    "Biomass": Fuel.BIOMASS,
    "Fossil Brown coal/Lignite": Fuel.COAL,
    "Fossil Coal-derived gas": Fuel.GAS,
    "Fossil Gas": Fuel.GAS,
    "Fossil Hard coal": Fuel.COAL,
    "Fossil Oil": Fuel.OIL,
    "Fossil Oil shale": Fuel.COAL,
    "Fossil Peat": Fuel.COAL,
    "Geothermal": Fuel.GEOTHERMAL,
    "Hydro Pumped Storage": Fuel.STORAGE,
    "Hydro Run-of-river and pondage": Fuel.HYDRO,
    "Hydro Water Reservoir": Fuel.HYDRO,
    "Marine": Fuel.MARINE,
    "Nuclear": Fuel.NUCLEAR,
    "Other renewable": Fuel.OTHER,
    "Solar": Fuel.SOLAR,
    "Waste": Fuel.OTHER,
    "Wind Offshore": Fuel.WIND,
    "Wind Onshore": Fuel.WIND,
    "Other": Fuel.UNKNOWN,
    "Energy storage": Fuel.STORAGE,
}


class Entsoe:
    """A Provider of observed values, of kind ESTIMATED as output is measured and factors assumed.

    One call a zone and fetch, in a thread: a fetch that is cancelled leaves its call to end by
    itself, within about ``timeout_s``.
    """

    wants = frozenset({Want.LATEST, Want.HISTORY})
    zones_per_call = 1
    publishes_every_s = HOUR_S

    def __init__(
        self,
        places: Mapping[str, str],
        *,
        key: Secret,
        factors: Factors,
        clock: Clock,
        budget: CallAllowance | None = None,
        timeout_s: float = 10.0,
        base_url: str = BASE_URL,
        name: str = "entsoe",
    ) -> None:
        """``places``: per grid zone the name of its Area in entsoe-py, as ``DE_LU`` or ``SE_3``.

        ``budget``: limits on calls, on the monotonic clock; ENTSO-E allows 400 a minute.
        Raises ConfigError when entsoe-py is not installed, for an area that it does not know, and
        for ``factors`` that are neither life-cycle nor direct.
        """
        self.name = name
        self._factors = FuelFactors.shipped(factors)
        self.signal = self._factors.signal
        self.grid_zones = frozenset(places)
        self._areas = _areas(places, f"carbon source {name}")
        self._budget: CallAllowance = budget or CallBudget()
        self._clock = clock
        self._transport = Transport(base_url, key, timeout_s, clock, name)

    async def fetch(
        self, grid_zones: Sequence[str], want: Want, now: float, hours: int
    ) -> Mapping[str, Reading | ProviderError]:
        """As in ``Provider``. At least 30 hours are asked for, and at most 31 days."""
        depth_h = _WINDOW_H
        if want is Want.HISTORY:
            depth_h = min(max(hours, _WINDOW_H), _LONGEST_HISTORY_H)
        return await fetch_each(grid_zones, lambda zone: self._read(zone, now, depth_h))

    async def _read(self, grid_zone: str, now: float, depth_h: int) -> Reading:
        where = f"{self.name}, grid zone {grid_zone}"
        area = self._areas.get(grid_zone)
        if area is None:
            raise NoDataError(f"{where}: no area is configured for it")
        wait_s = await self._budget.spend(self._clock.monotonic())
        if wait_s > 0.0:
            problem = f"{where}: not asked: the limit of calls is spent for {wait_s:.0f} s"
            raise CallBudgetError(problem, wait_s)
        reader = RowReader(where)
        reports = await asyncio.to_thread(self._reports, area, now, depth_h, reader)
        if not reports and reader.dropped:
            raise reader.nothing("")
        slots = slots_of({s: r for s, r in reports.items() if s < now}, _FUELS, HOUR_S)
        try:
            values = observed(
                slots,
                self._factors,
                f"{self.name} (production-based)",
                lag_s=_LAG_S,
                reader=reader,
            )
        except ProviderError as error:
            raise type(error)(f"{where}: {error}") from None
        return Reading(values, None, reader.dropped)

    def _reports(
        self, area: Any, now: float, depth_h: int, reader: RowReader
    ) -> dict[float, dict[str, float | None]]:
        """Mean MW by start of hour and type; runs in a thread. Every failure is a ProviderError."""
        where = reader.where
        entsoe, pandas = import_module("entsoe"), import_module("pandas")
        failure: ProviderError
        try:
            end = pandas.Timestamp(now // HOUR_S * HOUR_S, unit="s", tz="UTC")
            start = end - pandas.Timedelta(hours=depth_h)
            client = entsoe.EntsoeRawClient(
                api_key="withheld", session=self._transport, retry_count=1, retry_delay=0
            )
            text = client.query_generation(area, start=start, end=end)
            _verify_area(text, area.code, where)
            _verify_whole(text, where)
            _verify_unit(text, where)
            return _hourly(entsoe.parsers.parse_generation(mark_lost(text, reader)))
        except ProviderError as error:
            failure = error
        except entsoe.exceptions.NoMatchingDataError:
            failure = NoDataError(f"{where}: no matching data found")
        except Exception as error:
            # entsoe-py and pandas raise whatever an unexpected document makes them stumble over.
            failure = ProviderAnswerError(f"{where}: cannot be read ({type(error).__name__})")
        # Raised outside of the handler: causes may tell what was asked, and the key.
        raise failure


def _areas(places: Mapping[str, str], file: str) -> dict[str, Any]:
    """entsoe-py's Area of each grid zone. Raises ConfigError."""
    with need("entsoe", "entsoe", file=file, key="kind"):
        area = import_module("entsoe").Area
    unknown = [
        (f"zones.{zone}", f"{place!r} is no Area of entsoe-py; write one such as DE_LU or SE_3")
        for zone, place in places.items()
        if not area.has_code(place)
    ]
    if unknown:
        raise ConfigError(file, unknown)
    return {zone: area[place] for zone, place in places.items()}


def _verify_area(text: str, code: str, where: str) -> None:
    answered = set(_DOMAIN.findall(text))
    if not answered:
        raise ProviderAnswerError(f"{where}: the answer does not say for which area it is")
    if wrong := answered - {code}:
        raise ProviderAnswerError(f"{where}: answered for {shown(min(wrong))}, asked for {code}")
    # entsoe-py drops the name of a metric that is alone, and this is what stations consume.
    if "<inBiddingZone_Domain.mRID" not in text:
        raise NoDataError(f"{where}: consumption of storage only, no generation")


def _verify_unit(text: str, where: str) -> None:
    if wrong := set(_UNIT.findall(text)) - {"MAW"}:
        raise ProviderAnswerError(f"{where}: quantities in {shown(min(wrong))}, not in MAW")


def _verify_whole(text: str, where: str) -> None:
    """entsoe-py reads with an HTML parser, which takes half a document for one with less fuels."""
    try:
        expat.ParserCreate().Parse(text, True)
    except expat.ExpatError:
        raise ProviderAnswerError(f"{where}: the answer is no whole XML document") from None


def _hourly(frame: Any) -> dict[float, dict[str, float | None]]:
    """Mean output by start of hour (unix s) and type, None where any part of the hour is missing.

    ``frame``: MW by time and (type, metric), or type alone. Types may come in quarter-hours and
    hours side by side.
    """
    if frame.index.tz is None or frame.columns.empty:
        raise ProviderAnswerError("no generation by type")
    reports: dict[float, dict[str, float | None]] = {}
    hours = frame.index.floor("h")
    # A mix that lacks a fuel can look clean: a lost point costs its hour.
    lost: set[float] = set()
    for column in frame.columns:
        kind, metric = (column, "Actual Aggregated") if isinstance(column, str) else column
        if metric != "Actual Aggregated":
            continue
        lost.update(hour.timestamp() for hour in hours[frame[column].abs() > MOST_MW])
        parts = frame[column].groupby(hours)
        known = parts.count()
        for hour, mean, count in zip(known.index, parts.mean(), known, strict=True):
            whole = 0 < count == known.max()
            reports.setdefault(hour.timestamp(), {})[kind] = float(mean) if whole else None
    return {hour: report for hour, report in reports.items() if hour not in lost}


class EntsoeSchema(KeyedSchema):
    """ENTSO-E's transparency platform: European bidding zones, from their generation by fuel."""

    wants = Entsoe.wants
    own_http = True

    kind: Literal["entsoe"] = Field(description="selects this source")
    base_url: BaseUrl = Field(default=BASE_URL, description="of the API")
    limits: list[LimitSchema] = call_limits(300, 60.0)

    def build(self, context: ProviderContext) -> Entsoe:
        """As in ``ProviderSchema``."""
        return Entsoe(
            context.zones,
            key=context.secret("key"),
            factors=context.signal.factors,
            clock=context.clock,
            budget=context.budget(self.limits),
            timeout_s=context.timeout_s,
            base_url=self.base_url,
            name=context.name,
        )
