"""A forecaster's start: what a table says of the past, before the first source was asked."""

from __future__ import annotations

import math
from collections.abc import Iterable

from router.carbon.providers.bands import with_band
from router.carbon.tables.table import TraceTable
from router.contract import Forecaster
from router.model import Kind, Signal
from router.units import HOUR_S


def warm(
    forecaster: Forecaster,
    table: TraceTable,
    signal: Signal,
    grid_zones: Iterable[str],
    now: float,
    hours: int,
) -> frozenset[str]:
    """Let ``forecaster`` observe the last ``hours`` before ``now`` of each zone in the table.

    Blank cells stay unknown. Returns the zones of which something was known.
    """
    known = []
    ended = max(0, math.floor((now - table.start) / table.step_s))
    last = min(len(table.g_per_kwh), ended)
    first = max(0, math.ceil((now - hours * HOUR_S - table.start) / table.step_s))
    source = f"history:{table.name}"
    for zone in grid_zones:
        if zone not in table.grid_zones:
            continue
        column = table.g_per_kwh[first:last, table.grid_zones.index(zone)].tolist()
        past = []
        for row, value in enumerate(column, first):
            if math.isnan(value):
                continue
            end = table.start + (row + 1) * table.step_s
            fresh_until = end + 2 * table.step_s
            past.append(
                with_band(
                    value, signal, Kind.MEASURED, source, observed_at=end, expires_at=fresh_until
                )
            )
        forecaster.learn(zone, past)
        if not all(map(math.isnan, column)):
            known.append(zone)
    return frozenset(known)
