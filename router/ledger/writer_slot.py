"""Who writes: the place of one process in a ledger's folder, locked, with what outlives it.

``_writers/SLOT/`` holds the lock, and of each table: journals, where the chain stands
(``TABLE.head.json``), and how many rows were ever numbered (``TABLE.count``, eight bytes in memory
that is shared with the kernel: a process that is killed loses rows, not their number).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from router.errors import ConfigError, DataError
from router.ledger.links import NO_LINK, Gap
from router.ledger.sealed_files import Head
from router.replaced_file import ReplacedFile

WRITERS: Final = "_writers"
_LOCK: Final = "lock"
_COUNT_BYTES: Final = 8
_MOST_BYTES: Final = 1 << 20
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class _Standing:
    format: int
    link: int = 0
    hash: str = NO_LINK
    last_seq: int = 0
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class _Named:
    writer: str


class WriterSlot:
    """One process'. ``writer``: its name in rows and files, unlike any other's for ever."""

    def __init__(self, root: Path, slot: str, unique: str) -> None:
        """Take it; ``unique``: makes the name of a writer that is new its own.

        Raises ConfigError where another process has it, OSError where the folder cannot be used.
        """
        self.folder = root / WRITERS / slot
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o640)
        if not _locked(self._lock):
            os.close(self._lock)
            raise _taken(root, slot)
        self.writer = self._named(slot, unique)
        # How often it was taken.
        self.takes = 1
        self._root = root
        self._counts: dict[str, RowCount] = {}

    def renew(self) -> None:
        """Take it again, under the name that it has, where somebody removed the folder; `takes`
        says so, and each count is another one then. Raises OSError, and changes nothing: also
        where another process has it by now."""
        if self._is_there():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o640)
        try:
            if not _locked(lock):
                raise OSError(str(_taken(self._root, self.folder.name)))
            counts = {}
            for table, old in self._counts.items():
                counts[table] = RowCount(self.folder / f"{table}.count")
                counts[table].value = old.value
            self._writer_file().write(msgspec.json.encode(_Named(self.writer)), 0o640)
        except OSError:
            os.close(lock)
            raise
        os.close(self._lock)
        # The event loop may still raise the old ones: they are left to be collected.
        self._lock, self._counts = lock, counts
        self.takes += 1

    def _is_there(self) -> bool:
        try:
            found = (self.folder / _LOCK).stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self._lock))

    def count(self, table: str) -> RowCount:
        """How many rows of ``table`` were ever numbered. Raises OSError."""
        if table not in self._counts:
            self._counts[table] = RowCount(self.folder / f"{table}.count")
        return self._counts[table]

    def standing(self, table: str) -> tuple[Head, tuple[Gap, ...]]:
        """Where the chain of ``table`` stands, and gaps that its next link has to tell.

        Raises DataError for a file that is none, OSError.
        """
        file = self._head(table)
        body = file.read()
        if body is None:
            return Head(), ()
        try:
            found = msgspec.json.decode(body, type=_Standing)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DataError(f"{file.path}: not where a chain stands: {error}") from None
        if found.format != _FORMAT:
            raise DataError(f"{file.path}: of format {found.format}, not {_FORMAT}")
        return Head(found.link, found.hash, found.last_seq), found.gaps

    def stand(self, table: str, head: Head, gaps: tuple[Gap, ...]) -> None:
        """The chain stands there from now on. Raises OSError."""
        standing = _Standing(_FORMAT, head.link, head.hash, head.last_seq, gaps)
        self._head(table).write(msgspec.json.encode(standing), 0o640)

    def stood_at(self, table: str) -> float:
        """When that was last said, else when the slot was first taken, unix s. Raises OSError."""
        head = self.folder / f"{table}.head.json"
        return (head if head.exists() else self.folder / "writer.json").stat().st_mtime

    def close(self) -> None:
        """Others may have it."""
        for count in self._counts.values():
            count.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _head(self, table: str) -> ReplacedFile:
        return ReplacedFile(self.folder / f"{table}.head.json", _MOST_BYTES)

    def _writer_file(self) -> ReplacedFile:
        return ReplacedFile(self.folder / "writer.json", _MOST_BYTES)

    def _named(self, slot: str, unique: str) -> str:
        file = self._writer_file()
        body = file.read()
        if body is None:
            writer = f"{slot}-{unique}"
            file.write(msgspec.json.encode(_Named(writer)), 0o640)
            return writer
        try:
            return msgspec.json.decode(body, type=_Named).writer
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DataError(f"{file.path}: not a writer's name: {error}") from None


def require_free(root: Path, slots: Iterable[str]) -> None:
    """Take none of them, and make no folder. Raises ConfigError where another process has one,
    OSError where that cannot be told."""
    for slot in slots:
        try:
            lock = os.open(root / WRITERS / slot / _LOCK, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            if not _locked(lock):
                raise _taken(root, slot)
        finally:
            os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _taken(root: Path, slot: str) -> ConfigError:
    fix = "give each gateway a dir, or a name, of its own"
    problem = f"another process writes as {slot!r} in {root}: {fix}"
    return ConfigError("ledger", [("ledger.name", problem)])


class RowCount:
    """A number on the disk that is raised without a call to the system."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where there is no room for eight bytes."""
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        try:
            if os.fstat(file).st_size < _COUNT_BYTES:
                # A page without room on the disk would end the process when it is written.
                os.pwrite(file, bytes(_COUNT_BYTES), 0)
                os.fsync(file)
            self._memory = mmap.mmap(file, _COUNT_BYTES)
        finally:
            os.close(file)
        # The number itself, as memory.
        self.cell = memoryview(self._memory).cast("Q")

    @property
    def value(self) -> int:
        """So far."""
        return self.cell[0]

    @value.setter
    def value(self, count: int) -> None:
        self.cell[0] = count

    def raised(self) -> int:
        """One more."""
        count = self.cell[0] + 1
        self.cell[0] = count
        return count

    def close(self) -> None:
        """It is not raised any more."""
        self.cell.release()
        self._memory.close()
