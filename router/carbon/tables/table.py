"""A wide table of carbon intensity: CSV(.gz) or Parquet, one column a grid zone.

The first column is the start of each slot in UTC (ISO 8601; a stamp without an offset is taken as
UTC), rising in equal steps; the others are gCO2e/kWh. A blank cell is a missing value, never 0.
A file as Electricity Maps' portal gives it is a table of its grid zone
(`router.carbon.tables.download`). Parsing is pure; only ``read_table`` touches a file.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from router.carbon.tables.download import Download, download_of
from router.errors import TraceError
from router.extras import need
from router.model import Factors

FORMAT: Final = "format: docs/config.md, Tables of intensity"
# No grid emits more per kWh; a larger number is another unit.
_MOST_G_PER_KWH: Final = 5_000.0
# A life-cycle column that never reaches this is in kg/kWh: the cleanest real grids are near 9 g.
_LEAST_PEAK_G_PER_KWH: Final = 1.0
_STEP_LIMITS_S: Final = (60.0, 86_400.0)
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TraceTable:
    """A parsed trace. ``g_per_kwh``: shape (slots, zones), NaN where missing; ``start``: unix s."""

    name: str
    grid_zones: tuple[str, ...]
    start: float
    step_s: float
    g_per_kwh: NDArray[np.float64]


def parse_csv(
    lines: Iterable[str],
    name: str,
    factors: Factors,
    hour_ending: bool = False,
    only: Collection[str] | None = None,
) -> TraceTable:
    """Parse a wide CSV. ``hour_ending``: stamps are the end of each slot and move back one step.

    ``factors``: under LIFECYCLE a 0 is refused (no grid has it; it stands for a missing value).
    ``only``: columns that are wanted; others may hold anything, and come out as NaN. In a file of
    Electricity Maps' portal, its grid zone is a column, too, and the only one unless asked for
    others. Raises TraceError naming file, row, column and the fix.
    """
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, [])
        grid_zones = _grid_zones(header, name)
        own = download_of(header, factors)
        wanted = [zone if _is_wanted(zone, only, own) else "" for zone in grid_zones]
        zone_ids: set[str] = set()
        places: list[int] = []
        stamps: list[float] = []
        values: list[list[float]] = []
        columns = wanted if own is None else [*wanted, header[own.g_per_kwh]]
        for cells in reader:
            row = reader.line_num
            if not cells:
                continue
            _check_width(cells, header, name, row)
            places.append(row)
            stamps.append(_stamp(cells[0], name, row, header[0]))
            if own is not None:
                zone_ids.add(zone := cells[own.zone_id].strip())
                cells.append(cells[own.g_per_kwh] if only is None or zone in only else "")
            values.append(
                [
                    _value(cell, name, row, zone) if zone else math.nan
                    for cell, zone in zip(cells[1:], columns, strict=True)
                ]
            )
    except csv.Error as error:
        raise _error(name, reader.line_num, "", f"not CSV: {error}") from error
    matrix = np.array(values, dtype=np.float64).reshape(len(values), len(columns))
    if own is not None and places:
        grid_zones, matrix = _with_own(own.zone(zone_ids, name), grid_zones, matrix, only)
    return _table(name, grid_zones, stamps, places, matrix, factors, hour_ending)


def read_parquet(
    path: Path, factors: Factors, hour_ending: bool = False, only: Collection[str] | None = None
) -> TraceTable:
    """Read a Parquet file of the same shape; nulls and NaN are missing. Raises as ``parse_csv``.

    The first column holds timestamps or ISO 8601 text. Raises ConfigError without pyarrow.
    """
    with need("parquet", "reading Parquet", file=str(path), otherwise="use CSV"):
        import pyarrow
        import pyarrow.parquet
    try:
        content = pyarrow.parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError) as error:
        raise TraceError(f"{path.name}: not a readable Parquet file: {error}") from error
    grid_zones = _grid_zones(content.column_names, path.name)
    stamps = _parquet_stamps(content.column(0), path.name, content.column_names[0])
    own = download_of(content.column_names, factors)
    sources = {index: index + 1 for index, z in enumerate(grid_zones) if _is_wanted(z, only, own)}
    own_zone = ""
    if own is not None:
        own_zone = own.zone(set(map(str, content.column(own.zone_id).to_pylist())), path.name)
        if only is None or own_zone in only:
            sources[len(grid_zones)] = own.g_per_kwh
    matrix = np.full((len(stamps), len(grid_zones) + bool(own_zone)), np.nan)
    for index, place in sources.items():
        column, zone = content.column(place), content.column_names[place]
        kind = column.type
        if not (pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind)):
            fix = f"holds {kind}; store gCO2e/kWh as a float column, a missing value as null"
            raise _error(path.name, 1, zone, fix)
        matrix[:, index] = column.cast(pyarrow.float64(), safe=False).to_numpy()
    rows = range(1, len(stamps) + 1)
    if own_zone:
        grid_zones, matrix = _with_own(own_zone, grid_zones, matrix, only)
    return _table(path.name, grid_zones, stamps, rows, matrix, factors, hour_ending)


def read_table(
    path: Path, factors: Factors, hour_ending: bool = False, only: Collection[str] | None = None
) -> TraceTable:
    """Read CSV, gzipped CSV or Parquet by the file's suffix; ``only``: as for ``parse_csv``.

    Raises TraceError or ConfigError.
    """
    name = path.name
    if path.suffix == ".parquet":
        return read_parquet(path, factors, hour_ending, only)
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        text = data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"{name}: cannot be read from {path}: {error}; {FORMAT}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{name}: not UTF-8 text ({error}); save it as UTF-8 CSV") from error
    return parse_csv(io.StringIO(text, newline=""), name, factors, hour_ending, only)


def _is_wanted(column: str, only: Collection[str] | None, own: Download | None) -> bool:
    return own is None if only is None else column in only


def _with_own(
    zone: str,
    columns: tuple[str, ...],
    matrix: NDArray[np.float64],
    only: Collection[str] | None,
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The columns of a portal's file, and that of its grid zone, the last of ``matrix``."""
    if only is None:
        return (zone,), matrix[:, -1:]
    return (columns, matrix[:, :-1]) if zone in columns else ((*columns, zone), matrix)


