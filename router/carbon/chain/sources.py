"""What a carbon source may be besides a CarbonSource; the chain and the nowcast look for these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from router.carbon.chain.attempt import SourceAttempt
from router.carbon.providers.provider import Want
from router.contract import ForecastSource
from router.model import Intensity, Signal


@runtime_checkable
class HistorySource(Protocol):
    """A source that can also say what it published before; fills the forecaster's gaps."""

    async def history(
        self, grid_zones: Sequence[str], now: float, hours: int
    ) -> Mapping[str, Sequence[Intensity]]:
        """Observations of the last ``hours`` known at ``now``, oldest first."""
        ...


@runtime_checkable
class SlotSource(Protocol):
    """A source that knows what is usual at any time, without I/O."""

    signal: Signal

    def slots(self, grid_zone: str, start: float, hours: int) -> Sequence[Intensity]:
        """``hours`` values from the hour containing ``start``; empty for an unknown zone."""
        ...


class AnnualMeans(Protocol):
    """The last resort."""

    signal: Signal

    def mean(self, grid_zone: str) -> Intensity | None:
        """The annual mean of a zone, None when unknown."""
        ...


class Known(HistorySource, ForecastSource, Protocol):
    """A source of every kind that calls nobody."""

    async def read(self, grid_zones: Sequence[str], now: float) -> Mapping[str, Intensity]:
        """As in ``CarbonSource``."""
        ...


@runtime_checkable
class Polled(Protocol):
    """A source that calls its provider when there may be news, and keeps what that answered."""

    @property
    def known(self) -> Known:
        """What was answered so far."""
        ...

    async def poll(self, want: Want, grid_zones: Sequence[str], now: float, hours: int) -> None:
        """Call for ``want`` of the zones that are due. May be cut short: what is under way has then
        failed, the rest stays due, and what was answered is kept.
        """
        ...

    def last_attempt(self, grid_zone: str, want: Want) -> SourceAttempt | None:
        """How the last call for the zone went; None when it went well altogether."""
        ...
