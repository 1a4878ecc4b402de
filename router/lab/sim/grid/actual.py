"""What the grids really emitted, on whole hours: the truth that a simulation counts grams with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from router.carbon.tables.static import WIDEST_RATIOS
from router.carbon.tables.table import TraceTable
from router.config import format_time
from router.config.problems import unknown
from router.errors import TraceError
from router.model import Intensity, Kind, Signal
from router.units import HOUR_S


def hourly(table: TraceTable) -> TraceTable:
    """``table`` on hours that start on the hour, each the mean of what it holds over that hour.

    An hour is NaN where any part of it is missing.
    """
    step_s, start = table.step_s, table.start
    if step_s == HOUR_S and start % HOUR_S == 0.0:
        return table
    first = math.floor(start / HOUR_S)
    last = math.ceil((start + step_s * len(table.g_per_kwh)) / HOUR_S)
    edges: NDArray[np.float64] = HOUR_S * np.arange(first, last + 1, dtype=np.float64)
    # The integral of a step function, read off at the hours' edges; NaN spreads to what it touches.
    missing = np.isnan(table.g_per_kwh)
    amount = _at(edges, table, np.where(missing, 0.0, table.g_per_kwh))
    known_s = _at(edges, table, (~missing).astype(np.float64))
    whole = np.abs(known_s - HOUR_S) < 1e-6
    values = np.where(whole, amount / HOUR_S, np.nan)
    return TraceTable(table.name, table.grid_zones, first * HOUR_S, HOUR_S, values)


def _at(
    edges: NDArray[np.float64], table: TraceTable, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integral of the step function ``values`` between consecutive ``edges``; (hours, zones)."""
    times = table.start + table.step_s * np.arange(len(values) + 1)
    zeros = np.zeros((1, values.shape[1]))
    total = np.concatenate((zeros, np.cumsum(values * table.step_s, axis=0)))
    columns = [np.diff(np.interp(edges, times, column)) for column in total.T]
    return np.array(columns).T


def select(
    table: TraceTable, grid_zones: Iterable[str], columns: Mapping[str, str] | None = None
) -> TraceTable:
    """Only the columns of ``grid_zones``, in order; ``columns``: the name of a zone's column, where
    it has another one. Raises TraceError naming one that is absent.
    """
    names = columns or {}
    places = {zone: place for place, zone in enumerate(table.grid_zones)}
    wanted = tuple(sorted(set(grid_zones)))
    for zone in wanted:
        if names.get(zone, zone) not in places:
            text = unknown("column", names.get(zone, zone), table.grid_zones)
            raise TraceError(f"{table.name}: {text}")
    chosen = [places[names.get(zone, zone)] for zone in wanted]
    values = np.ascontiguousarray(table.g_per_kwh[:, chosen])
    return TraceTable(table.name, wanted, table.start, table.step_s, values)


def fill(table: TraceTable, longest_h: int) -> tuple[TraceTable, int]:
    """Gaps of at most ``longest_h`` hours replaced by the line between their ends; hours filled.

    A gap at either end of the table has one end only and stays.
    """
    values = table.g_per_kwh.copy()
    filled = 0
    for column in values.T:
        missing = np.isnan(column)
        edges = np.diff(np.concatenate(([0], missing.astype(np.int8), [0])))
        for first, stop in zip(
            np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True
        ):
            if first > 0 and stop < len(column) and stop - first <= longest_h:
                line = np.linspace(column[first - 1], column[stop], stop - first + 2)
                column[first:stop] = line[1:-1]
                filled += stop - first
    return TraceTable(table.name, table.grid_zones, table.start, table.step_s, values), filled


def cut(table: TraceTable, start: float, duration_s: float) -> TraceTable:
    """The whole hours that hold ``start`` .. ``start + duration_s``, without a gap.

    Raises TraceError naming the zone, the first missing hour and the fix.
    """
    first = math.floor(start / HOUR_S)
    stop = max(first + 1, math.ceil((start + duration_s) / HOUR_S))
    offset = first - round(table.start / HOUR_S)
    end = table.start + HOUR_S * len(table.g_per_kwh)
    if offset < 0 or stop * HOUR_S > end:
        raise TraceError(
            f"{table.name}: holds {format_time(table.start)} to {format_time(end)}, the scenario "
            f"needs {format_time(first * HOUR_S)} to {format_time(stop * HOUR_S)}; change start "
            "or duration, or take another file"
        )
    values = table.g_per_kwh[offset : offset + stop - first]
    missing = np.argwhere(np.isnan(values))
    if len(missing):
        hour, column = missing[0]
        raise TraceError(
            f"{table.name}: column {table.grid_zones[column]}: no value for "
            f"{format_time((first + int(hour)) * HOUR_S)} ({len(missing)} hours are missing in "
            "all); fill them in, or let carbon.fill bridge gaps up to a length, such as 3h"
        )
    return TraceTable(table.name, table.grid_zones, first * HOUR_S, HOUR_S, values)


def missing(table: TraceTable, start: float, duration_s: float) -> tuple[int, int]:
    """Cells that lack a value from ``start`` to ``start + duration_s``, and all cells there."""
    first = math.floor(start / HOUR_S)
    stop = max(first + 1, math.ceil((start + duration_s) / HOUR_S))
    offset = first - round(table.start / HOUR_S)
    inside = table.g_per_kwh[max(offset, 0) : max(offset + stop - first, 0)]
    cells = (stop - first) * table.g_per_kwh.shape[1]
    return cells - int(np.isfinite(inside).sum()), cells


def annual_means(
    table: TraceTable, own: Mapping[str, float], signal: Signal
) -> dict[str, Intensity]:
    """One figure a grid zone: ``own`` where given, else the mean of the whole table.

    All from one source by default: figures of another vintage could turn the zones' order round.
    """
    low, high = WIDEST_RATIOS
    days = len(table.g_per_kwh) * table.step_s / 86400.0
    end = table.start + len(table.g_per_kwh) * table.step_s
    means = np.nanmean(table.g_per_kwh, axis=0).tolist()
    found = {}
    for zone, mean in zip(table.grid_zones, means, strict=True):
        value = own.get(zone, mean)
        source = "static(scenario)" if zone in own else f"mean of {days:.0f} days of {table.name}"
        found[zone] = Intensity(
            value, value * low, value * high, signal, Kind.ANNUAL_MEAN, source, end, math.inf
        )
    return found
