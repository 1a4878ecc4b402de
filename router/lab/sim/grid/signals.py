"""What a router can know of the grid while it decides: five ways, none of which looks ahead.

The fifth is `router.lab.sim.grid.forecasted`.

Every view is made of what was published by then, but for `Perfect`, which is there to tell what
knowing everything would be worth. The table is hourly (``router.lab.sim.grid.actual``) and may
reach back before the scenario's start and past its end; what has not been published yet is never
read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from router.carbon.chain.sources import SlotSource
from router.carbon.providers.bands import RELATIVE_HALF_WIDTH
from router.carbon.tables.table import TraceTable
from router.model import Forecast, Intensity, Kind, Signal
from router.units import HOUR_S

HORIZON_H = 24
_NAMES = {Kind.FORECAST: "forecast table", Kind.MEASURED: "truth"}


class Hourly:
    """An hourly table, what signal it is, and when its values become known."""

    def __init__(self, table: TraceTable, signal: Signal, lag_s: float) -> None:
        self.table = table
        self.signal = signal
        self.lag_s = lag_s
        self.first_h = round(table.start / HOUR_S)

    def row(self, now: float) -> int:
        """Row of the hour that contains ``now``; may lie outside the table."""
        return math.floor(now / HOUR_S) - self.first_h

    def published(self, now: float) -> int:
        """Rows published by ``now``."""
        rows = math.floor((now - self.lag_s) / HOUR_S) - self.first_h
        return min(max(rows, 0), len(self.table.g_per_kwh))

    def ahead(self, row: int) -> NDArray[np.float64]:
        """At most HORIZON_H rows from ``row`` on; empty outside the table."""
        return self.table.g_per_kwh[max(row, 0) : row + HORIZON_H] if row >= 0 else _NOTHING

    def intensity(
        self, value: float, kind: Kind, source: str, observed_at: float, expires_at: float
    ) -> Intensity:
        half = value * RELATIVE_HALF_WIDTH.get(kind, 0.0)
        return Intensity(
            value, value - half, value + half, self.signal, kind, source, observed_at, expires_at
        )

    def updates(self, start: float, end: float) -> Iterable[float]:
        """``start``, then every full hour and every publication, in [start, end)."""
        hour = math.floor(start / HOUR_S)
        phase_s = self.lag_s % HOUR_S
        times = {start}
        while hour * HOUR_S < end:
            times |= {hour * HOUR_S, hour * HOUR_S + phase_s}
            hour += 1
        return sorted(at for at in times if start <= at < end)


_NOTHING = np.empty((0, 0))


class Standing:
    """What stands in for a grid zone of which nothing was published yet, or nothing at all.

    ``usual``: month-by-hour means; ``annual``: one figure a zone; each where it is of ``signal``.
    """

    def __init__(
        self, signal: Signal, usual: SlotSource | None, annual: Mapping[str, Intensity]
    ) -> None:
        self._usual = usual if usual is not None and usual.signal == signal else None
        self._annual = {z: value for z, value in annual.items() if value.signal == signal}

    def forecast(self, grid_zone: str, now: float) -> Forecast | None:
        """HORIZON_H hours from the one that contains ``now``; None for an unknown zone."""
        start = math.floor(now / HOUR_S) * HOUR_S
        slots: Sequence[Intensity] = ()
        if self._usual is not None:
            slots = self._usual.slots(grid_zone, start, HORIZON_H)
        if not slots and grid_zone in self._annual:
            slots = [self._annual[grid_zone]] * HORIZON_H
        return Forecast(grid_zone, start, HOUR_S, tuple(slots)) if slots else None


class Perfect:
    """The true values, past and coming; a GridSignal."""

    def __init__(self, table: TraceTable, signal: Signal) -> None:
        self._known = Hourly(table, signal, 0.0)
        self._source = f"{_NAMES[Kind.MEASURED]}({table.name})"

    def updates(self, start: float, end: float) -> Iterable[float]:
        """``start`` and every full hour."""
        return self._known.updates(start, end)

    def view(self, now: float) -> Mapping[str, Forecast]:
        """The hours from ``now`` to the horizon or the end of the table."""
        return _rows_ahead(self._known, now, Kind.MEASURED, self._source, math.inf)


class Tabled:
    """A forecast read from a table, each slot's value known ``lag_s`` before it starts.

    The file does not say when a value was issued, so a whole day ahead is known at any time: give
    it forecasts that were issued at least a day before. A GridSignal.
    """

    def __init__(self, table: TraceTable, signal: Signal, lag_s: float, standing: Standing) -> None:
        self._known = Hourly(table, signal, lag_s)
        self._standing = standing
        self._source = f"{_NAMES[Kind.FORECAST]}({table.name})"

    def updates(self, start: float, end: float) -> Iterable[float]:
        """``start`` and every full hour."""
        return Hourly(self._known.table, self._known.signal, 0.0).updates(start, end)

    def view(self, now: float) -> Mapping[str, Forecast]:
        """The hours from ``now`` to the horizon or the first blank."""
        lag_s = self._known.lag_s
        found = _rows_ahead(self._known, now, Kind.FORECAST, self._source, 3 * HOUR_S, lag_s)
        return with_standing(found, self._known.table.grid_zones, self._standing, now)


class Persistence:
    """The last published value holds; a GridSignal."""

    def __init__(self, table: TraceTable, signal: Signal, lag_s: float, standing: Standing) -> None:
        self._known = Hourly(table, signal, lag_s)
        self._standing = standing
        self._source = f"persistence({table.name})"

    def updates(self, start: float, end: float) -> Iterable[float]:
        """``start``, every full hour and every publication."""
        return self._known.updates(start, end)

    def view(self, now: float) -> Mapping[str, Forecast]:
        """HORIZON_H hours of the newest value that was published by ``now``."""
        known, found = self._known, {}
        rows = known.published(now)
        start = math.floor(now / HOUR_S) * HOUR_S
        for place, zone in enumerate(known.table.grid_zones):
            column = known.table.g_per_kwh[:rows, place]
            seen = np.flatnonzero(~np.isnan(column[-24 * 14 :]))
            if not len(seen):
                continue
            row = max(0, rows - 24 * 14) + int(seen[-1])
            observed_at = (known.first_h + row + 1) * HOUR_S
            slot = known.intensity(
                float(column[row]), Kind.FORECAST, self._source, observed_at,
                observed_at + known.lag_s + 2 * HOUR_S,
            )  # fmt: skip
            found[zone] = Forecast(zone, start, HOUR_S, (slot,) * HORIZON_H)
        return with_standing(found, known.table.grid_zones, self._standing, now)


class DayBefore:
    """Every hour is taken for the last one of its time of day that is published; a GridSignal."""

    def __init__(self, table: TraceTable, signal: Signal, lag_s: float, standing: Standing) -> None:
        self._known = Hourly(table, signal, lag_s)
        self._standing = standing
        self._source = f"day before({table.name})"

    def updates(self, start: float, end: float) -> Iterable[float]:
        """``start``, every full hour and every publication."""
        return self._known.updates(start, end)

    def view(self, now: float) -> Mapping[str, Forecast]:
        """HORIZON_H hours, where the day before has all of them."""
        known, found = self._known, dict[str, Forecast]()
        rows, row = known.published(now), known.row(now)
        ahead = row + np.arange(HORIZON_H)
        ahead -= 24 * np.maximum(0, (ahead - rows) // 24 + 1)
        start = math.floor(now / HOUR_S) * HOUR_S
        observed_at = (known.first_h + rows) * HOUR_S
        for place, zone in enumerate(known.table.grid_zones):
            values = known.table.g_per_kwh[ahead, place] if ahead.min() >= 0 else np.array([np.nan])
            if np.isnan(values).any():
                continue
            slots = tuple(
                known.intensity(
                    value, Kind.FORECAST, self._source, observed_at,
                    observed_at + known.lag_s + 2 * HOUR_S,
                )
                for value in values.tolist()
            )  # fmt: skip
            found[zone] = Forecast(zone, start, HOUR_S, slots)
        return with_standing(found, known.table.grid_zones, self._standing, now)


def _rows_ahead(
    known: Hourly,
    now: float,
    kind: Kind,
    source: str,
    lasts_s: float,
    issued_before_s: float | None = None,
) -> dict[str, Forecast]:
    """Each zone's rows from the hour of ``now`` to the first blank; zones without one are absent.

    ``issued_before_s`` None: known at ``now``, else that long before each slot.
    """
    row = known.row(now)
    start = (known.first_h + row) * HOUR_S
    found = {}
    ahead = known.ahead(row)
    for place, zone in enumerate(known.table.grid_zones if len(ahead) else ()):
        slots = []
        for hour, value in enumerate(ahead[:, place].tolist()):
            if value != value:
                break
            begins = start + hour * HOUR_S
            issued = now if issued_before_s is None else min(begins - issued_before_s, now)
            slots.append(known.intensity(value, kind, source, issued, begins + lasts_s))
        if slots:
            found[zone] = Forecast(zone, start, HOUR_S, tuple(slots))
    return found


def with_standing(
    found: dict[str, Forecast], grid_zones: Iterable[str], standing: Standing, now: float
) -> dict[str, Forecast]:
    """``found``, and what stands in for zones that are not in it."""
    for zone in grid_zones:
        if zone not in found and (usual := standing.forecast(zone, now)) is not None:
            found[zone] = usual
    return found
