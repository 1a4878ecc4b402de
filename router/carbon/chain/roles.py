"""What a carbon source may be besides a CarbonSource; the chain and the nowcast look for these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

from router.carbon.providers.provider import Want
from router.contract import ForecastSource
from router.model import Intensity, Signal


@runtime_checkable
class Publisher(ForecastSource, Protocol):
    """A ForecastSource, recognisable at run time."""


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


# The code of a trouble that cost rows of an answer, and no more.
ROWS_DROPPED: Final = "rows_dropped"


class Trouble(NamedTuple):
    """What went wrong: a ``reason`` of the error tree or ROWS_DROPPED, and words; no secret."""

    code: str
    text: str

    @property
    def failed(self) -> bool:
        """Whether there was no usable answer; else there was, or it lacks rows."""
        return self.code not in ("", ROWS_DROPPED)


@runtime_checkable
class Troubled(Protocol):
    """A source that serves what it last knew, and tells separately why it knows no better."""

    def trouble(self, grid_zone: str, want: Want) -> Trouble | None:
        """Of the last time the zone was asked for; None when that went well altogether."""
        ...


@runtime_checkable
class Patient(Protocol):
    """A source that bounds its own calls and needs the chain to wait for that long."""

    timeout_s: float
