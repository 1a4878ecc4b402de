"""A forecaster that is easy to foresee: the newest value, in a band that widens with its age."""

from __future__ import annotations

import math
from collections.abc import Sequence

from router.errors import MissingIntensityError
from router.model import Forecast, Intensity, Kind

HOUR = 3600.0


class Carried:
    """``told``: per zone what it was told of each slot, in the order of telling."""

    def __init__(self, growth: float = 0.02) -> None:
        """``growth``: half-width an hour after the observation, relative; grows with its root."""
        self.told: dict[str, list[Intensity]] = {}
        self._growth = growth

    def by_slot(self, zone: str, since: float = -math.inf) -> dict[float, float]:
        """End of each slot -> the last word on it."""
        told = self.told.get(zone, [])
        return {v.observed_at: v.g_per_kwh for v in told if v.observed_at > since}

    def observe(self, grid_zone: str, intensity: Intensity) -> None:
        self.told.setdefault(grid_zone, []).append(intensity)

    def learn(self, grid_zone: str, past: Sequence[Intensity]) -> None:
        for intensity in past:
            self.observe(grid_zone, intensity)

    def forget(self, grid_zone: str) -> None:
        self.told.pop(grid_zone, None)

    def forecast(self, grid_zone: str, now: float, horizon_h: int) -> Forecast:
        start = math.floor(now / HOUR) * HOUR
        told = [v for v in self.told.get(grid_zone, []) if v.observed_at <= start + HOUR]
        if not told:
            raise MissingIntensityError(f"grid zone {grid_zone}: nothing observed")
        last = max(reversed(told), key=lambda value: value.observed_at)
        slots = []
        for ahead in range(horizon_h):
            lead_h = max(0.0, (start - last.observed_at) / HOUR + ahead + 1)
            half = min(1.0, self._growth * math.sqrt(lead_h)) * last.g_per_kwh
            slots.append(
                Intensity(
                    last.g_per_kwh,
                    last.g_per_kwh - half,
                    last.g_per_kwh + half,
                    last.signal,
                    Kind.FORECAST,
                    f"nowcast({last.source})",
                    last.observed_at,
                    last.expires_at,
                )
            )
        return Forecast(grid_zone, start, HOUR, tuple(slots))
