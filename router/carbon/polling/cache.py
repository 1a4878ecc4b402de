"""What one provider has answered, with its true age: a source that calls nobody."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from router.carbon.chain.attempt import SourceAttempt
from router.carbon.chain.revisions import KEEP_S, forget
from router.carbon.providers.holes import is_stated
from router.carbon.providers.provider import Want
from router.model import Forecast, Intensity
from router.units import HOUR_S


class AnswerCache:
    """The latest word on each slot of the last ten days, and the newest forecast, by grid zone.

    What was said of a slot before is the chain's to remember (`router.carbon.chain.revisions`).
    ``attempts``: the last one for each want and zone, where it did not go well altogether.
    """

    def __init__(self, *, observes: bool) -> None:
        """``observes``: whether the provider is asked for more than forecasts."""
        self.forecasts: dict[str, Forecast] = {}
        self.attempts: dict[tuple[Want, str], SourceAttempt] = {}
        self._observes = observes
        self._slots: dict[str, dict[float, Intensity]] = {}

    def take(self, grid_zone: str, value: Intensity, now: float) -> bool:
        """Keep what is said of a past slot; True when that is news."""
        end, slots = value.observed_at, self._slots.setdefault(grid_zone, {})
        if end <= now - KEEP_S or slots.get(end) == value:
            return False
        slots[end] = value
        forget(slots, now)
        return True

    def take_forecast(self, grid_zone: str, forecast: Forecast, now: float = math.inf) -> bool:
        """Keep a forecast unless a newer one, issued by ``now``, is known; True when it is news."""
        known = self.forecasts.get(grid_zone)
        if known is not None:
            issued_at = known.slots[0].observed_at
            if forecast == known or forecast.slots[0].observed_at < issued_at <= now:
                return False
        self.forecasts[grid_zone] = forecast
        return True

    def newest(self, grid_zone: str) -> Intensity | None:
        """The value of the newest slot, None when there is none."""
        slots = self._slots.get(grid_zone)
        return slots[max(slots)] if slots else None

    def since(self, grid_zone: str, start: float) -> tuple[Intensity, ...]:
        """The value of each slot that ended after ``start``, oldest first."""
        slots = self._slots.get(grid_zone, {})
        return tuple(slots[end] for end in sorted(slots) if end > start)

    async def read(self, grid_zones: Iterable[str], now: float) -> Mapping[str, Intensity]:
        """The newest value per zone, however old; a provider of forecasts alone: the slot at now.

        A frozen provider's value stays as old as it is.
        """
        if not self._observes:
            ahead = await self.forecast(grid_zones, now, 1)
            slots = {zone: forecast.at(now) for zone, forecast in ahead.items()}
            return {zone: slot for zone, slot in slots.items() if is_stated(slot)}
        found = {zone: self.newest(zone) for zone in grid_zones}
        return {zone: value for zone, value in found.items() if value is not None}

    async def history(
        self, grid_zones: Iterable[str], now: float, hours: int
    ) -> Mapping[str, Sequence[Intensity]]:
        """The latest word on each slot of the last ``hours``, oldest first."""
        past = {zone: self.since(zone, now - hours * HOUR_S) for zone in grid_zones}
        return {zone: values for zone, values in past.items() if values}

    async def forecast(
        self, grid_zones: Iterable[str], now: float, horizon_h: int
    ) -> Mapping[str, Forecast]:
        """The newest issue from the hour containing ``now`` on; may be shorter than asked.

        The slots of that hour that are over are what its mean needs.
        """
        issues = {zone: self.forecasts[zone] for zone in grid_zones if zone in self.forecasts}
        return {
            zone: _ahead(issue, now, horizon_h)
            for zone, issue in issues.items()
            if issue.start + len(issue.slots) * issue.step_s > now
        }


def _ahead(issue: Forecast, now: float, horizon_h: int) -> Forecast:
    """``issue``, which ends after ``now``, from the hour containing ``now`` on."""
    hour = now // HOUR_S * HOUR_S
    first = max(0, math.floor((hour - issue.start) / issue.step_s))
    stop = math.ceil((now + horizon_h * HOUR_S - issue.start) / issue.step_s)
    slots = issue.slots[first : max(stop, first + 1)]
    return Forecast(issue.grid_zone, issue.start + first * issue.step_s, issue.step_s, slots)
