"""What requests emitted, once it is known what the grid was like while each of them ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from router.carbon.tables.table import TraceTable
from router.core.columns import mean_over
from router.lab.replay.records import Record
from router.lab.replay.timed import Period
from router.model import Fleet, Forecast, Intensity, Kind, Signal
from router.units import grams


def settled(
    records: Iterable[Record], fleet: Fleet, actual: Mapping[str, Forecast], period: Period
) -> list[Record]:
    """Answered requests in order, with grams at the intensity that really was.

    Where no receipt came with the answer its joules and grams stay unknown.
    """
    found = []
    for record in records:
        region = fleet.regions.get(record.region)
        if region is None:
            found.append(record)
            continue
        start = period.carbon_time(record.at_s)
        run_s = record.e2e_ms / 1e3 * period.speed
        g_per_kwh = mean_over(actual[region.grid_zone], start, run_s)
        gco2e = grams(record.energy_j * region.pue, g_per_kwh)
        found.append(record._replace(gco2e=gco2e))
    return sorted(found, key=lambda record: record.serial)


def actual(table: TraceTable, zones: Sequence[str], signal: Signal) -> dict[str, Forecast]:
    """Every slot of a table as it was measured, by grid zone. It must have no gap."""
    found = {}
    for zone in zones:
        slots = []
        for row, g in enumerate(table.g_per_kwh[:, table.grid_zones.index(zone)].tolist()):
            end = table.start + (row + 1) * table.step_s
            slots.append(Intensity(g, g, g, signal, Kind.MEASURED, table.name, end, end))
        found[zone] = Forecast(zone, table.start, table.step_s, tuple(slots))
    return found
