"""A ledger opened for reading: views in DuckDB, and the hashes of the files that they read."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from router.errors import ConfigError, DataError, NoLedgerError
from router.extras import need
from router.ledger.month import Month

if TYPE_CHECKING:
    from pyarrow import fs

    from router.ledger.links import ChainLink

with contextlib.suppress(ImportError):
    import duckdb

_CHUNK: Final = 1 << 20
_FILE: Final = re.compile(r".*/hour=\d\d/[^/._][^/]*\.parquet")
_MEMORY: Final = re.compile(r"\d+(\.\d+)?\s?[KMGT]i?B", re.ASCII)


class ReadFile(NamedTuple):
    """``name``: relative to the ledger."""

    name: str
    size: int
    sha256: str


def open_ledger(
    ledger: str | Path, threads: int | None = None, memory: str = ""
) -> duckdb.DuckDBPyConnection:
    """A connection with the views ``receipts`` and ``energy``. ``memory``: at most, such as 4GB.

    Raises ConfigError without the extra, and DataError for what is no ledger.
    """
    with need("ledger", "reading a ledger", file=str(ledger)):
        import duckdb

        from router.ledger.chain_files import LedgerPlace
        from router.ledger.reading import relation
        from router.ledger.tables import ENERGY, RECEIPTS
    place = LedgerPlace(ledger)
    if not place.has(RECEIPTS):
        raise NoLedgerError(place.absence(RECEIPTS))
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
def told(ledger: str | Path) -> Iterator[None]:
    """DuckDB's complaint of a file becomes a DataError, which names the file."""
    try:
        yield
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        broken = _broken(ledger)
        named = f"{broken}: not a readable Parquet file of a ledger" if broken else first
        raise DataError(f"{ledger}: {named}") from None


def _broken(ledger: str | Path) -> str:
    """The first file that no ledger wrote, or that is not whole."""
    from router.ledger.chain_files import LedgerPlace
    from router.ledger.tables import RECEIPTS

    files = LedgerPlace(ledger).files(RECEIPTS)
    return next((file.name for file in files if file.fault), "")


def read_files(ledger: str | Path, month: Month) -> list[ReadFile]:
    """Every file that a report of ``month`` reads, in order of names. Raises DataError."""
    import pyarrow as pa
    from pyarrow import fs

    from router.ledger.prices import price_files
    from router.ledger.tables import ENERGY, RECEIPTS
    from router.url_files import file_system

    system, root = file_system(ledger)
    first, last = (day.toordinal() for day in month.days_of_rows)
    folders = [
        f"{table.name}/date={date.fromordinal(day)}"
        for table in (ENERGY, RECEIPTS)
        for day in range(first, last + 1)
    ]
    names = []
    try:
        for folder in folders:
            selector = fs.FileSelector(f"{root}/{folder}", recursive=True, allow_not_found=True)
            names += [
                info.path.removeprefix(f"{root}/")
                for info in system.get_file_info(selector)
                if info.type is fs.FileType.File and _FILE.fullmatch(info.path)
            ]
        names = [*sorted(names), *price_files(ledger)]
        return [_hashed(system, root, name) for name in names]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{ledger}: cannot be read: {error}") from None


def _hashed(system: fs.FileSystem, root: str, name: str) -> ReadFile:
    digest, size = hashlib.sha256(), 0
    with system.open_input_stream(f"{root}/{name}") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return ReadFile(name, size, digest.hexdigest())


def links_of(ledger: str | Path, files: Sequence[ReadFile]) -> list[ChainLink]:
    """What the files of receipts among ``files`` say of themselves. Raises DataError."""
    from router.ledger.chain_files import LedgerPlace
    from router.ledger.sealed_files import read_links
    from router.ledger.tables import RECEIPTS

    place = LedgerPlace(ledger)
    found: list[ChainLink] = []
    for one in files:
        if one.name.startswith(f"{RECEIPTS.name}/"):
            try:
                with place.open(one.name) as file:
                    found += read_links(file)
            except DataError as error:
                raise DataError(
                    f"{ledger}: {one.name}: not a readable Parquet file of a ledger: {error}"
                ) from None
    return found


def digest_of(files: list[ReadFile]) -> str:
    """One SHA-256 of all of them: of ``SHA256  NAME`` lines, as sha256sum prints them."""
    lines = "".join(f"{one.sha256}  {one.name}\n" for one in files)
    return hashlib.sha256(lines.encode()).hexdigest()
