"""energy-charts.info: quarter-hours from midnight UTC to the end of tomorrow, without a key.

Shape after a recorded answer: ``co2eq`` is null from the first quarter-hour that is not known yet,
``co2eq_forecast`` before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from aiohttp import web

from tests.fakes.faults import What
from tests.fakes.serving import Ask, Fake, Handler, Refusal, parse_time
from tests.fakes.world import DAY, HOUR, World, floor_to, slots

STEP_S: Final = 900.0
LOCAL: Final = ZoneInfo("Europe/Berlin")


class FakeEnergyCharts(Fake):
    """``zones``: country code as the API writes it (``de``) -> zone of the world.

    ``lag_s``: from a quarter-hour's end until its value is there.
    """

    name: ClassVar[str] = "energy_charts"

    def __init__(
        self,
        world: World,
        zones: Mapping[str, str],
        *,
        lag_s: float = 900.0,
        **more: Any,
    ) -> None:
        super().__init__(world, zones, **more)
        self.lag_s = lag_s

    def routes(self) -> Iterable[tuple[str, str, Handler]]:
        yield "/co2eq", "co2eq", self.co2eq

    def zone_of(self, request: web.Request) -> str:
        return request.query.get("country", "de")

    def unknown_path(self, ask: Ask) -> Any:
        raise Refusal(404, {"detail": "Not Found"})

    def too_many(self) -> Any:
        return {"detail": "Too many requests"}

    def co2eq(self, ask: Ask) -> Any:
        """The answer names no country: a wrong one cannot be told from a right one."""
        if ask.zone not in self.zones:
            raise Refusal(422, {"detail": [{"loc": ["query", "country"], "msg": "unknown"}]})
        if self.on(What.NO_DATA, ask):
            raise Refusal(404, {"detail": "no content available"})
        country = self.other_zone(ask.zone) if self.on(What.WRONG_ZONE, ask) else ask.zone
        zone = self.world_zone(country)
        known_until = floor_to(ask.now - self.lag_s, STEP_S)
        times = self._times(ask, known_until)
        observed: list[float | None] = []
        forecast: list[float | None] = []
        for start in times:
            over = start < known_until
            value = self._value(zone, start, known_until, ask.now)
            observed.append(value if over else None)
            forecast.append(None if over else value)
        if self.on(What.NULL, ask):
            observed = [None] * len(times)
        return {
            "unix_seconds": [int(start) for start in times],
            "co2eq": observed,
            "co2eq_forecast": forecast,
            "deprecated": False,
        }

    def _value(self, zone: str, start: float, known_until: float, now: float) -> float:
        if start < known_until:
            return self.world.published(zone, start, now, STEP_S)
        return self.world.forecast(zone, start, floor_to(known_until, HOUR), STEP_S)

    def _times(self, ask: Ask, known_until: float) -> list[float]:
        if self.on(What.NO_ROWS, ask):
            return []
        begin = floor_to(ask.now, DAY)
        tomorrow = datetime.fromtimestamp(ask.now, LOCAL).date() + timedelta(days=2)
        end = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=LOCAL).timestamp()
        try:
            begin = _day(ask.query("start"), begin)
            end = _day(ask.query("end"), end - DAY) + DAY if ask.query("end") else end
        except ValueError:
            raise Refusal(422, {"detail": "start and end must be dates"}) from None
        if short := self.on(What.SHORT, ask):
            end = min(end, known_until + short.hours * HOUR)
        return slots(begin, end, STEP_S)


def _day(text: str, default: float) -> float:
    """A stamp, a number of seconds, or a date, of which the beginning is meant."""
    if not text:
        return default
    if text.isdigit():
        return float(text)
    if len(text) == len("2022-05-14"):
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    return parse_time(text)
