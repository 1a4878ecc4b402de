"""Sealed files go to the store that the operator named, and are removed here once they are there.

A thread of its own: a store that is slow or absent keeps nobody. Nothing there is overwritten: a
file of the same name that holds other rows is told, and both stay.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from router.errors import DataError
from router.ledger.sealed_files import SUFFIX
from router.url_files import file_system

_EVERY_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 300.0
_CHUNK: Final = 1 << 20

_log = logging.getLogger(__name__)


class Spool:
    """Files that wait here. ``folders``: of tables, first those that others lead to; ``writer``:
    whose alone are this process' to send."""

    def __init__(self, root: Path, folders: Sequence[str], writer: str) -> None:
        self._root = root
        self._folders = folders
        self._writer = writer

    def waiting(self) -> list[Path]:
        """Oldest first."""
        found = []
        for folder in self._folders:
            pattern = f"date=*/hour=*/{self._writer}-*{SUFFIX}"
            found += sorted((self._root / folder).glob(pattern))
        return found

    def bytes(self) -> float:
        """Of all of them."""
        total = 0
        for path in self.waiting():
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                # It was sent meanwhile.
                continue
        return float(total)

    def name(self, path: Path) -> str:
        """In the ledger, wherever that is."""
        return path.relative_to(self._root).as_posix()


class Shipper:
    """Sends what a spool holds to ``url``. ``on_waiting``: told of the bytes that wait."""

    def __init__(self, spool: Spool, url: str, on_waiting: Callable[[float], None]) -> None:
        self._spool = spool
        self._url = url
        self._on_waiting = on_waiting
        self._store: tuple[fs.FileSystem, str] | None = None
        self._stop = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="ledger store", daemon=True)

    def start(self) -> None:
        """Once."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Send what waits, if it takes no longer; else it waits for the next process here."""
        self._stop.set()
        self._thread.join(timeout_s)

    def send(self) -> bool:
        """Everything that waits; whether all of it is there. Never raises."""
        for path in self._spool.waiting():
            try:
                self._send(path)
            except (OSError, DataError, pa.ArrowException) as error:
                # Once, until it succeeds again: messages of stores may hold addresses, not secrets.
                if not self._failing:
                    _log.error("the ledger's store takes no files: %s", error)
                self._failing = True
                self._on_waiting(self._spool.bytes())
                return False
        self._failing = False
        self._on_waiting(self._spool.bytes())
        return True

    def _send(self, path: Path) -> None:
        if self._store is None:
            self._store = file_system(self._url)
        system, root = self._store
        there = f"{root}/{self._spool.name(path)}"
        if system.get_file_info(there).type is fs.FileType.NotFound:
            _put(system, path, there)
        elif _marks(system, there) != _marks(fs.LocalFileSystem(), str(path)):
            raise DataError(f"{there}: another file is there: nothing is overwritten")
        if system.get_file_info(there).size != path.stat().st_size:
            raise DataError(f"{there}: not all of it arrived")
        path.unlink()

    def _run(self) -> None:
        pause_s, stopping = _EVERY_S, False
        while not stopping:
            stopping = self._stop.wait(pause_s)
            sent = self.send()
            pause_s = _EVERY_S if sent else min(2.0 * pause_s, _LONGEST_PAUSE_S)


def _put(system: fs.FileSystem, path: Path, there: str) -> None:
    folder, _, name = there.rpartition("/")
    if isinstance(system, fs.LocalFileSystem):
        system.create_dir(folder, recursive=True)
    # An object is there once it is whole; a file of a folder that others read is not.
    is_object = _is_object_store(system)
    aside = there if is_object else f"{folder}/.{name}.aside"
    with path.open("rb") as source, system.open_output_stream(aside) as target:
        while chunk := source.read(_CHUNK):
            target.write(chunk)
    if not is_object:
        system.move(aside, there)


def _is_object_store(system: fs.FileSystem) -> bool:
    return system.type_name in ("s3", "gcs", "abfs")


def _marks(system: fs.FileSystem, path: str) -> tuple[object, int]:
    """By which two files of one name are told apart: their links, where they have some, and so on,
    and their rows."""
    with system.open_input_file(path) as file, pq.ParquetFile(file) as parquet:
        return parquet.schema_arrow.metadata, parquet.metadata.num_rows
