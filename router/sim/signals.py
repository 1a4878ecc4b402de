"""What a router can know of the grid while it decides: four ways, none of which looks ahead.

Every view is made of what was published by then, but for `Perfect`, which is there to tell what
knowing everything would be worth. The table is hourly (``router.sim.grid``) and may reach back
before the scenario's start and past its end; what has not been published yet is never read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.carbon.bands import RELATIVE_HALF_WIDTH
from router.carbon.roles import SlotSource
from router.carbon.table import TraceTable
from router.contract import Forecaster
from router.errors import MissingIntensityError
from router.model import Forecast, Intensity, Kind, Signal
from router.sim.grid import HOUR_S

HORIZON_H = 24
_NAMES = {Kind.FORECAST: "forecast table", Kind.MEASURED: "truth"}


class _Hourly:
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
        self._known = _Hourly(table, signal, 0.0)
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
        self._known = _Hourly(table, signal, lag_s)
        self._standing = standing
        self._source = f"{_NAMES[Kind.FORECAST]}({table.name})"

    def updates(self, start: float, end: float) -> Iterable[float]:
        """``start`` and every full hour."""
        return _Hourly(self._known.table, self._known.signal, 0.0).updates(start, end)

    def view(self, now: float) -> Mapping[str, Forecast]:
        """The hours from ``now`` to the horizon or the first blank."""
        lag_s = self._known.lag_s
        found = _rows_ahead(self._known, now, Kind.FORECAST, self._source, 3 * HOUR_S, lag_s)
        return _with_standing(found, self._known.table.grid_zones, self._standing, now)


class Persistence:
    """The last published value holds; a GridSignal."""

    def __init__(self, table: TraceTable, signal: Signal, lag_s: float, standing: Standing) -> None:
        self._known = _Hourly(table, signal, lag_s)
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
        return _with_standing(found, known.table.grid_zones, self._standing, now)


class _Packed(NamedTuple):
    """A forecast without its objects: ``bands`` (3, hours) value, low, high; the rest from slot 0.

    A year of hours times tens of zones is kept for the policies that come after the first.
    """

    bands: NDArray[np.float64]
    first: Intensity

    @classmethod
    def of(cls, forecast: Forecast) -> _Packed:
        slots = forecast.slots
        bands = [(s.g_per_kwh, s.low_g_per_kwh, s.high_g_per_kwh) for s in slots]
        return cls(np.array(bands).T, slots[0])

    def forecast(self, grid_zone: str, start: float) -> Forecast:
        first = self.first
        slots = tuple(
            Intensity(
                value,
                low,
                high,
                first.signal,
                first.kind,
                first.source,
                first.observed_at,
                first.expires_at,
            )
            for value, low, high in self.bands.T.tolist()
        )
        return Forecast(grid_zone, start, HOUR_S, slots)


class Forecasted:
    """The product's own forecaster, fed with every value once it is published; a GridSignal.

    ``make`` builds a forecaster that knows nothing. ``history_s``: how far back it is fed before
    the first view. Views are kept, so that only the first pass pays for them.
    """

    def __init__(
        self,
        table: TraceTable,
        signal: Signal,
        lag_s: float,
        standing: Standing,
        make: Callable[[], Forecaster],
        history_s: float,
    ) -> None:
        self._known = _Hourly(table, signal, lag_s)
        self._standing = standing
        self._make = make
        self._history_h = math.ceil(history_s / HOUR_S)
        self._source = f"trace:{table.name}"
        self._views: dict[float, dict[str, _Packed]] = {}
        self._forecaster = make()
        self._fed: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Travels to other processes with its views; a forecaster is made anew where needed."""
        return {**self.__dict__, "_forecaster": None, "_fed": None}

    def updates(self, start: float, end: float) -> Iterable[float]:
        """``start``, every full hour and every publication."""
        return self._known.updates(start, end)

    def view(self, now: float) -> Mapping[str, Forecast]:
        """HORIZON_H hours as the forecaster sees them at ``now``."""
        packed = self._views.get(now)
        if packed is None:
            packed = self._views[now] = self._look(now)
        start = math.floor(now / HOUR_S) * HOUR_S
        found = {zone: one.forecast(zone, start) for zone, one in packed.items()}
        return _with_standing(found, self._known.table.grid_zones, self._standing, now)

    def _look(self, now: float) -> dict[str, _Packed]:
        known = self._known
        rows = known.published(now)
        if self._fed is None or rows < self._fed:
            self._forecaster = self._make()
            self._fed = max(0, rows - self._history_h)
        for row in range(self._fed, rows):
            self._feed(row)
        self._fed = rows
        found = {}
        for zone in known.table.grid_zones:
            try:
                found[zone] = _Packed.of(self._forecaster.forecast(zone, now, HORIZON_H))
            except MissingIntensityError:
                continue
        return found

    def _feed(self, row: int) -> None:
        known = self._known
        end = (known.first_h + row + 1) * HOUR_S
        values = known.table.g_per_kwh[row].tolist()
        for zone, value in zip(known.table.grid_zones, values, strict=True):
            if value == value:
                expires_at = end + known.lag_s + 2 * HOUR_S
                observed = known.intensity(value, Kind.MEASURED, self._source, end, expires_at)
                self._forecaster.observe(zone, observed)


def _rows_ahead(
    known: _Hourly,
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


def _with_standing(
    found: dict[str, Forecast], grid_zones: Iterable[str], standing: Standing, now: float
) -> dict[str, Forecast]:
    for zone in grid_zones:
        if zone not in found and (usual := standing.forecast(zone, now)) is not None:
            found[zone] = usual
    return found
