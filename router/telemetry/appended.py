"""A text file that several processes append to, and that is rotated by size.

Every append happens under a lock on the file (``flock``, which ends with the process that holds
it), whole or not at all. A file that was renamed, removed or emptied by somebody else, as logrotate
does, is noticed at the next append and begun anew.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

_MODE: Final = 0o640
_TRIES: Final = 10


class AppendedFile:
    """``header`` begins every file. Beyond ``max_bytes`` the file ``x.csv`` becomes ``x.1.csv``,
    that ``x.2.csv``, and so on; beyond ``keep`` the oldest is removed. Opened at the first append.
    """

    def __init__(self, path: Path, header: str, max_bytes: int, keep: int) -> None:
        self.path = path
        self._header = header.encode()
        self._max_bytes = max_bytes
        self._keep = keep

    def append(self, text: str) -> None:
        """Add ``text``, whole lines. Raises OSError, and leaves the file as it was."""
        data = text.encode(errors="replace")
        for _ in range(_TRIES):
            descriptor = self._locked()
            try:
                size = os.fstat(descriptor).st_size
                if size == 0 or (size + len(data) <= self._max_bytes and self._is_ours(descriptor)):
                    self._write(descriptor, data if size else self._header + data, size)
                    return
                self._rotate()
            finally:
                os.close(descriptor)
        raise self._contended()

    def _locked(self) -> int:
        """The file of this name, open and locked; it may be another than a moment ago."""
        for _ in range(_TRIES):
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, _MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                    return descriptor
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise self._contended()

    def _contended(self) -> OSError:
        return OSError(errno.EAGAIN, "other processes keep replacing it", str(self.path))

    def _is_ours(self, descriptor: int) -> bool:
        """Whether the file begins with the header; one of other columns is not mixed with."""
        return os.pread(descriptor, len(self._header), 0) == self._header

    def _rotate(self) -> None:
        if not self._keep:
            self.path.unlink()
            return
        for place in range(self._keep - 1, 0, -1):
            if self._rotated(place).exists():
                self._rotated(place).replace(self._rotated(place + 1))
        self.path.replace(self._rotated(1))

    def _rotated(self, place: int) -> Path:
        return self.path.with_name(f"{self.path.stem}.{place}{self.path.suffix}")

    @staticmethod
    def _write(descriptor: int, data: bytes, size: int) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            # A row that stands half in the file would spoil the whole of it for a reader.
            os.ftruncate(descriptor, size)
            raise
