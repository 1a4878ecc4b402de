"""Where carbon intensity comes from, and who forecasts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from router.model import Forecast, Intensity, Signal


class CarbonSource(Protocol):
    """Intensity as a source knows it; never invents a value."""

    name: str
    signal: Signal

    async def read(self, grid_zones: Sequence[str], now: float) -> Mapping[str, Intensity]:
        """The latest value per grid zone known at ``now``; a zone without one is left out.

        Raises DataError when the source as a whole cannot answer.
        """
        ...


@runtime_checkable
class ForecastSource(Protocol):
    """A published forecast, as the publisher issued it."""

    name: str
    signal: Signal

    async def forecast(
        self, grid_zones: Sequence[str], now: float, horizon_h: int
    ) -> Mapping[str, Forecast]:
        """The newest forecast per grid zone covering ``now`` .. ``now + horizon_h`` hours."""
        ...


class Forecaster(Protocol):
    """Turns what was observed into now and the coming hours; pure, no I/O."""

    def observe(self, grid_zone: str, intensity: Intensity) -> None:
        """Take in one observation; an older or repeated one changes nothing."""
        ...

    def learn(self, grid_zone: str, past: Sequence[Intensity]) -> None:
        """Take in a history, oldest first: cheaper than to observe one after the other."""
        ...

    def forget(self, grid_zone: str) -> None:
        """Begin anew with a grid zone: what was observed was of a wrong time."""
        ...

    def forecast(self, grid_zone: str, now: float, horizon_h: int) -> Forecast:
        """Slots from the one containing ``now`` on. Raises MissingIntensityError without data."""
        ...
