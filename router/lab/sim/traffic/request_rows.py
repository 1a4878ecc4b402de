"""A file of requests as rows: CSV, gzipped CSV, Parquet or a trace's JSON lines, in parts.

What they mean is checked in ``router.lab.sim.traffic.workload_file``.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.errors import TraceError
from router.extras import need
from router.units import MS_PER_S

# A log of requests has `TIME` instead of `ARRIVAL`: UTC, for an hour of another day than the
# scenario's.
ARRIVAL: Final = "arrival_s"
TIME: Final = "time"
NEEDED: Final = (ARRIVAL, "origin", "model", "input_tokens", "output_tokens")
BUDGETS: Final = ("ttft_budget_ms", "tpot_budget_ms", "e2e_budget_ms")
# Names of a prompt's blocks.
BLOCKS: Final = "hash_ids"
OPTIONAL: Final = (
    TIME, *BUDGETS, "tenant", "residency", "deadline_s", "max_output_tokens", "sample", BLOCKS,
)  # fmt: skip
NUMBERS: Final = (
    ARRIVAL, "input_tokens", "output_tokens", *BUDGETS, "deadline_s", "max_output_tokens", "sample",
)  # fmt: skip
_READ_ROWS: Final = 65_536
# What the Mooncake traces call them; their times are ms.
_TRACE: Final = {
    "timestamp": ARRIVAL, "input_length": "input_tokens", "output_length": "output_tokens",
}  # fmt: skip

Numbers = NDArray[np.float64]


class RequestRows(NamedTuple):
    """Some rows as they stand in the file; ``places``: row numbers for people. A column that the
    file lacks is absent; numbers that are blank are NaN, texts "".
    """

    places: Sequence[int]
    numbers: Mapping[str, Numbers]
    texts: Mapping[str, Sequence[str]]


def open_rows(path: Path, columns: Callable[[Sequence[str]], None]) -> Iterator[RequestRows]:
    """The file's rows in parts; ``columns`` is called with the header first."""
    if path.suffix == ".parquet":
        yield from _parquet(path, columns)
        return
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            if path.name.removesuffix(".gz").endswith(".jsonl"):
                yield from _json_lines(file, path, columns)
            else:
                yield from _csv(csv.reader(file, strict=True), path, columns)
    except UnicodeDecodeError as error:
        raise TraceError(f"{path.name}: not UTF-8 text ({error}); save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"{path.name}: cannot be read from {path}: {error}") from error


def _csv(
    reader: Any, path: Path, columns: Callable[[Sequence[str]], None]
) -> Iterator[RequestRows]:
    try:
        header = [name.strip() for name in next(reader, [])]
        columns(header)
        rows: list[list[str]] = []
        places: list[int] = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                text = f"{len(cells)} cells under a header of {len(header)}"
                raise TraceError(f"{path.name}: row {reader.line_num}: {text}")
            rows.append(cells)
            places.append(reader.line_num)
            if len(rows) == _READ_ROWS:
                yield _of_cells(header, rows, places, path)
                rows, places = [], []
        if rows:
            yield _of_cells(header, rows, places, path)
    except csv.Error as error:
        raise TraceError(f"{path.name}: row {reader.line_num}: not CSV: {error}") from error


def _json_lines(
    lines: Iterable[str], path: Path, columns: Callable[[Sequence[str]], None]
) -> Iterator[RequestRows]:
    """An object a line: a trace's, or one of our own columns."""
    header: list[str] = []
    rows: list[list[str]] = []
    places: list[int] = []
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
        except ValueError as error:
            raise TraceError(f"{path.name}: row {place}: not JSON: {error}") from error
        if not isinstance(given, dict):
            raise TraceError(f"{path.name}: row {place}: not a JSON object")
        named = {_TRACE.get(str(key), str(key)): _cell(key, value) for key, value in given.items()}
        if not header:
            header = list(named)
            columns(header)
        rows.append([named.get(name, "") for name in header])
        places.append(place)
        if len(rows) == _READ_ROWS:
            yield _of_cells(header, rows, places, path)
            rows, places = [], []
    if not header:
        columns(header)
    if rows:
        yield _of_cells(header, rows, places, path)


def _cell(key: str, value: object) -> str:
    """A value as a CSV file would hold it."""
    if key == "timestamp" and isinstance(value, int | float):
        return repr(value / MS_PER_S)
    return "" if value is None else str(value)


def _of_cells(
    header: Sequence[str], rows: Sequence[Sequence[str]], places: Sequence[int], path: Path
) -> RequestRows:
    numbers, texts = {}, {}
    for name, cells in zip(header, zip(*rows, strict=True), strict=True):
        if name in NUMBERS:
            numbers[name] = _parsed(cells, places, name, path)
        elif name in (*NEEDED, *OPTIONAL):
            texts[name] = [cell.strip() for cell in cells]
    return RequestRows(places, numbers, texts)


def _parsed(cells: Sequence[str], places: Sequence[int], name: str, path: Path) -> Numbers:
    try:
        return np.array([float(cell) if cell else math.nan for cell in cells])
    except ValueError:
        pass
    values = np.empty(len(cells))
    for index, cell in enumerate(cells):
        try:
            values[index] = float(cell) if cell.strip() else math.nan
        except ValueError:
            text = f"{cell[:40]!r} is not a number; write it as 12.5, and leave a missing one blank"
            raise TraceError(f"{path.name}: row {places[index]}, column {name}: {text}") from None
    return values


def _parquet(path: Path, columns: Callable[[Sequence[str]], None]) -> Iterator[RequestRows]:
    with need("parquet", "reading Parquet", file=str(path), otherwise="use CSV"):
        import pyarrow
        import pyarrow.parquet
    try:
        file = pyarrow.parquet.ParquetFile(path)
        names = file.schema_arrow.names
        columns(names)
        wanted = [name for name in names if name in (*NEEDED, *OPTIONAL)]
        first = 1
        for batch in file.iter_batches(batch_size=_READ_ROWS, columns=wanted):
            if batch.num_rows:
                yield _of_batch(batch, range(first, first + batch.num_rows), path)
            first += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise TraceError(f"{path.name}: not a readable Parquet file: {error}") from error


def _of_batch(batch: Any, places: Sequence[int], path: Path) -> RequestRows:
    import pyarrow

    numbers, texts = {}, {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        is_number = name in NUMBERS
        if name == BLOCKS and pyarrow.types.is_list(column.type):
            texts[name] = [" ".join(map(str, names or ())) for names in column.to_pylist()]
            continue
        target = pyarrow.float64() if is_number else pyarrow.string()
        try:
            if is_number and pyarrow.types.is_boolean(column.type):
                raise pyarrow.ArrowInvalid("a truth value is no number")
            cast = column.cast(target, safe=False)
        except pyarrow.ArrowException as error:
            text = f"holds {column.type}, not {'numbers' if is_number else 'text'}"
            raise TraceError(f"{path.name}: row 1, column {name}: {text}") from error
        if is_number:
            numbers[name] = cast.to_numpy(zero_copy_only=False).astype(np.float64)
        else:
            texts[name] = [(text or "").strip() for text in cast.to_pylist()]
    return RequestRows(places, numbers, texts)
