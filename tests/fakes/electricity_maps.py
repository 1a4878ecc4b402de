"""Electricity Maps v3 and v4: zones by name, coordinates or data centre; estimates that settle.

Shapes after the official SDK's models and recorded answers of v4. What an unknown token and a spent
limit are told is not documented; the rest of the refusals are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from aiohttp import web

from tests.fakes.faults import What
from tests.fakes.serving import Ask, Fake, Handler, Refusal, iso, parse_time
from tests.fakes.world import DAY, HOUR, World, floor_to, slots

STEP_S: Final = {"5_minutes": 300.0, "15_minutes": 900.0, "hourly": HOUR}
HORIZONS: Final = ("6", "24", "48", "72")
ENDPOINTS: Final = ("latest", "history", "past", "past-range", "forecast")
# What is counted without the flows between zones is lower or higher; here always this much lower.
UNTRACED: Final = 0.8


class FakeElectricityMaps(Fake):
    """``keys``: token -> the zones that its plan includes, None for all of them.

    ``places``: (lat, lon) of zones, for a lookup by coordinates. ``data_centers``: (provider,
    region) -> zone. ``caller_zone``: where the caller's IP address is taken to be.
    """

    name: ClassVar[str] = "electricity_maps"

    def __init__(
        self,
        world: World,
        zones: Iterable[str],
        *,
        keys: Mapping[str, frozenset[str] | None] | None = None,
        places: Mapping[str, tuple[float, float]] | None = None,
        data_centers: Mapping[tuple[str, str], str] | None = None,
        caller_zone: str = "FR",
        **more: Any,
    ) -> None:
        super().__init__(world, {zone: zone for zone in zones}, **more)
        self.keys = dict(keys if keys is not None else {"em-key": None})
        self.places = dict(places or {})
        self.data_centers = dict(data_centers or {})
        self.caller_zone = caller_zone

    def routes(self) -> Iterable[tuple[str, str, Handler]]:
        base = "/{version:v3|v4}/carbon-intensity"
        yield f"{base}/latest", "latest", self.latest
        yield f"{base}/history", "history", self.history
        yield f"{base}/past", "past", self.past
        yield f"{base}/past-range", "past-range", self.past_range
        yield f"{base}/forecast", "forecast", self.forecast
        yield "/{version:v3|v4}/home-assistant", "home-assistant", self.home_assistant
        yield "/{version:v3|v4}/zones", "zones", self.all_zones

    def zone_of(self, request: web.Request) -> str:
        query = request.query
        # The official SDK sends zoneKey, everybody else zone.
        if zone := query.get("zone") or query.get("zoneKey"):
            return zone
        if "lat" in query and "lon" in query:
            lat, lon = float(query["lat"]), float(query["lon"])
            return min(self.places, key=lambda z: math.dist(self.places[z], (lat, lon)), default="")
        place = query.get("dataCenterProvider", ""), query.get("dataCenterRegion", "")
        return self.data_centers.get(place, "")

    def key_of(self, request: web.Request) -> str:
        return request.headers.get("auth-token", "")

    def latest(self, ask: Ask) -> Any:
        zone, step = self._admit(ask), self._step(ask)
        start = floor_to(ask.now, step)
        if ask.query("disableEstimations") == "true":
            while not self.world.settled(zone, start, ask.now):
                start -= step
        return {"zone": zone, **self._row(ask, zone, start, step)}

    def history(self, ask: Ask) -> Any:
        zone, step = self._admit(ask), self._step(ask)
        end = floor_to(ask.now, step) + step
        rows = self._rows(ask, zone, slots(end - DAY, end, step), step)
        return {"zone": zone, "history": rows, "temporalGranularity": self._granularity(ask)}

    def past(self, ask: Ask) -> Any:
        zone, step = self._admit(ask), self._step(ask)
        start = floor_to(self._time(ask, "datetime"), step)
        return {"zone": zone, **self._row(ask, zone, start, step)}

    def past_range(self, ask: Ask) -> Any:
        zone, step = self._admit(ask), self._step(ask)
        start, end = self._time(ask, "start"), self._time(ask, "end")
        if end - start > 10 * DAY:
            raise bad_request("The requested time range is too large: at most 10 days if hourly")
        rows = self._rows(ask, zone, slots(start, min(end, ask.now), step), step)
        return {"zone": zone, "data": rows, "temporalGranularity": self._granularity(ask)}

    def forecast(self, ask: Ask) -> Any:
        """Life-cycle, whatever was asked: the SDK knows no choice of factors here."""
        zone, step = self._admit(ask), self._step(ask)
        horizon = ask.query("horizonHours", "24")
        if horizon not in HORIZONS:
            raise bad_request(f'Invalid parameter "horizonHours": expected one of {HORIZONS}')
        short = self.on(What.SHORT, ask)
        hours = short.hours if short else int(horizon)
        first, issued = floor_to(ask.now, step), floor_to(ask.now, HOUR)
        rows = [
            {
                "carbonIntensity": self._blank(ask, self.world.forecast(zone, start, issued, step)),
                "datetime": self._stamp(ask, start),
            }
            for start in slots(first, first + hours * HOUR + step, step)
        ]
        return {
            "zone": zone,
            "forecast": [] if self.on(What.NO_ROWS, ask) else rows,
            "updatedAt": self._stamp(ask, issued),
            "temporalGranularity": self._granularity(ask),
        }

    def home_assistant(self, ask: Ask) -> Any:
        """What Home Assistant's integration asks: latest in other words."""
        if self.on(What.NO_DATA, ask):
            return {"status": "no-data"}
        zone = self._admit(ask)
        value = self.world.published(zone, floor_to(ask.now, HOUR), ask.now)
        return {
            "status": "ok",
            "countryCode": zone,
            "data": {"carbonIntensity": value, "fossilFuelPercentage": 40.5},
            "units": {"carbonIntensity": "gCO2eq/kWh"},
        }

    def all_zones(self, ask: Ask) -> Any:
        """Open to all; a token adds what it may ask."""
        plan = self.keys.get(self.key_of(ask.request), frozenset())
        listed: dict[str, dict[str, Any]] = {}
        for zone in self.zones:
            listed[zone] = {"zoneName": f"Zone {zone}", "countryName": "Nowhere"}
            if plan is None or zone in plan:
                listed[zone]["access"] = [f"carbon-intensity/{name}" for name in ENDPOINTS]
        return listed

    def too_many(self) -> Any:
        return {"error": "Too many requests"}

    def _admit(self, ask: Ask) -> str:
        """The zone to answer for, after all that may be refused."""
        key = self.key_of(ask.request)
        if key not in self.keys or self.on(What.KEY_REVOKED, ask):
            raise Refusal(401, {"error": "Invalid auth-token"})
        zone = ask.zone
        if not zone:
            if ask.query("disableCallerLookup") == "true":
                raise bad_request("No zone could be resolved from the request")
            zone = self.caller_zone
        elif zone not in self.zones:
            raise bad_request(f"Zone '{zone}' does not exist.")
        plan = self.keys[key]
        if self.on(What.OUTSIDE_PLAN, ask) or (plan is not None and zone not in plan):
            raise Refusal(
                401,
                {
                    "error": f"Request unauthorized for zoneKey={zone},requestType={ask.endpoint},"
                    "dataType=carbon-intensity.",
                    "message": "You do not have access to this specific endpoint for this specific "
                    "zone. Please visit https://help.electricitymaps.com if this is a mistake",
                },
            )
        if self.on(What.NO_DATA, ask):
            raise Refusal(404, {"status": "error", "message": f'No recent data for zone "{zone}"'})
        return self.caller_zone if self.on(What.WRONG_ZONE, ask) else zone

    def _rows(self, ask: Ask, zone: str, starts: list[float], step: float) -> list[dict[str, Any]]:
        if self.on(What.NO_ROWS, ask):
            return []
        rows = [self._row(ask, zone, start, step) for start in starts]
        # The official SDK asks for the zone in every row.
        return [{"zone": zone, **row} for row in rows]

    def _row(self, ask: Ask, zone: str, start: float, step: float) -> dict[str, Any]:
        factors = self._factors(ask)
        settled = self.world.settled(zone, start, ask.now)
        value = self.world.published(zone, start, ask.now, step, factors)
        settle_s = self.world.zone(zone).settle_s
        updated = start + settle_s if settled else floor_to(ask.now, 300.0)
        row: dict[str, Any] = {
            "carbonIntensity": value,
            "datetime": self._stamp(ask, start),
            "updatedAt": self._stamp(ask, updated),
            "createdAt": self._stamp(ask, start - 3 * DAY),
            "emissionFactorType": factors,
            "isEstimated": not settled,
            "estimationMethod": None if settled else "FORECASTS_HIERARCHY",
            "temporalGranularity": self._granularity(ask),
        }
        if ask.path("version") == "v4":
            traced = ask.query("flowTraced", "true") == "true"
            row["flowTraced"] = traced
            row["carbonIntensity"] = value if traced else round(value * UNTRACED)
        row["carbonIntensity"] = self._blank(ask, row["carbonIntensity"])
        return row

    def _blank(self, ask: Ask, value: float) -> int | None:
        return None if self.on(What.NULL, ask) else int(value)

    def _stamp(self, ask: Ask, when: float) -> str:
        text = iso(when, "milliseconds")
        return text.removesuffix("Z") if self.on(What.NAIVE_TIME, ask) else text

    def _factors(self, ask: Ask) -> str:
        asked = ask.query("emissionFactorType", "lifecycle")
        if asked not in ("lifecycle", "direct"):
            raise bad_request('Invalid parameter "emissionFactorType"')
        if self.on(What.OTHER_FACTORS, ask):
            return "direct" if asked == "lifecycle" else "lifecycle"
        return asked

    def _granularity(self, ask: Ask) -> str:
        return ask.query("temporalGranularity", "hourly")

    def _step(self, ask: Ask) -> float:
        if (asked := self._granularity(ask)) not in STEP_S:
            raise bad_request(f'Invalid parameter "temporalGranularity": {asked}')
        return STEP_S[asked]

    def _time(self, ask: Ask, name: str) -> float:
        try:
            return parse_time(ask.query(name))
        except ValueError:
            raise bad_request(f'Missing or invalid date parameter "{name}"') from None


def bad_request(message: str) -> Refusal:
    return Refusal(400, {"status": "error", "message": message})
