"""Files of measured intensities: wide, a column a grid zone, or long, a row an hour and zone.

Wide ones are read as any trace is (`router.carbon.tables.table`); slots of less than an hour are
averaged, and an hour that lacks one is left out. Long ones have the columns ``grid_zone``, ``hour``
(its start, UTC) and ``g_per_kwh``; where they are there, ``low_g_per_kwh``, ``high_g_per_kwh``,
``kind``, ``source`` and ``observed_at`` are taken, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from router.carbon.providers.bands import half_width_g
from router.carbon.tables.table import read_table
from router.config import parse_time
from router.errors import TraceError
from router.ledger.settlement import MeasuredHour, PriceKey
from router.model import Kind, Signal
from router.operator.table_rows import table_columns, table_rows
from router.units import HOUR_S

_EXTRA: Final = "ledger"
_LONG: Final = ("grid_zone", "hour", "g_per_kwh")
# As for tables: no grid emits more, a larger number is of another unit.
_MOST_G_PER_KWH: Final = 5_000.0


class FileTerms(NamedTuple):
    """What a file does not say itself. ``source``: "" for the file's name."""

    signal: Signal
    kind: Kind
    source: str = ""
    hour_ending: bool = False


def measured_hours(path: Path, terms: FileTerms) -> list[MeasuredHour]:
    """Of one file, in its order. Raises TraceError and ConfigError, which name file and row."""
    header = [] if path.suffix == ".gz" else table_columns(path, _EXTRA)
    if set(_LONG) <= set(header):
        return [_of_row(path, at, row, terms) for at, row in table_rows(path, _EXTRA)]
    if "grid_zone" in header:
        raise TraceError(
            f"{path.name}: a row an hour and grid zone needs the columns {', '.join(_LONG)}"
        )
    return list(_of_table(path, terms))


def _of_table(path: Path, terms: FileTerms) -> Iterator[MeasuredHour]:
    table = read_table(path, terms.signal.factors, terms.hour_ending)
    slots = HOUR_S / table.step_s
    if slots < 1.0 or slots != round(slots):
        raise TraceError(
            f"{path.name}: steps of {table.step_s:g} s; prices are of hours: resample to one, or "
            "to a part of one"
        )
    for column, zone in enumerate(table.grid_zones):
        sums: dict[int, list[float]] = {}
        for row, value in enumerate(table.g_per_kwh[:, column].tolist()):
            hour = math.floor((table.start + row * table.step_s) / HOUR_S)
            if not math.isnan(value):
                sums.setdefault(hour, []).append(value)
        for hour, values in sums.items():
            if len(values) == round(slots):
                mean = math.fsum(values) / len(values)
                yield _measured(path, zone, hour, mean, terms)


def _measured(
    path: Path,
    zone: str,
    hour: int,
    g_per_kwh: float,
    terms: FileTerms,
    *,
    kind: Kind | None = None,
    low: float = math.nan,
    high: float = math.nan,
    source: str = "",
    observed_at: float = math.nan,
) -> MeasuredHour:
    kind = kind or terms.kind
    half = half_width_g(g_per_kwh, terms.signal, kind)
    return MeasuredHour(
        PriceKey(zone, hour, terms.signal.basis, terms.signal.factors),
        g_per_kwh,
        max(0.0, g_per_kwh - half) if math.isnan(low) else low,
        g_per_kwh + half if math.isnan(high) else high,
        kind,
        source or terms.source or path.name,
        (hour + 1) * HOUR_S if math.isnan(observed_at) else observed_at,
    )


def _of_row(path: Path, at: int, row: Mapping[str, Any], terms: FileTerms) -> MeasuredHour:
    def number(name: str) -> float:
        cell = row.get(name)
        if cell is None or cell == "":
            return math.nan
        try:
            value = float(cell)
        except (TypeError, ValueError):
            raise _wrong(path, at, name, f"{str(cell)[:40]!r} is not a number") from None
        if not 0.0 <= value <= _MOST_G_PER_KWH:
            raise _wrong(path, at, name, f"{value:g} is no grid's gCO2e/kWh")
        return value

    start = _time(path, at, "hour", row["hour"])
    if start % HOUR_S:
        raise _wrong(path, at, "hour", f"{row['hour']} is not the start of an hour, UTC")
    g_per_kwh = number("g_per_kwh")
    if math.isnan(g_per_kwh):
        raise _wrong(path, at, "g_per_kwh", "is missing: leave the row out")
    zone = str(row["grid_zone"] or "").strip()
    if not zone:
        raise _wrong(path, at, "grid_zone", "is missing")
    try:
        kind = Kind(row["kind"]) if row.get("kind") else None
    except ValueError:
        raise _wrong(path, at, "kind", f"{row['kind']!r}: measured or estimated") from None
    observed = row.get("observed_at")
    return _measured(
        path,
        zone,
        int(start // HOUR_S),
        g_per_kwh,
        terms,
        kind=kind,
        low=number("low_g_per_kwh"),
        high=number("high_g_per_kwh"),
        source=str(row.get("source") or ""),
        observed_at=_time(path, at, "observed_at", observed) if observed else math.nan,
    )


def _time(path: Path, at: int, name: str, cell: Any) -> float:
    try:
        return parse_time(cell)
    except (ValueError, AttributeError, TypeError) as error:
        raise _wrong(path, at, name, str(error)) from None


def _wrong(path: Path, at: int, name: str, what: str) -> TraceError:
    return TraceError(f"{path.name}: row {at}, {name}: {what}")
