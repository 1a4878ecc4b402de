"""A provider without sockets: publishes hourly with a lag, and fails as it is told to."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from router.carbon.providers.provider import Reading, Want
from router.carbon.providers.rows import Dropped
from router.errors import NoDataError, ProviderError
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal

SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
HOUR = 3600.0


class StubProvider:
    """``lag_s``: from the end of a slot until its value is there. ``calls``: (now, want, zones).

    ``fails``: raised by every call. ``zone_errors``: what single zones map to. ``frozen_at``: the
    time at which it stopped to know anything new. ``hangs``: calls never return. ``dropped``: rows
    that its answers lose. ``null_latest``: the newest value is not there yet.
    """

    def __init__(
        self,
        zones: Sequence[str],
        *,
        lag_s: float = 600.0,
        step_s: float = HOUR,
        zones_per_call: int = 1,
        name: str = "stub",
        wants: frozenset[Want] = frozenset(Want),
    ) -> None:
        self.name = name
        self.signal = SIGNAL
        self.grid_zones = frozenset(zones)
        self.wants = wants
        self.zones_per_call = zones_per_call
        self.publishes_every_s = step_s
        self.lag_s = lag_s
        self.calls: list[tuple[float, Want, tuple[str, ...]]] = []
        self.fails: BaseException | None = None
        self.zone_errors: dict[str, ProviderError] = {}
        self.frozen_at = math.inf
        self.hangs = False
        self.at_once = self.most_at_once = 0
        self.values: dict[tuple[str, float], float] = {}
        self.dropped: tuple[Dropped, ...] = ()
        self.null_latest = False

    def count(self, want: Want) -> int:
        return sum(1 for _, asked, _ in self.calls if asked is want)

    def by_zone(self, want: Want) -> Counter[str]:
        return Counter(zone for _, asked, zones in self.calls if asked is want for zone in zones)

    def value(self, zone: str, end: float, kind: Kind = Kind.MEASURED) -> Intensity:
        g = self.values.get((zone, end), 100.0 + 10.0 * math.sin(end / HOUR))
        return Intensity(g, g, g, SIGNAL, kind, self.name, end, end + self.lag_s + 2 * HOUR)

    async def fetch(
        self, grid_zones: Sequence[str], want: Want, now: float, hours: int
    ) -> Mapping[str, Reading | ProviderError]:
        assert 0 < len(grid_zones) <= self.zones_per_call
        assert set(grid_zones) <= self.grid_zones
        self.calls.append((now, want, tuple(grid_zones)))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            if self.hangs:
                await asyncio.Event().wait()
        finally:
            self.at_once -= 1
        if self.fails is not None:
            raise self.fails
        return {
            zone: self._answer(zone, want, min(now, self.frozen_at), hours) for zone in grid_zones
        }

    def _answer(self, zone: str, want: Want, now: float, hours: int) -> Reading | ProviderError:
        if zone in self.zone_errors:
            return self.zone_errors[zone]
        step_s = self.publishes_every_s
        newest = math.floor((now - self.lag_s) / step_s) * step_s
        if want is Want.FORECAST:
            start = math.floor(now / HOUR) * HOUR
            slots = tuple(
                Intensity(
                    200.0, 150.0, 250.0, SIGNAL, Kind.FORECAST, self.name, start, start + 99 * HOUR
                )
                for _ in range(min(hours, 24))
            )
            return Reading((), Forecast(zone, start, HOUR, slots)) if slots else NoDataError("none")
        depth = 1 if want is Want.LATEST else int(hours * HOUR / step_s)
        if want is Want.LATEST and self.null_latest:
            return NoDataError(f"{self.name}: the value is null")
        observed = tuple(self.value(zone, newest - i * step_s) for i in range(depth))[::-1]
        return Reading(observed, None, self.dropped)
