"""EIA-930 through API v2: hourly generation by fuel, each hour stamped with its end.

Shapes after recorded rows and api.data.gov's documented refusals. Values are strings; the request,
key included, is echoed in the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from aiohttp import web

from tests.fakes.faults import What
from tests.fakes.serving import Ask, Fake, Handler, Refusal
from tests.fakes.world import DAY, HOUR, World, floor_to, slots

MOST_ROWS: Final = 5000
CODES: Final = {
    "coal": ("COL", "Coal"), "gas": ("NG", "Natural Gas"), "nuclear": ("NUC", "Nuclear"),
    "wind": ("WND", "Wind"), "solar": ("SUN", "Solar"), "hydro": ("WAT", "Hydro"),
}  # fmt: skip
STORAGE: Final = ("PS", "Pumped storage")
PERIOD: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}")
FACET: Final = re.compile(r"facets\[respondent\]\[\d*\]")


class FakeEia(Fake):
    """``zones``: respondent (``CISO``) -> zone of the world, whose ``lag_s`` delays publication.

    ``keys``: those that are known. ``hourly_calls``: the limit that the headers speak of.
    """

    name: ClassVar[str] = "eia"

    def __init__(
        self,
        world: World,
        zones: Mapping[str, str],
        *,
        keys: Iterable[str] = ("eia-key",),
        hourly_calls: int = 5000,
        **more: Any,
    ) -> None:
        super().__init__(world, zones, **more)
        self.keys = frozenset(keys)
        self.hourly_calls = hourly_calls

    def routes(self) -> Iterable[tuple[str, str, Handler]]:
        for slash in ("", "/"):
            yield f"/v2/electricity/rto/fuel-type-data/data{slash}", "fuel-type-data", self.data

    def zone_of(self, request: web.Request) -> str:
        return ",".join(_facets(request))

    def key_of(self, request: web.Request) -> str:
        return request.query.get("api_key", "")

    def unknown_path(self, ask: Ask) -> Any:
        raise Refusal(404, {"error": "Not found.", "code": 404})

    def too_many(self) -> Any:
        message = "You have exceeded your rate limit. Try again later."
        return {"error": {"code": "OVER_RATE_LIMIT", "message": message}}

    def data(self, ask: Ask) -> Any:
        self._admit(ask)
        query = ask.request.query
        if not any(name.startswith("data[") for name in query):
            raise Refusal(400, {"error": "Invalid data: none requested.", "code": 400})
        rows = [row for zone in _facets(ask.request) for row in self._rows(ask, zone)]
        newest_first = query.get("sort[0][direction]", "desc") == "desc"
        rows.sort(key=lambda row: str(row["period"]), reverse=newest_first)
        offset, length = int(query.get("offset", "0")), int(query.get("length", str(MOST_ROWS)))
        page = rows[offset : offset + min(length, MOST_ROWS)]
        return {
            "response": {
                "total": str(len(rows)),
                "dateFormat": 'YYYY-MM-DD"T"HH24',
                "frequency": "hourly",
                "data": page,
                "description": "Hourly net generation by balancing authority and energy source.",
            },
            "request": {"command": ask.request.path, "params": dict(query)},
            "apiVersion": "2.1.8",
        }

    def _admit(self, ask: Ask) -> None:
        key = self.key_of(ask.request)
        if not key:
            raise _refusal("API_KEY_MISSING", "No api_key was supplied.")
        if key not in self.keys or self.on(What.KEY_REVOKED, ask):
            raise _refusal("API_KEY_INVALID", "An invalid api_key was supplied.")
        if self.on(What.OUTSIDE_PLAN, ask):
            raise _refusal("API_KEY_UNAUTHORIZED", "The api_key is not authorized for this.")
        if ask.query("frequency") != "hourly":
            raise Refusal(400, {"error": "Invalid frequency.", "code": 400})

    def _rows(self, ask: Ask, zone: str) -> list[dict[str, Any]]:
        """All rows of one respondent; an unknown one has none, as the API has it."""

        def on(what: What) -> bool:
            return self.fault(what, zone, ask.endpoint) is not None

        if zone not in self.zones or on(What.NO_ROWS) or on(What.NO_DATA):
            return []
        named = self.other_zone(zone) if on(What.WRONG_ZONE) else zone
        where = self.world_zone(named)
        # A fault may be of one respondent among several, which Ask does not know.
        frozen = self.fault(What.FROZEN, zone, ask.endpoint)
        now = frozen.start if frozen else ask.now
        published = floor_to(now - self.world.zone(where).lag_s, HOUR)
        first = _period(ask, "start", published - 30 * DAY)
        last = min(_period(ask, "end", published), published)
        rows = []
        missing = self.fault(What.NO_MAIN_FUEL, zone, ask.endpoint)
        for start in slots(first - HOUR, last, HOUR):
            without_main = missing is not None and start >= missing.start
            rows += self._hour(where, named, start, on(What.NULL), without_main)
        return rows

    def _hour(
        self, where: str, respondent: str, start: float, blank: bool, without_main: bool
    ) -> list[dict[str, Any]]:
        mix = self.world.mix_mw(where, start)
        if without_main:
            del mix[max(mix, key=lambda fuel: mix[fuel])]
        values = {CODES[fuel]: mw for fuel, mw in mix.items()}
        if self.world.zone(where).storage_mw:
            values[STORAGE] = self.world.storage_mw(where, start)
        return [
            {
                "period": datetime.fromtimestamp(start + HOUR, UTC).strftime("%Y-%m-%dT%H"),
                "respondent": respondent,
                "respondent-name": f"Balancing authority {respondent}",
                "fueltype": code,
                "type-name": name,
                "value": None if blank else f"{mw:.0f}",
                "value-units": "megawatthours",
            }
            for (code, name), mw in values.items()
        ]


def _facets(request: web.Request) -> list[str]:
    return [value for name, value in request.query.items() if FACET.fullmatch(name)]


def _period(ask: Ask, name: str, default: float) -> float:
    text = ask.query(name)
    if not text:
        return default
    if not PERIOD.fullmatch(text):
        detail = f"Invalid '{name}' parameter: expected YYYY-MM-DDTHH."
        raise Refusal(400, {"error": detail, "code": 400})
    return datetime.strptime(text, "%Y-%m-%dT%H").replace(tzinfo=UTC).timestamp()


def _refusal(code: str, message: str) -> Refusal:
    return Refusal(403, {"error": {"code": code, "message": message}})
