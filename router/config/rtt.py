"""Round-trip times: the ``rtt`` table and ``origins`` -> one complete matrix in ms."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from router.config.problems import Problem, key_path, unknown
from router.config.schema import ConfigSchema, RttSchema

MAX_RTT_MS = 10_000.0

Matrix = dict[str, dict[str, float]]


def rtt_matrix(schema: ConfigSchema, folder: Path) -> tuple[Matrix, list[Problem]]:
    """``rtt_ms[origin][region]`` for every pair, and what is missing or wrong.

    ``origins`` adds to the table and overrides it. A blank cell is a missing pair, never 0.
    """
    problems: list[Problem] = []
    matrix: Matrix = {}
    if schema.rtt is not None:
        matrix, problems = _from_table(schema.rtt, sorted(schema.regions), folder)
    for origin, entry in schema.origins.items():
        row = matrix.setdefault(origin, {})
        for region, rtt_ms in entry.rtt_ms.items():
            if region not in schema.regions:
                where = key_path(["origins", origin, "rtt_ms", region])
                problems.append((where, unknown("region", region, schema.regions)))
            row[region] = rtt_ms
    if not matrix and not problems:
        text = "no round-trip times; give origins.<origin>.rtt_ms by region, or rtt.file"
        problems.append(("origins", text))
    for origin, row in matrix.items():
        missing = sorted(set(schema.regions) - set(row))
        if missing:
            where = key_path(["origins", origin, "rtt_ms"])
            problems.append((where, f"no round-trip time to {', '.join(missing)}; add it in ms"))
    return matrix, problems


def _from_table(rtt: RttSchema, regions: list[str], folder: Path) -> tuple[Matrix, list[Problem]]:
    problems: list[Problem] = []
    for region in rtt.columns:
        if region not in regions:
            where = key_path(["rtt", "columns", region])
            problems.append((where, unknown("region", region, regions)))
    try:
        rows, header = _read_rows(folder / rtt.file)
    except ValueError as error:
        return {}, [*problems, ("rtt.file", f"{folder / rtt.file}: {error}")]
    places: dict[str, int] = {}
    for region in regions:
        column = rtt.columns.get(region, region)
        if column in header:
            places[region] = header[column]
        elif region in rtt.columns:
            where = key_path(["rtt", "columns", region])
            problems.append((where, unknown("column", column, header)))
    for index, origin in enumerate(rtt.origins or []):
        if origin not in rows:
            problems.append((f"rtt.origins[{index}]", unknown("row", origin, rows)))
    matrix: Matrix = {}
    for origin in rtt.origins or rows:
        cells = rows.get(origin)
        if cells is None:
            continue
        matrix[origin] = {}
        for region, place in places.items():
            cell = cells[place].strip()
            if not cell:
                continue
            value = _milliseconds(cell)
            if math.isnan(value):
                text = (
                    f"{folder / rtt.file}: row {origin}, column {rtt.columns.get(region, region)}: "
                    f"{cell[:40]!r} is not a time from 0 to {MAX_RTT_MS:g} ms"
                )
                problems.append(("rtt.file", text))
                continue
            matrix[origin][region] = value
    return matrix, problems


def _read_rows(path: Path) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Rows by origin and places of the columns. Raises ValueError saying what is wrong."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = [row for row in csv.reader(file, strict=True) if row]
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"not CSV: {error}") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if len(table) < 2 or len(table[0]) < 2:
        raise ValueError("needs a header (origin, then regions) and one row an origin")
    header = {name.strip(): place for place, name in enumerate(table[0]) if place > 0}
    if len(header) != len(table[0]) - 1:
        raise ValueError("a column name occurs twice")
    rows: dict[str, list[str]] = {}
    for number, row in enumerate(table[1:], start=2):
        origin = row[0].strip()
        if len(row) != len(table[0]):
            raise ValueError(f"row {number} has {len(row)} cells, the header {len(table[0])}")
        if not origin or origin in rows:
            raise ValueError(f"row {number}: origin {origin!r} is empty or occurs twice")
        rows[origin] = row
    return rows, header


def _milliseconds(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        return math.nan
    return value if 0.0 <= value <= MAX_RTT_MS else math.nan
