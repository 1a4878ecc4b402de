"""What both sides know of the grid: the scenario's signal, read once an hour, as a table.

The gateway is given it as a published forecast; the simulation reads the same rows.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from router.carbon.tables.table import TraceTable
from router.config import format_time
from router.errors import TraceError
from router.lab.replay.timed import Period
from router.lab.sim.simulation import Simulation
from router.model import Forecast, Intensity, Kind, Signal
from router.units import HOUR_S

_SOURCE = "known"
# Before the start, for the clock that runs while the gateway comes up; after it, for late ones.
_MARGIN_H = 24
# Where the simulation's own clock starts: on the hour, and far from the next one.
AXIS_START = 400_000 * HOUR_S


def signal_table(simulation: Simulation, period: Period) -> TraceTable:
    """Hourly rows: what the signal says of each hour at its beginning; the ends are repeated.

    Raises TraceError for a grid zone of which the signal says nothing.
    """
    zones = tuple(sorted({region.grid_zone for region in simulation.fleet.regions.values()}))
    first_h = math.floor(period.carbon_start / HOUR_S)
    last_h = math.ceil(period.carbon_time(period.seconds) / HOUR_S - 1e-9)
    rows = []
    for hour in range(first_h, max(last_h, first_h + 1)):
        now = max(period.carbon_start, hour * HOUR_S)
        view = simulation.signal.view(now)
        for zone in zones:
            if zone not in view:
                raise TraceError(
                    f"{simulation.name}: the signal says nothing of grid zone {zone} at "
                    f"{format_time(now)}; choose a signal or a start for which it does"
                )
        rows.append([view[zone].at(now).g_per_kwh for zone in zones])
    values = np.pad(np.array(rows), ((_MARGIN_H, _MARGIN_H), (0, 0)), mode="edge")
    return TraceTable(_SOURCE, zones, (first_h - _MARGIN_H) * HOUR_S, HOUR_S, values)


def as_csv(table: TraceTable) -> str:
    """The table as `kind: trace` reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["datetime", *table.grid_zones])
    for row, values in enumerate(table.g_per_kwh.tolist()):
        writer.writerow([format_time(table.start + row * table.step_s), *map(repr, values)])
    return text.getvalue()


def longer(table: TraceTable) -> TraceTable:
    """``table`` with its last row repeated, for what still runs after its end."""
    values = np.pad(table.g_per_kwh, ((0, _MARGIN_H), (0, 0)), mode="edge")
    return replace(table, g_per_kwh=values)


def on_the_axis(table: TraceTable, period: Period) -> TraceTable:
    """A table of the carbon clock on the simulation's own, which runs at wall speed."""
    start = AXIS_START - (period.carbon_start - table.start) / period.speed
    return replace(table, start=start, step_s=table.step_s / period.speed)


class TableSignal:
    """The table as a GridSignal of the simulation's clock, which runs at wall speed."""

    def __init__(self, table: TraceTable, signal: Signal, period: Period) -> None:
        self._table = table
        self._signal = signal
        self._period = period

    def updates(self, start: float, end: float) -> Iterable[float]:
        """``start``, and whenever an hour of the carbon clock turns."""
        turns = [start, *(AXIS_START + at_s for at_s in self._period.boundaries()[:-1])]
        return [at for at in turns if start <= at < end]

    def view(self, now: float) -> Mapping[str, Forecast]:
        """The hour of the carbon clock and those that follow, as hours of this clock from now."""
        carbon = self._period.carbon_time(now - AXIS_START)
        # A turn of the hour must not be missed by rounding.
        row = math.floor((carbon - self._table.start) / self._table.step_s + 1e-6)
        return {
            zone: Forecast(
                zone,
                math.floor(now / HOUR_S) * HOUR_S,
                HOUR_S,
                tuple(self._slot(value, now) for value in column[row:].tolist()),
            )
            for zone, column in zip(self._table.grid_zones, self._table.g_per_kwh.T, strict=True)
        }

    def _slot(self, value: float, now: float) -> Intensity:
        return Intensity(value, value, value, self._signal, Kind.FORECAST, _SOURCE, now, math.inf)
