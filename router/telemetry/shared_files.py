"""The files by which worker processes share their figures, with room on the disk for every byte.

prometheus_client maps sparse files into memory: on a full disk the first write into a new page ends
the process by SIGBUS. Here the room is taken before a byte is mapped; where there is none, the
figures go to memory of this process alone, and `unshared` says so.
"""

from __future__ import annotations

import logging
import mmap
import os
from pathlib import Path
from typing import Any, Final

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

_FIRST_BYTES: Final = 1 << 16

_log = logging.getLogger(__name__)
_unshared: set[str] = set()


def reserve_room() -> None:
    """Let every file of this process from here on have its room; before the first metric."""
    values.MmapedDict = ReservedFile  # type: ignore[attr-defined]


def unshared() -> bool:
    """Whether some figures of this process are in no file, for want of room."""
    return bool(_unshared)


class ReservedFile(MmapedDict):
    """One kind of figures of one process. When its room ends, what was shared so far stays in the
    file as it is, and this process goes on in memory."""

    _f: Any

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        try:
            if not read_mode:
                _make(Path(filename))
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        except OSError as error:
            self._f, self._fname, self._positions = None, filename, {}
            self._move_to_memory(b"", _FIRST_BYTES, error)
            self._used = 8
            self._m[:4] = self._used.to_bytes(4, "little")

    def _init_value(self, key: str) -> None:
        # Never more than the key padded, its length, value and time.
        needed = self._used + len(key.encode()) + 32
        capacity = self._capacity
        while needed > capacity:
            capacity *= 2
        if capacity > self._capacity:
            self._grow(capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Let go of the file."""
        if self._f is None:
            self._m.close()
        else:
            super().close()  # type: ignore[no-untyped-call]

    def _grow(self, capacity: int) -> None:
        if self._f is None:
            self._move_to_memory(self._m[: self._used], capacity, None)
            return
        try:
            _take_room(self._f.fileno(), self._capacity, capacity)
            self._m = mmap.mmap(self._f.fileno(), capacity)
            self._capacity = capacity
        except OSError as error:
            self._move_to_memory(self._m[: self._used], capacity, error)

    def _move_to_memory(self, content: bytes, capacity: int, error: OSError | None) -> None:
        if self._f is not None:
            self._f.close()
            self._f = None
        self._m = mmap.mmap(-1, capacity)
        self._m[: len(content)] = content
        self._capacity = capacity
        if error is not None:
            _unshared.add(self._fname)
            _log.error("metrics of this process are not shared with the others: %s", error)


def _make(path: Path) -> None:
    """A new file with room; whole at once, because others read every file that they find."""
    if path.exists():
        return
    aside = path.with_suffix(".new")
    try:
        with aside.open("wb") as file:
            _take_room(file.fileno(), 0, _FIRST_BYTES)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def _take_room(descriptor: int, used: int, wanted: int) -> None:
    """Raises OSError when the disk has no room for ``wanted`` bytes."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, used, wanted - used)
        return
    os.pwrite(descriptor, bytes(wanted - used), used)