def _error(name: str, row: int, column: str, text: str) -> TraceError:
    place = f"row {row}, column {column}" if column else f"row {row}"
    return TraceError(f"{name}: {place}: {text}")


def _grid_zones(header: Sequence[str], name: str) -> tuple[str, ...]:
    if len(header) < 2:
        fix = f"needs a header: a datetime column, then one column a grid zone ({FORMAT})"
        if header and (";" in header[0] or "\t" in header[0]):
            fix += "; separate cells by commas, and write decimals with a point"
        raise _error(name, 1, "", fix)
    if _STAMP.fullmatch(header[0].strip()):
        fix = f"is data; put a header above it: datetime, then the grid zones ({FORMAT})"
        raise _error(name, 1, "", fix)
    zones = tuple(cell.strip() for cell in header[1:])
    for index, zone in enumerate(zones, 2):
        if not zone:
            raise _error(name, 1, str(index), "has no name; write the grid zone's code")
        if zones.count(zone) > 1:
            raise _error(name, 1, zone, "appears more than once; keep one column a grid zone")
    return zones


def _check_width(cells: Sequence[str], header: Sequence[str], name: str, row: int) -> None:
    if len(cells) != len(header):
        text = f"{len(cells)} cells under a header of {len(header)}"
        raise _error(name, row, "", f"{text}; write one value, or a blank, for every column")


