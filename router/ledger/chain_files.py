"""The files of a ledger, wherever it is, and what each says of itself."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from router.errors import DataError
from router.ledger.links import ChainLink
from router.ledger.sealed_files import SUFFIX, Head, read_links
from router.ledger.tables import LedgerTable
from router.ledger.writer_slot import WRITERS
from router.url_files import file_system

_CHECKPOINT: Final = "_checkpoint.json"
_PLACE: Final = re.compile(
    r"[^/]+/date=(\d{4}-\d\d-\d\d)/hour=([01]\d|2[0-3])/[^/._][^/]*" + re.escape(SUFFIX), re.ASCII
)


class LedgerFile(NamedTuple):
    """One file. ``name``: its path in the ledger; ``links``: () where it is none of a ledger, and
    ``fault`` says why; ``day``, ``hour``: of its folder."""

    name: str
    day: date
    hour: int
    size: int
    rows: int
    links: tuple[ChainLink, ...]
    fault: str = ""


class LedgerPlace:
    """A ledger's folder, or what is behind a URL."""

    def __init__(self, where: str | Path) -> None:
        """Raises DataError for what is no place."""
        self.where = str(where)
        self.system, self.root = file_system(where)

    def has(self, table: LedgerTable) -> bool:
        """Whether there is any of ``table``. Raises DataError where that cannot be told."""
        try:
            return self._is_folder(table.name)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.where}: cannot be read: {error}") from None

    def absence(self, table: LedgerTable) -> str:
        """What is said where there is none of ``table``: what to do, where rows are on their
        way."""
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._is_folder(WRITERS):
                return (
                    f"{self.where}: no file of {table.name} yet: rows are in the journals of their "
                    "gateway until their hour is over, for ledger.seal_s, or until it ends "
                    "(SIGTERM); ask again then"
                )
        return f"{self.where}: no ledger, or none with {table.name}"

    def _is_folder(self, name: str) -> bool:
        info = self.system.get_file_info(f"{self.root}/{name}")
        return bool(info.type is fs.FileType.Directory)

    def files(self, table: LedgerTable) -> list[LedgerFile]:
        """By name. Raises DataError where the place cannot be read, or is no ledger."""
        selector = fs.FileSelector(f"{self.root}/{table.name}", recursive=True)
        try:
            infos = self.system.get_file_info(selector)
        except FileNotFoundError:
            raise DataError(self.absence(table)) from None
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.where}: cannot be read: {error}") from None
        names = sorted((info.path, info.size) for info in infos if info.type is fs.FileType.File)
        return [self._file(path, size) for path, size in names if self._is_of_it(path)]

    def open(self, name: str) -> pq.ParquetFile:
        """Raises DataError for what is no Parquet file that is whole."""
        try:
            return pq.ParquetFile(self.system.open_input_file(f"{self.root}/{name}"))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"no Parquet file that is whole: {error}") from None

    def remove(self, name: str) -> None:
        """Raises OSError."""
        self.system.delete_file(f"{self.root}/{name}")

    def checkpoints(self, table: LedgerTable) -> dict[str, Head]:
        """By writer: where the chain of what is kept begins. Raises DataError, OSError."""
        path = f"{self.root}/{table.name}/{_CHECKPOINT}"
        if self.system.get_file_info(path).type is fs.FileType.NotFound:
            return {}
        with self.system.open_input_stream(path) as file:
            body = file.read()
        try:
            found = msgspec.json.decode(body, type=dict[str, tuple[int, str, int]])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not where chains begin: {error}") from None
        return {writer: Head(*head) for writer, head in found.items()}

    def keep_checkpoints(self, table: LedgerTable, heads: dict[str, Head]) -> None:
        """Raises OSError."""
        path = f"{self.root}/{table.name}/{_CHECKPOINT}"
        aside = path if self.is_object_store else f"{path}.aside"
        with self.system.open_output_stream(aside) as file:
            file.write(msgspec.json.encode(heads, order="sorted"))
        if aside != path:
            self.system.move(aside, path)

    @property
    def is_object_store(self) -> bool:
        """Whether a file is there once it is whole, and never before."""
        return self.system.type_name in ("s3", "gcs", "abfs")

    def _is_of_it(self, path: str) -> bool:
        *folders, name = path.removeprefix(f"{self.root}/").split("/")
        if any(part.startswith((".", "_")) for part in folders):
            return False
        # A hidden file of rows is told: there are engines that would read it.
        return name.endswith(SUFFIX) or not name.startswith((".", "_"))

    def _file(self, path: str, size: int) -> LedgerFile:
        name = path.removeprefix(f"{self.root}/")
        try:
            day, hour = _partition_of(name)
        except ValueError:
            return LedgerFile(name, date.min, 0, size, 0, (), "no place for a file of a ledger")
        try:
            with self.open(name) as file:
                rows = file.metadata.num_rows
                return LedgerFile(name, day, hour, size, rows, read_links(file))
        except DataError as error:
            return LedgerFile(name, day, hour, size, 0, (), str(error))


def each_link(files: list[LedgerFile]) -> Iterator[tuple[LedgerFile, ChainLink, int]]:
    """Every link with its file, and where its rows begin there."""
    for file in files:
        place = 0
        for link in file.links:
            yield file, link, place
            place += link.rows


def _partition_of(name: str) -> tuple[date, int]:
    """Raises ValueError."""
    found = _PLACE.fullmatch(name)
    if found is None:
        raise ValueError(name)
    return date.fromisoformat(found[1]), int(found[2])
