"""A recorded series: a table, or a folder of metrics pages as they were read.

A table, CSV or Parquet, has ``time`` (unix s, or UTC), one of ``energy_j``, ``energy_mj`` and
``power_w``, and of ``answer_tokens``, ``prompt_tokens``, ``iterations``, ``busy_s``, ``requests``
and ``running`` those that are known: all as the server and the meter count them, not as
differences. In a folder there is a file a reading, ``TIME.prom``, with the server's page and the
meter's one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from router.config import parse_time
from router.errors import TraceError
from router.load.calibration.series import EnergyReading
from router.load.energy_meter import NO_READING, MeterReading, MeterScan
from router.load.work_counters import WorkCounters, WorkScan
from router.model import EnergyMeter
from router.operator.table_rows import table_rows

# Joules of one of the column; None: of watts.
_ENERGY: Final = {"energy_j": 1.0, "energy_mj": 1e-3, "power_w": None}
_PAGES: Final = (".prom", ".txt")
_MOST: Final = 1e18
# Of unix s: the year 5138. Of ms: 1973.
_LATEST: Final = 1e11


def read_recorded(path: Path, engine: str, meter: EnergyMeter) -> list[EnergyReading]:
    """In the table's order; a folder's by their times. Raises TraceError, which names file and row,
    and ConfigError without what Parquet takes."""
    if path.is_dir():
        return _pages(path, engine, meter)
    return list(_table(path))


def _pages(folder: Path, engine: str, meter: EnergyMeter) -> list[EnergyReading]:
    found = []
    for path in folder.iterdir():
        if path.suffix in _PAGES and path.is_file():
            work, energy = WorkScan(engine), MeterScan(meter)
            try:
                body = path.read_bytes()
            except OSError as error:
                raise TraceError(f"{path}: cannot be read: {error}") from None
            for scan in (work, energy):
                scan.take(body if body.endswith(b"\n") else body + b"\n")
            reading = energy.reading()
            at = _time(path.stem, f"{path.name}: its name")
            found.append(EnergyReading(at, reading, work.counters(), reading.total_w))
    if not found:
        raise TraceError(f"{folder}: no file of a page, such as 1764500000.prom")
    return sorted(found, key=lambda one: one.at)


def _table(path: Path) -> Iterator[EnergyReading]:
    for at, row in table_rows(path, "parquet"):
        where = f"{path.name}: row {at}"
        named = [name for name in _ENERGY if name in row]
        if "time" not in row or len(named) != 1 or not set(row) & set(WorkCounters._fields):
            raise TraceError(
                f"{path.name}: needs the columns time, one of {', '.join(_ENERGY)}, and some of "
                f"{', '.join(WorkCounters._fields)}"
            )
        energy = _number(row[named[0]], f"{where}, {named[0]}")
        unit_j = _ENERGY[named[0]]
        known = unit_j is not None and not math.isnan(energy)
        work = {
            name: _number(row[name], f"{where}, {name}")
            for name in WorkCounters._fields
            if name in row
        }
        yield EnergyReading(
            _time(row["time"], f"{where}, time"),
            MeterReading({path.name: energy * (unit_j or 0.0)}) if known else NO_READING,
            WorkCounters(**work),
            math.nan if unit_j is not None else energy,
        )


def _number(cell: Any, where: str) -> float:
    """NaN of what is empty, and of what no counter says."""
    if cell is None or cell == "":
        return math.nan
    try:
        value = float(cell)
    except (TypeError, ValueError):
        raise TraceError(f"{where}: {str(cell)[:40]!r} is not a number") from None
    return value if 0.0 <= value <= _MOST else math.nan


def _time(cell: Any, where: str) -> float:
    try:
        at = float(cell)
    except (TypeError, ValueError):
        try:
            return parse_time(cell)
        except (ValueError, AttributeError, TypeError) as error:
            raise TraceError(f"{where}: {error}") from None
    if not 0.0 <= at < _LATEST:
        raise TraceError(f"{where}: {str(cell)[:40]!r} is no time: unix s, or UTC")
    return at
