"""Hourly series of grid zones from a trace table of any step up to an hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.carbon.tables.table import TraceTable
from router.errors import TraceError
from router.units import HOUR_S

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HourlySeries:
    """``g_per_kwh``: (hours, zones), NaN where missing; hour ``first_h`` (since 1970) is row 0."""

    name: str
    grid_zones: tuple[str, ...]
    first_h: int
    g_per_kwh: Array


def hourly_series(table: TraceTable) -> HourlySeries:
    """Means of the slots that start in each hour; an hour less than half known is missing.

    Raises TraceError for steps over an hour.
    """
    if table.step_s > HOUR_S:
        raise TraceError(
            f"{table.name}: a step of {table.step_s:g} s; the forecaster needs hours or less: "
            "bring values of every hour"
        )
    starts = table.start + np.arange(len(table.g_per_kwh)) * table.step_s
    hours = np.floor(starts / HOUR_S).astype(np.int64)
    first_h = int(hours[0])
    places = hours - first_h
    shape = (int(places[-1]) + 1, len(table.grid_zones))
    known = ~np.isnan(table.g_per_kwh)
    count, total = np.zeros(shape), np.zeros(shape)
    np.add.at(count, places, known)
    np.add.at(total, places, np.where(known, table.g_per_kwh, 0.0))
    enough = count >= 0.5 * HOUR_S / table.step_s
    means = np.where(enough, total / np.maximum(count, 1.0), np.nan)
    return HourlySeries(table.name, table.grid_zones, first_h, means)


def choose(series: HourlySeries, grid_zones: Sequence[str]) -> HourlySeries:
    """Only ``grid_zones``, in that order; all when empty. Raises TraceError naming a strange one,
    and when a zone has no value at all.
    """
    wanted = list(dict.fromkeys(grid_zones)) or list(series.grid_zones)
    strange = [zone for zone in wanted if zone not in series.grid_zones]
    if strange:
        raise TraceError(
            f"{series.name}: no column {', '.join(strange)}; it has {', '.join(series.grid_zones)}"
        )
    columns = [series.grid_zones.index(zone) for zone in wanted]
    values = series.g_per_kwh[:, columns]
    filled = (~np.isnan(values)).sum(axis=0).tolist()
    empty = [zone for zone, count in zip(wanted, filled, strict=True) if not count]
    if empty:
        raise TraceError(f"{series.name}: column {', '.join(empty)} is blank; leave it out")
    return HourlySeries(series.name, tuple(wanted), series.first_h, values)
