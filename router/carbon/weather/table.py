"""A file of weather: CSV(.gz), a row an hour and grid zone, of the past and of what is ahead.

Columns, in any order: ``datetime`` (start of the hour, ISO 8601, UTC), ``grid_zone``, and each
quantity with its unit: ``wind_speed_m_s``, ``irradiance_w_m2``, ``temperature_c``, ``dew_point_c``,
``precipitation_mm``; means over the hour, rain its sum. A blank cell is not known, never 0. What
stands for an hour is what was forecast for it, not what was measured afterwards: the forecaster
would trust the weather ahead too much.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from router.carbon.weather.conditions import QUANTITIES, WeatherForecast
from router.errors import TraceError
from router.units import HOUR_S

COLUMNS: Final = (
    "wind_speed_m_s", "irradiance_w_m2", "temperature_c", "dew_point_c", "precipitation_mm",
)  # fmt: skip
FORMAT: Final = "format: docs/carbon.md, Weather"
# Of one grid zone from its first row to its last: five years, 18 MB.
_MOST_HOURS: Final = 5 * 366 * 24


def read_weather(
    path: Path, only: Collection[str] | None = None, issued_at: float | None = None
) -> Mapping[str, WeatherForecast]:
    """What a file says, by grid zone; ``only``: those that are wanted.

    ``issued_at``: when it was known; left out, when the file was written. Raises TraceError naming
    file, row, column and the fix.
    """
    try:
        data = path.read_bytes()
        written = path.stat().st_mtime
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TraceError(f"{path.name}: cannot be read from {path}: {error}; {FORMAT}") from error
    known_at = written if issued_at is None else issued_at
    return parse_weather(io.StringIO(text, newline=""), path.name, only, known_at)


def parse_weather(
    lines: Iterable[str], name: str, only: Collection[str] | None, issued_at: float
) -> Mapping[str, WeatherForecast]:
    """As `read_weather`, of lines."""
    reader = csv.DictReader(lines, strict=True)
    hours: dict[str, dict[int, tuple[float, ...]]] = {}
    try:
        header = reader.fieldnames or ()
        missing = [column for column in ("datetime", "grid_zone", *COLUMNS) if column not in header]
        if missing:
            raise TraceError(f"{name}: row 1: has no column {missing[0]}; {FORMAT}")
        for cells in reader:
            row = reader.line_num
            if None in cells or None in cells.values():
                raise TraceError(f"{name}: row {row}: not as many cells as the header has")
            zone = cells["grid_zone"].strip()
            if only is not None and zone not in only:
                continue
            hour = _hour(cells["datetime"], name, row)
            values = tuple(_value(cells, place, name, row) for place in range(len(COLUMNS)))
            if hours.setdefault(zone, {}).setdefault(hour, values) is not values:
                raise TraceError(f"{name}: row {row}: {zone} has this hour twice; keep one")
    except csv.Error as error:
        raise TraceError(f"{name}: row {reader.line_num}: not CSV: {error}") from error
    return {zone: _forecast(name, zone, found, issued_at) for zone, found in hours.items()}


def _forecast(
    name: str, zone: str, found: Mapping[int, tuple[float, ...]], issued_at: float
) -> WeatherForecast:
    first_h = min(found)
    count = max(found) - first_h + 1
    if count > _MOST_HOURS:
        raise TraceError(f"{name}: {zone} reaches over {count} hours, of at most {_MOST_HOURS}")
    values = np.full((count, len(COLUMNS)), np.nan)
    for hour, row in found.items():
        values[hour - first_h] = row
    return WeatherForecast(f"weather:{name}", issued_at, first_h, values)


def _hour(text: str, name: str, row: int) -> int:
    try:
        when = datetime.fromisoformat(text.strip())
        hours = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() / HOUR_S
        if not hours.is_integer():
            raise ValueError
        return int(hours)
    except (ValueError, OverflowError):
        fix = f"{text[:40]!r} is no hour's start; write UTC as 2022-05-14T00:00Z"
        raise TraceError(f"{name}: row {row}, column datetime: {fix}") from None


def _value(cells: Mapping[str, str], place: int, name: str, row: int) -> float:
    column = COLUMNS[place]
    text = cells[column].strip()
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        fix = f"{text[:40]!r} is not a number; leave a missing one blank"
        raise TraceError(f"{name}: row {row}, column {column}: {fix}") from None
    if why := QUANTITIES[place].why_not(value):
        raise TraceError(f"{name}: row {row}, column {column}: {why}")
    return value
