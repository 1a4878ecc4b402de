"""WattTime v3: a login that lasts thirty minutes, five-minute rates in pounds per MWh.

Shapes after the official SDK and WattTime's documentation. Texts of refusals are not documented.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from aiohttp import web

from tests.fakes.faults import Limit, What
from tests.fakes.serving import Ask, Fake, Handler, Refusal, iso, parse_time
from tests.fakes.world import DAY, HOUR, World, floor_to, slots

STEP_S: Final = 300.0
TOKEN_S: Final = 1800.0
LIMITS: Final = (Limit(3000, 300.0), Limit(100, 300.0, "login"))
SIGNALS: Final = ("co2_moer", "co2_aoer", "health_damage")
MODEL: Final = {"date": "2023-03-01", "type": "binned_regression"}


class FakeWattTime(Fake):
    """``users``: name -> password. ``plan``: regions that may be asked, None for all of them.

    ``places``: (lat, lon) of regions. ``imputed_s``: rows younger than this are marked imputed.
    """

    name: ClassVar[str] = "watttime"

    def __init__(
        self,
        world: World,
        zones: Iterable[str],
        *,
        users: Mapping[str, str] | None = None,
        plan: frozenset[str] | None = None,
        places: Mapping[str, tuple[float, float]] | None = None,
        imputed_s: float = 0.0,
        **more: Any,
    ) -> None:
        super().__init__(world, {zone: zone for zone in zones}, limits=LIMITS, **more)
        self.users = dict(users if users is not None else {"wt-user": "wt-password"})
        self.plan = plan
        self.places = dict(places or {})
        self.imputed_s = imputed_s
        self.tokens: dict[str, float] = {}

    def routes(self) -> Iterable[tuple[str, str, Handler]]:
        yield "/login", "login", self.login
        yield "/v3/region-from-loc", "region-from-loc", self.region_from_loc
        yield "/v3/forecast", "forecast", self.forecast
        yield "/v3/signal-index", "signal-index", self.signal_index
        yield "/v3/historical", "historical", self.historical
        yield "/v3/forecast/historical", "forecast/historical", self.past_forecasts
        yield "/v3/my-access", "my-access", self.my_access

    def zone_of(self, request: web.Request) -> str:
        return request.query.get("region", "")

    def key_of(self, request: web.Request) -> str:
        return request.headers.get("Authorization", "")

    def login(self, ask: Ask) -> Any:
        scheme, _, encoded = self.key_of(ask.request).partition(" ")
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = password = ""
        known = scheme == "Basic" and user in self.users and self.users[user] == password
        if not known or self.on(What.KEY_REVOKED, ask):
            raise Refusal(401, {"message": "Invalid username or password"})
        token = f"token-{len(self.tokens)}-of-{user}"
        self.tokens[token] = self.world.now() + TOKEN_S
        return {"token": token}

    def region_from_loc(self, ask: Ask) -> Any:
        self._authenticate(ask)
        try:
            here = float(ask.query("latitude")), float(ask.query("longitude"))
        except ValueError:
            raise Refusal(400, {"message": "latitude and longitude are required"}) from None
        near = [zone for zone, place in self.places.items() if math.dist(place, here) < 5.0]
        if not near or self.on(What.NO_DATA, ask):
            raise Refusal(404, {"message": "Coordinates not found within a region"})
        region = min(near, key=lambda zone: math.dist(self.places[zone], here))
        if self.on(What.WRONG_ZONE, ask):
            region = self.other_zone(region)
        return {
            "region": region,
            "region_full_name": f"Region {region}",
            "signal_type": ask.query("signal_type"),
        }

    def forecast(self, ask: Ask) -> Any:
        region = self._admit(ask)
        try:
            horizon = int(ask.query("horizon_hours", "24"))
        except ValueError:
            horizon = -1
        if not 0 <= horizon <= 72:
            raise Refusal(422, {"message": "horizon_hours must be between 0 and 72"})
        short = self.on(What.SHORT, ask)
        hours = min(short.hours, horizon) if short else horizon
        issued = floor_to(ask.now, STEP_S)
        rows = self._forecast_rows(ask, region, issued, max(1, round(hours * HOUR / STEP_S)))
        return {"data": rows, "meta": self._meta(ask, region, issued)}

    def signal_index(self, ask: Ask) -> Any:
        """A percentile of the coming day, 0 to 100: no rate at all."""
        region = self._admit(ask)
        now = floor_to(ask.now, STEP_S)
        row = {"point_time": iso(now), "value": self._percentile(region, now)}
        return {"data": [row], "meta": self._meta(ask, region, now) | {"units": "percentile"}}

    def historical(self, ask: Ask) -> Any:
        region = self._admit(ask)
        start, end = self._span(ask, 32 * DAY)
        lag_s = self.world.zone(self.world_zone(region)).lag_s
        last = min(end + STEP_S, ask.now - STEP_S - lag_s + 1.0)
        rows = []
        for when in slots(start, last, STEP_S):
            row = {"point_time": self._stamp(ask, when), "value": self._value(ask, region, when)}
            if ask.query("include_imputed_marker") == "true":
                row["imputed_data_used"] = ask.now - when < self.imputed_s
                row["last_updated"] = iso(when + STEP_S + lag_s)
            rows.append(row)
        rows = [] if self.on(What.NO_ROWS, ask) else rows
        # Without a generated_at: these are not of one issue.
        meta = self._meta(ask, region, ask.now)
        return {"data": rows, "meta": {k: v for k, v in meta.items() if "generated_at" not in k}}

    def past_forecasts(self, ask: Ask) -> Any:
        region = self._admit(ask)
        start, end = self._span(ask, DAY)
        count = round(int(ask.query("horizon_hours", "24")) * HOUR / STEP_S)
        issues = [
            {"generated_at": iso(at), "forecast": self._forecast_rows(ask, region, at, count)}
            for at in slots(start, min(end + STEP_S, ask.now), STEP_S)
        ]
        return {"data": issues, "meta": self._meta(ask, region, start)}

    def my_access(self, ask: Ask) -> Any:
        self._authenticate(ask)
        model = MODEL | {
            "data_start": "2021-01-01", "train_start": "2021-01-01", "train_end": "2022-12-31",
        }  # fmt: skip
        endpoints = [
            {"endpoint": name, "models": [model]}
            for name in ("v3/forecast", "v3/historical", "v3/signal-index")
        ]
        regions = [
            {"region": zone, "region_full_name": f"Region {zone}", "endpoints": endpoints}
            for zone in self.zones
            if self.plan is None or zone in self.plan
        ]
        return {"signal_types": [{"signal_type": "co2_moer", "regions": regions}]}

    def too_many(self) -> Any:
        return {"message": "Rate limit exceeded"}

    def _authenticate(self, ask: Ask) -> None:
        scheme, _, token = self.key_of(ask.request).partition(" ")
        alive = scheme == "Bearer" and self.tokens.get(token, -math.inf) > self.world.now()
        if not alive or self.on(What.KEY_REVOKED, ask):
            raise Refusal(401, {"message": "Invalid or expired token"})

    def _admit(self, ask: Ask) -> str:
        self._authenticate(ask)
        region, signal = ask.zone, ask.query("signal_type")
        if signal not in SIGNALS or region not in self.zones:
            raise Refusal(400, {"message": "Invalid region or signal_type"})
        refused = self.plan is not None and region not in self.plan
        if refused or self.on(What.OUTSIDE_PLAN, ask):
            message = "You do not have permission to access this resource"
            raise Refusal(403, {"message": message})
        if self.on(What.NO_DATA, ask):
            raise Refusal(404, {"message": "No data found for the requested region and time"})
        return self.other_zone(region) if self.on(What.WRONG_ZONE, ask) else region

    def _forecast_rows(
        self, ask: Ask, region: str, issued: float, count: int
    ) -> list[dict[str, Any]]:
        if self.on(What.NO_ROWS, ask):
            return []
        rows = []
        for when in (issued + index * STEP_S for index in range(count)):
            # One per cent off an hour ahead, and no more than that a day ahead either.
            off = 0.01 * min(1.0, (when - issued) / HOUR)
            value = self._value(ask, region, when, 1 + off)
            rows.append({"point_time": self._stamp(ask, when), "value": value})
        return rows

    def _value(self, ask: Ask, region: str, when: float, factor: float = 1.0) -> float | None:
        if self.on(What.NULL, ask):
            return None
        if self.on(What.OTHER_UNIT, ask):
            return self._percentile(region, when)
        return round(self.world.moer_lbs_per_mwh(self.world_zone(region), when) * factor, 1)

    def _percentile(self, region: str, when: float) -> float:
        return float(self.world.moer_lbs_per_mwh(self.world_zone(region), when) // 1 % 101)

    def _meta(self, ask: Ask, region: str, generated: float) -> dict[str, Any]:
        return {
            "data_point_period_seconds": 300,
            "region": region,
            "warnings": [],
            "signal_type": ask.query("signal_type"),
            "model": MODEL,
            "units": "percentile" if self.on(What.OTHER_UNIT, ask) else "lbs_co2_per_mwh",
            "generated_at_period_seconds": 300,
            "generated_at": iso(generated),
        }

    def _stamp(self, ask: Ask, when: float) -> str:
        # WattTime writes the offset out.
        offset = "" if self.on(What.NAIVE_TIME, ask) else "+00:00"
        return iso(when).removesuffix("Z") + offset

    def _span(self, ask: Ask, longest_s: float) -> tuple[float, float]:
        try:
            start, end = parse_time(ask.query("start")), parse_time(ask.query("end"))
        except ValueError:
            raise Refusal(422, {"message": "start and end are required"}) from None
        if not 0 <= end - start <= longest_s:
            raise Refusal(400, {"message": f"at most {longest_s / DAY:g} days at once"})
        return start, end
