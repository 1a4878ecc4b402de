"""The GB Carbon Intensity API: half-hours, national and regional, without a key.

Shapes after two recorded answers and the uk-energy client. Stamps have no seconds; ``actual``
exists nationally only, null until a half-hour is over; one region over a window comes as an object,
without a window as a list.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from aiohttp import web

from tests.fakes.faults import What
from tests.fakes.serving import Ask, Fake, Handler, Refusal, iso, parse_time
from tests.fakes.world import DAY, HOUR, World

STEP_S: Final = 1800.0
NATIONAL: Final = "GB"
LONDON: Final = ZoneInfo("Europe/London")
SPANS: Final = {"fw24h": DAY, "fw48h": 2 * DAY, "pt24h": -DAY}
# What the API itself publishes as its factors, gCO2/kWh; only burnt fuel counts.
FACTORS: Final = {
    "Biomass": 120, "Coal": 937, "Gas (Combined Cycle)": 394, "Nuclear": 0, "Solar": 0, "Wind": 0,
}  # fmt: skip
INDEX: Final = ((50, "very low"), (120, "low"), (200, "moderate"), (280, "high"))
REGIONS: Final = {
    3: ("Electricity North West", "North West England"),
    13: ("UKPN London", "London"),
    16: ("Scotland", "Scotland"),
}
POSTCODES: Final = {"M1": 3, "SW1A": 13, "EH1": 16}


class FakeGreatBritain(Fake):
    """``actual_lag_s``: from a half-hour's end until its actual value is there.

    ``region_as_list``: one region over a window comes as a list after all. Zones are ``GB`` and the
    numbers of ``REGIONS``; the world's zones are ``GB`` and ``GB-13``.
    """

    name: ClassVar[str] = "gb"

    def __init__(
        self,
        world: World,
        *,
        actual_lag_s: float = 0.0,
        region_as_list: bool = False,
        **more: Any,
    ) -> None:
        zones = {NATIONAL: "GB"} | {str(region): f"GB-{region}" for region in REGIONS}
        super().__init__(world, zones, **more)
        self.actual_lag_s = actual_lag_s
        self.region_as_list = region_as_list

    def routes(self) -> Iterable[tuple[str, str, Handler]]:
        yield "/intensity", "intensity", self.current
        yield "/intensity/factors", "factors", lambda ask: {"data": [FACTORS]}
        yield "/intensity/date/{date}", "date", self.of_day
        yield "/intensity/date/{date}/{period}", "date", self.of_day
        yield "/intensity/{from}", "intensity", self.at
        yield "/intensity/{from}/{to}", "intensity", self.between
        yield "/regional", "regional", self.all_regions
        for way in ("regionid/{region}", "postcode/{postcode}"):
            yield f"/regional/{way}", "regional", self.region_now
            yield f"/regional/intensity/{{from}}/{{to}}/{way}", "regional", self.region_between
        yield "/regional/intensity/{from}/{to}", "regional", self.all_regions

    def zone_of(self, request: web.Request) -> str:
        given = request.match_info
        if postcode := given.get("postcode"):
            return str(POSTCODES.get(postcode, ""))
        return given.get("region") or (NATIONAL if "/regional" not in request.path else "")

    def unknown_path(self, ask: Ask) -> Any:
        raise refusal(404, "The requested resource could not be found")

    def too_many(self) -> Any:
        return {"error": {"code": "429 Too Many Requests", "message": "Slow down"}}

    def current(self, ask: Ask) -> Any:
        return self._listed(ask, [math.floor(ask.now / STEP_S)])

    def at(self, ask: Ask) -> Any:
        return self._listed(ask, [_containing(_time(ask, "from"))])

    def between(self, ask: Ask) -> Any:
        return self._listed(ask, self._window(ask))

    def of_day(self, ask: Ask) -> Any:
        """A day of Great Britain's own time: 46, 48 or 50 half-hours from local midnight."""
        try:
            day = date.fromisoformat(ask.path("date"))
            begin = datetime(day.year, day.month, day.day, tzinfo=LONDON).timestamp()
            after = day + timedelta(days=1)
            end = datetime(after.year, after.month, after.day, tzinfo=LONDON).timestamp()
            whole = list(range(round(begin / STEP_S), round(end / STEP_S)))
            period = ask.path("period")
            chosen = [whole[int(period) - 1]] if period else whole
        except (ValueError, IndexError):
            raise refusal(400, "Please enter a valid date in ISO8601 format YYYY-MM-DD") from None
        return self._listed(ask, chosen)

    def all_regions(self, ask: Ask) -> Any:
        self._refuse(ask)
        indexes = self._window(ask) if ask.path("from") else [math.floor(ask.now / STEP_S)]
        data = [
            {
                **_ends(index),
                "regions": [self._region(r) | self._slot(ask, r, index) for r in REGIONS],
            }
            for index in indexes
        ]
        return {"data": [] if self.on(What.NO_ROWS, ask) else data}

    def region_now(self, ask: Ask) -> Any:
        return {"data": [self._series(ask, [math.floor(ask.now / STEP_S)])]}

    def region_between(self, ask: Ask) -> Any:
        series = self._series(ask, self._window(ask))
        return {"data": [series] if self.region_as_list else series}

    def _series(self, ask: Ask, indexes: list[int]) -> dict[str, Any]:
        self._refuse(ask)
        if ask.zone not in self.zones or ask.zone == NATIONAL:
            raise refusal(400, "Please enter a valid region ID i.e. 1-17 or a valid postcode")
        region = int(ask.zone)
        if self.on(What.WRONG_ZONE, ask):
            region = next(other for other in REGIONS if other != region)
        data = [_ends(index) | self._slot(ask, region, index) for index in indexes]
        postcode = {"postcode": ask.path("postcode")} if ask.path("postcode") else {}
        empty = self.on(What.NO_ROWS, ask)
        return {**self._region(region), **postcode, "data": [] if empty else data}

    def _listed(self, ask: Ask, indexes: list[int]) -> Any:
        self._refuse(ask)
        if self.on(What.NO_ROWS, ask):
            return {"data": []}
        return {"data": [_ends(index) | self._national(ask, index) for index in indexes]}

    def _national(self, ask: Ask, index: int) -> dict[str, Any]:
        start = index * STEP_S
        forecast = self._forecast(ask, "GB", start)
        over = ask.now >= start + STEP_S + self.actual_lag_s
        value = int(self.world.published("GB", start, ask.now, STEP_S, "direct"))
        blank = self.on(What.NULL, ask)
        # An hour's old null is an outage of the measurement; the forecast stays.
        actual = value if over and not blank else None
        shown = {"forecast": forecast, "actual": actual, "index": _index(actual or forecast)}
        return {"intensity": shown}

    def _slot(self, ask: Ask, region: int, index: int) -> dict[str, Any]:
        value = self._forecast(ask, f"GB-{region}", index * STEP_S)
        mix = self.world.mix_mw(f"GB-{region}", index * STEP_S, STEP_S)
        total = sum(mix.values())
        shares = [{"fuel": fuel, "perc": round(100 * mw / total, 1)} for fuel, mw in mix.items()]
        forecast = None if self.on(What.NULL, ask) else value
        return {
            "intensity": {"forecast": forecast, "index": _index(value)},
            "generationmix": [{"fuel": "biomass", "perc": 0}, *shares],
        }

    def _forecast(self, ask: Ask, zone: str, start: float) -> int:
        # What was forecast for a half-hour that has begun no longer changes.
        issued = min(start, math.floor(ask.now / STEP_S) * STEP_S)
        return int(self.world.forecast(zone, start, issued, STEP_S, "direct"))

    def _region(self, region: int) -> dict[str, Any]:
        operator, name = REGIONS[region]
        return {"regionid": region, "dnoregion": operator, "shortname": name}

    def _window(self, ask: Ask) -> list[int]:
        start, to = _time(ask, "from"), ask.path("to")
        if to not in SPANS:
            end = _time(ask, "to")
            if not 0 < end - start <= 14 * DAY:
                raise refusal(400, "Please enter a valid period of at most 14 days")
            return list(range(_containing(start), _containing(end) + 1))
        first = _containing(start)
        short = self.on(What.SHORT, ask)
        seconds = short.hours * HOUR if short and SPANS[to] > 0 else SPANS[to]
        count = round(abs(seconds) / STEP_S)
        return list(
            range(first, first + count) if seconds > 0 else range(first - count + 1, first + 1)
        )

    def _refuse(self, ask: Ask) -> None:
        if self.on(What.NO_DATA, ask):
            raise refusal(404, "There is no data for the requested period")


def refusal(status: int, message: str) -> Refusal:
    phrase = {400: "Bad Request", 404: "Not Found"}[status]
    return Refusal(status, {"error": {"code": f"{status} {phrase}", "message": message}})


def _containing(when: float) -> int:
    """The half-hour that holds ``when``; at a boundary the API gives the one that ends there."""
    return math.ceil(when / STEP_S) - 1


def _ends(index: int) -> dict[str, Any]:
    stamps = iso(index * STEP_S, "minutes"), iso((index + 1) * STEP_S, "minutes")
    return {"from": stamps[0], "to": stamps[1]}


def _time(ask: Ask, name: str) -> float:
    try:
        return parse_time(ask.path(name))
    except ValueError:
        raise refusal(
            400, "Please enter a valid date in ISO8601 format YYYY-MM-DDThh:mmZ"
        ) from None


def _index(value: float) -> str:
    return next((name for limit, name in INDEX if value < limit), "very high")