def _stamp(text: str, name: str, row: int, column: str) -> float:
    text = text.strip()
    try:
        if not _STAMP.fullmatch(text):
            raise ValueError
        return _utc_s(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        fix = f"{text[:40]!r} is not a time; write UTC as 2022-05-14T00:00Z"
        raise _error(name, row, column, fix) from None


def _utc_s(when: datetime) -> float:
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _value(text: str, name: str, row: int, zone: str) -> float:
    text = text.strip()
    if not text:
        return math.nan
    if not _NUMBER.fullmatch(text):
        fix = f"{text[:40]!r} is not a number; write g/kWh as 412.5, and leave a missing one blank"
        raise _error(name, row, zone, fix)
    return float(text)


def _parquet_stamps(column: Any, name: str, header: str) -> list[float]:
    import pyarrow

    is_time = pyarrow.types.is_timestamp(column.type)
    if is_time:
        column = column.cast(pyarrow.timestamp("us"), safe=False).cast(pyarrow.int64())
    stamps = []
    for row, cell in enumerate(column.to_pylist(), 1):
        if is_time and cell is not None:
            stamps.append(cell / 1e6)
        elif isinstance(cell, str):
            stamps.append(_stamp(cell, name, row, header))
        else:
            fix = (
                f"{cell!r} is not a time; make the first column UTC timestamps without gaps "
                "(of a pandas index: reset_index() before to_parquet)"
            )
            raise _error(name, row, header, fix)
    return stamps


def _table(
    name: str,
    grid_zones: tuple[str, ...],
    stamps: Sequence[float],
    rows: Sequence[int],
    matrix: NDArray[np.float64],
    factors: Factors,
    hour_ending: bool,
) -> TraceTable:
    """Check what shows only across cells; ``rows``: each slot's row in the file."""
    step_s = _step_s(name, stamps, rows)
    _check_range(name, grid_zones, rows, matrix, factors)
    start = stamps[0] - (step_s if hour_ending else 0.0)
    return TraceTable(name, grid_zones, start, step_s, matrix)


def _check_range(
    name: str,
    grid_zones: tuple[str, ...],
    rows: Sequence[int],
    matrix: NDArray[np.float64],
    factors: Factors,
) -> None:
    lifecycle = factors is Factors.LIFECYCLE
    good = np.isnan(matrix) | ((matrix >= 0.0) & (matrix <= _MOST_G_PER_KWH))
    if lifecycle:
        good &= matrix != 0.0
    if not good.all():
        slot, column = np.argwhere(~good)[0]
        value = float(matrix[slot, column])
        if value == 0.0:
            fix = "0 g/kWh does not exist with life-cycle factors; leave a missing value blank"
        elif value < 0.0:
            fix = f"{value:g} g/kWh is below 0; leave a missing value blank"
        else:
            fix = f"{value:g} is no grid's gCO2e/kWh; convert lb/MWh by 0.4536, g/MWh by 0.001"
        raise _error(name, rows[slot], grid_zones[column], fix)
    peaks = np.fmax.reduce(matrix, axis=0)
    for zone, peak in zip(grid_zones, peaks.tolist(), strict=True):
        if lifecycle and peak < _LEAST_PEAK_G_PER_KWH:
            fix = f"never exceeds {peak:g}, so it is not in gCO2e/kWh; multiply kg/kWh by 1000"
            raise _error(name, rows[0], zone, fix)


def _step_s(name: str, stamps: Sequence[float], rows: Sequence[int]) -> float:
    if len(stamps) < 2:
        raise TraceError(f"{name}: {len(stamps)} data rows; the step needs at least two")
    gaps = np.diff(np.asarray(stamps)).tolist()
    for index, gap in enumerate(gaps, 1):
        if gap <= 0.0:
            fix = (
                "does not come after the row before; stamps must be UTC and rise (in local time "
                "the end of daylight saving repeats an hour; a long table, with a row a grid zone, "
                "must be pivoted)"
            )
            raise _error(name, rows[index], "1", fix)
    step_s = min(gaps)
    for index, gap in enumerate(gaps, 1):
        if gap != step_s:
            fix = (
                f"comes {gap:.9g} s after the row before, others {step_s:.9g} s; steps must be "
                "equal: add the missing rows, with blank cells"
            )
            raise _error(name, rows[index], "1", fix)
    low, high = _STEP_LIMITS_S
    if not low <= step_s <= high:
        raise TraceError(f"{name}: a step of {step_s:.9g} s; resample to between 1 min and 24 h")
    return float(step_s)
