"""Carbon intensity replayed from a file: what was known at ``now``, and no more.

Two sources over a ``TraceTable``: ``TraceSource`` for measured or estimated values, and
``TraceForecastSource`` for a published forecast. Reading costs O(1) a zone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from router.carbon.providers.bands import RELATIVE_HALF_WIDTH
from router.carbon.providers.holes import bridged
from router.carbon.tables.table import TraceTable, read_table
from router.errors import ConfigError
from router.model import Forecast, Intensity, Kind, Signal
from router.units import HOUR_S


class TraceSource:
    """Replays measured or estimated values: at ``now`` what had been published by then is known.

    ``lag_s``: seconds from the end of a slot until its value was published. A CarbonSource, and a
    history of itself. ``load`` builds this or, for kind FORECAST, a ``TraceForecastSource``.
    """

    def __init__(self, table: TraceTable, *, signal: Signal, kind: Kind, lag_s: float = 0.0):
        """Raises ConfigError for another kind, or a lag below 0."""
        if kind not in (Kind.MEASURED, Kind.ESTIMATED):
            fix = f"a trace is measured, estimated or forecast, not {kind}"
            raise ConfigError(table.name, [("value_kind", fix)])
        _check_lag(table.name, lag_s)
        self.name = f"trace:{table.name}"
        self.signal = signal
        self._kind = kind
        self._lag_s = lag_s
        self._table = table
        self._column = {zone: index for index, zone in enumerate(table.grid_zones)}
        slots = np.arange(len(table.g_per_kwh), dtype=np.int32)[:, None]
        known = np.where(np.isnan(table.g_per_kwh), np.int32(-1), slots)
        # Row of the newest value at or before each slot, so that a read never searches; -1: none.
        self._newest = np.maximum.accumulate(known, axis=0)

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        signal: Signal,
        kind: Kind = Kind.MEASURED,
        lag_s: float = 0.0,
        hour_ending: bool = False,
        only: Collection[str] | None = None,
    ) -> TraceSource | TraceForecastSource:
        """Read ``path`` once; ``only``: as for ``read_table``.

        Raises TraceError (the file) or ConfigError (the parameters).
        """
        table = read_table(path, signal.factors, hour_ending, only)
        if kind is Kind.FORECAST:
            return TraceForecastSource(table, signal=signal, lag_s=lag_s)
        return cls(table, signal=signal, kind=kind, lag_s=lag_s)

    @property
    def grid_zones(self) -> frozenset[str]:
        """The zones that have at least one value."""
        return frozenset(z for z, i in self._column.items() if self._newest[-1, i] >= 0)

    async def read(self, grid_zones: Sequence[str], now: float) -> Mapping[str, Intensity]:
        """The newest published value of each zone; ``observed_at`` is the end of its slot."""
        last = self._last_slot(now)
        if last < 0:
            return {}
        found = {}
        for zone in grid_zones:
            column = self._column.get(zone)
            if column is not None and (row := int(self._newest[last, column])) >= 0:
                found[zone] = self._intensity(row, column)
        return found

    async def history(
        self, grid_zones: Sequence[str], now: float, hours: int
    ) -> Mapping[str, Sequence[Intensity]]:
        """Every value published by ``now`` whose slot ended in the last ``hours``, oldest first."""
        table = self._table
        since = (now - hours * HOUR_S - table.start) / table.step_s
        rows = range(max(0, math.floor(since)), self._last_slot(now) + 1)
        found = {}
        for zone in grid_zones:
            column = self._column.get(zone)
            if column is not None:
                present = [row for row in rows if not math.isnan(table.g_per_kwh[row, column])]
                found[zone] = [self._intensity(row, column) for row in present]
        return found

    def _last_slot(self, now: float) -> int:
        table = self._table
        ended = math.floor((now - self._lag_s - table.start) / table.step_s)
        return min(ended, len(table.g_per_kwh)) - 1

    def _intensity(self, row: int, column: int) -> Intensity:
        table = self._table
        end = table.start + (row + 1) * table.step_s
        return _with_band(
            float(table.g_per_kwh[row, column]),
            self.signal,
            self._kind,
            self.name,
            observed_at=end,
            expires_at=end + self._lag_s + 2 * table.step_s,
        )


class TraceForecastSource:
    """Replays a published forecast: the slot containing ``now`` and all slots ahead are known.

    The file does not say when a value was issued: ``lag_s`` seconds before its slot starts, and no
    later than ``now``. A CarbonSource and a ForecastSource.
    """

    def __init__(self, table: TraceTable, *, signal: Signal, lag_s: float = 0.0) -> None:
        """Raises ConfigError for a lag below 0."""
        _check_lag(table.name, lag_s)
        self.name = f"trace:{table.name}"
        self.signal = signal
        self._lag_s = lag_s
        self._table = table
        self._column = {zone: index for index, zone in enumerate(table.grid_zones)}

    @property
    def grid_zones(self) -> frozenset[str]:
        """The zones that have at least one value."""
        values = self._table.g_per_kwh
        return frozenset(z for z, i in self._column.items() if not np.isnan(values[:, i]).all())

    async def read(self, grid_zones: Sequence[str], now: float) -> Mapping[str, Intensity]:
        """The slot that contains ``now``; a zone that is blank there is left out."""
        ahead = await self.forecast(grid_zones, now, 1)
        return {zone: forecast.slots[0] for zone, forecast in ahead.items()}

    async def forecast(
        self, grid_zones: Sequence[str], now: float, horizon_h: int
    ) -> Mapping[str, Forecast]:
        """Slots from the one containing ``now`` to ``now + horizon_h`` h, a blank being a hole.

        A zone that is blank now is left out.
        """
        table = self._table
        first = math.floor((now - table.start) / table.step_s)
        stop = math.ceil((now + horizon_h * HOUR_S - table.start) / table.step_s)
        if first < 0:
            return {}
        found = {}
        for zone in grid_zones:
            column = self._column.get(zone)
            if column is None:
                continue
            slots: list[Intensity | None] = []
            for row, value in enumerate(table.g_per_kwh[first:stop, column].tolist(), first):
                if math.isnan(value):
                    slots.append(None)
                    continue
                start = table.start + row * table.step_s
                slot = _with_band(
                    value,
                    self.signal,
                    Kind.FORECAST,
                    self.name,
                    observed_at=min(start - self._lag_s, now),
                    expires_at=start + 3 * table.step_s,
                )
                slots.append(slot)
            while slots and slots[-1] is None:
                slots.pop()
            if slots and slots[0] is not None:
                start = table.start + first * table.step_s
                found[zone] = Forecast(zone, start, table.step_s, bridged(slots))
        return found


def _with_band(
    value: float, signal: Signal, kind: Kind, source: str, *, observed_at: float, expires_at: float
) -> Intensity:
    half = value * RELATIVE_HALF_WIDTH[kind]
    return Intensity(
        value, value - half, value + half, signal, kind, source, observed_at, expires_at
    )


def _check_lag(file: str, lag_s: float) -> None:
    if not (math.isfinite(lag_s) and lag_s >= 0.0):
        raise ConfigError(file, [("lag_s", f"must be a number of seconds >= 0, not {lag_s}")])
