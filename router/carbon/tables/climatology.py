"""What a grid zone usually emits in this month at this hour: never stale, never better than that.

The embedded table (``router/data/climatology.csv``, sources in its README) holds month-by-hour
means in UTC, average and life-cycle, with the 5 and 95 percentile of single hours around them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Final

import numpy as np

from router.errors import DataError, TraceError
from router.model import Basis, Factors, Intensity, Kind, Signal
from router.units import HOUR_S

_HOURS: Final = tuple(f"h{hour:02d}" for hour in range(24))
_SIGNAL: Final = Signal(Basis.AVERAGE, Factors.LIFECYCLE)

Profile = tuple[Intensity, ...]
"""288 intensities: January 00 h, January 01 h, ... December 23 h, in UTC."""


def parse(lines: Iterable[str], name: str) -> Mapping[str, Profile]:
    """Parse the table's CSV. Raises TraceError naming file and row, also for a missing month."""
    cells: dict[str, dict[int, list[Intensity]]] = {}
    reader = csv.DictReader(lines, strict=True)
    for row in reader:
        try:
            zone, month = row["zone"], int(row["month"])
            cells.setdefault(zone, {})[month] = _month(row)
        except (KeyError, TypeError, ValueError, DataError) as error:
            raise TraceError(f"{name}: row {reader.line_num}: unusable: {error!r}") from error
    profiles = {
        zone: tuple(cell for _, month in sorted(months.items()) for cell in month)
        for zone, months in cells.items()
    }
    for zone, months in cells.items():
        if sorted(months) != list(range(1, 13)):
            raise TraceError(f"{name}: zone {zone} needs months 1 to 12, has {sorted(months)}")
    return profiles


def _month(row: Mapping[str, str]) -> list[Intensity]:
    low, high = float(row["p05_ratio"]), float(row["p95_ratio"])
    until = datetime.fromisoformat(row["until"]).replace(tzinfo=UTC).timestamp()
    source = f"climatology({row['source']})"
    means = [float(row[hour]) for hour in _HOURS]
    if min(means) <= 0.0:
        raise ValueError("a life-cycle mean must be above 0 g/kWh")
    return [
        Intensity(
            g_per_kwh=mean,
            low_g_per_kwh=mean * low,
            high_g_per_kwh=mean * high,
            signal=_SIGNAL,
            kind=Kind.CLIMATOLOGY,
            source=source,
            observed_at=until,
            expires_at=math.inf,
        )
        for mean in means
    ]


class Climatology:
    """Month-by-hour means: a CarbonSource that always answers for the zones it has.

    ``observed_at`` is the end of the period that was averaged, so the age tells how old the level
    is; ``expires_at`` is infinite.
    """

    name = "climatology"
    signal = _SIGNAL

    def __init__(self, profiles: Mapping[str, Profile]) -> None:
        """``profiles``: 288 intensities a grid zone, as ``parse`` returns them."""
        self._profiles = dict(profiles)

    @classmethod
    def load(cls) -> Climatology:
        """The embedded table."""
        name = "climatology.csv"
        text = resources.files("router.data").joinpath(name).read_text("utf-8")
        return cls(parse(text.splitlines(), name))

    @property
    def grid_zones(self) -> frozenset[str]:
        """The zones in the table."""
        return frozenset(self._profiles)

    async def read(self, grid_zones: Sequence[str], now: float) -> Mapping[str, Intensity]:
        """The usual value for the hour that contains ``now``."""
        (cell,) = _cells(now, 1)
        return {z: self._profiles[z][cell] for z in grid_zones if z in self._profiles}

    def slots(self, grid_zone: str, start: float, hours: int) -> tuple[Intensity, ...]:
        """``hours`` values, the first for the hour that contains ``start``; () if not known."""
        profile = self._profiles.get(grid_zone)
        if profile is None:
            return ()
        return tuple(profile[cell] for cell in _cells(start, hours))


def _cells(start: float, hours: int) -> list[int]:
    """Indices into a profile; numpy's calendar, because a forecast asks for hundreds at once."""
    hour = int(start // HOUR_S) + np.arange(hours)
    month = (hour // 24).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
    cells: list[int] = (month * 24 + hour % 24).tolist()
    return cells
