"""A ledger opened for reading: views in DuckDB, and the hashes of the files that they read."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from router.errors import ConfigError, DataError
from router.extras import need
from router.ledger.month import Month

with contextlib.suppress(ImportError):
    import duckdb

_CHUNK: Final = 1 << 20
_MEMORY: Final = re.compile(r"\d+(\.\d+)?\s?[KMGT]i?B", re.ASCII)


class ReadFile(NamedTuple):
    """``name``: relative to the ledger."""

    name: str
    size: int
    sha256: str


def open_ledger(
    ledger: Path, threads: int | None = None, memory: str = ""
) -> duckdb.DuckDBPyConnection:
    """A connection with the views ``receipts`` and ``energy``. ``memory``: at most, such as 4GB.

    Raises ConfigError without the extra, and DataError for what is no ledger.
    """
    with need("ledger", "reading a ledger", file=str(ledger)):
        import duckdb

        from router.ledger.reading import relation
        from router.ledger.tables import ENERGY, RECEIPTS
    if not (ledger / RECEIPTS.name).is_dir():
        raise DataError(f"{ledger}: no ledger: there is no folder {RECEIPTS.name} in it")
    connection = duckdb.connect(config={"preserve_insertion_order": "false"})
    if threads is not None:
        connection.execute(f"SET threads = {int(threads)}")
    if memory:
        if not _MEMORY.fullmatch(memory):
            raise ConfigError("--memory", [("", f"{memory!r} is no size; write it as 4GB")])
        connection.execute(f"SET memory_limit = '{memory}'")
    with told(ledger):
        for table in (RECEIPTS, ENERGY):
            relation(connection, ledger, table).create_view(table.name)
    return connection


@contextlib.contextmanager
def told(ledger: Path) -> Iterator[None]:
    """DuckDB's complaint of a file becomes a DataError, which names the file."""
    try:
        yield
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        broken = _broken(ledger)
        named = f"{broken}: not a readable Parquet file of a ledger" if broken else first
        raise DataError(f"{ledger}: {named}") from None


def _broken(ledger: Path) -> str:
    """The first file that is no Parquet file, or lacks the ledger's columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from router.ledger.tables import RECEIPTS

    wanted = {column.name for column in RECEIPTS.columns}
    for path in sorted((ledger / RECEIPTS.name).glob("*/*/*.parquet")):
        try:
            if not wanted <= set(pq.read_schema(path).names):
                return str(path)
        except (pa.ArrowException, OSError):
            return str(path)
    return ""


def read_files(ledger: Path, month: Month) -> list[ReadFile]:
    """Every file that a report of ``month`` reads, in order of names."""
    first, last = month.days_of_rows
    days = {f"date={day}" for day in _days(first.toordinal(), last.toordinal())}
    found = []
    for path in sorted(ledger.glob("*/date=*/hour=*/*.parquet")):
        if path.parent.parent.name in days:
            found.append(_hashed(path, ledger))
    found += [_hashed(path, ledger) for path in sorted((ledger / "prices").glob("*.parquet"))]
    return found


def _days(first: int, last: int) -> list[str]:
    from datetime import date

    return [date.fromordinal(day).isoformat() for day in range(first, last + 1)]


def _hashed(path: Path, ledger: Path) -> ReadFile:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return ReadFile(path.relative_to(ledger).as_posix(), path.stat().st_size, digest.hexdigest())


def digest_of(files: list[ReadFile]) -> str:
    """One SHA-256 of all of them: of ``SHA256  NAME`` lines, as sha256sum prints them."""
    lines = "".join(f"{one.sha256}  {one.name}\n" for one in files)
    return hashlib.sha256(lines.encode()).hexdigest()
