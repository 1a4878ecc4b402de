"""Rows of a table that an operator gives, CSV or Parquet, with where each of them stands."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from router.errors import TraceError
from router.extras import need


def table_columns(path: Path, extra: str) -> list[str]:
    """The header of the table at ``path``. Raises as `table_rows`."""
    if path.suffix == ".parquet":
        return [str(name) for name in _parquet(path, extra, rows=False).schema.names]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from None


def table_rows(path: Path, extra: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each row by column, with its line of a CSV file, its number of a Parquet file; Parquet takes
    ``extra``. Raises TraceError, which names file and row, and ConfigError without the extra."""
    if path.suffix == ".parquet":
        yield from enumerate(_parquet(path, extra, rows=True).to_pylist(), 1)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                if None in row or None in row.values():
                    raise TraceError(f"{path.name}: row {reader.line_num}: cells and header differ")
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from None


def _parquet(path: Path, extra: str, rows: bool) -> Any:
    """A table of arrow; without ``rows`` only its columns."""
    with need(extra, "reading Parquet", file=str(path), otherwise="use CSV"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        file = pq.ParquetFile(path)
        return file.read() if rows else file.schema_arrow.empty_table()
    except (pa.ArrowException, OSError) as error:
        raise TraceError(f"{path.name}: not a readable Parquet file: {error}") from None
