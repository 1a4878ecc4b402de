"""A file that is replaced as a whole: whoever ends the process, or the power, leaves the old one or
the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from pathlib import Path

from router.errors import DataError


class ReplacedFile:
    """Written aside and renamed. Threads may share it; one process writes one file."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        """``most_bytes``: more is not read."""
        self.path = path
        self._most_bytes = most_bytes
        # The process' number makes the name aside its own.
        self._aside = path.with_name(f".{path.name}.{os.getpid()}.aside")
        self._lock = threading.Lock()

    def read(self) -> bytes | None:
        """What is in it; None where there is no file.

        Raises DataError for what is no regular file or too large, OSError for what cannot be read.
        """
        try:
            # Whatever stands there, opening it must not wait.
            opened = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            os.close(opened)
            raise DataError("not a regular file")
        with os.fdopen(opened, "rb") as file:
            body = file.read(self._most_bytes + 1)
        if len(body) > self._most_bytes:
            raise DataError(f"over {self._most_bytes} bytes")
        return body

    def write(self, body: bytes, mode: int = 0o600) -> None:
        """Replace it; ``mode``: who may do what with it, this user alone unless it says otherwise.
        Raises OSError, and leaves the old file."""
        with self._lock:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
                with os.fdopen(os.open(self._aside, flags, 0o600), "wb") as aside:
                    os.fchmod(aside.fileno(), mode)
                    aside.write(body)
                    aside.flush()
                    os.fsync(aside.fileno())
                self._aside.replace(self.path)
            except OSError:
                with contextlib.suppress(OSError):
                    self._aside.unlink()
                raise

    def clean(self) -> None:
        """Remove what processes that were killed left aside. Never raises."""
        with contextlib.suppress(OSError):
            for aside in self.path.parent.glob(f".{self.path.name}.*.aside"):
                with contextlib.suppress(OSError):
                    aside.unlink()

    def remove(self) -> None:
        """It is kept elsewhere from now on. Never raises."""
        with contextlib.suppress(OSError):
            self.path.unlink()
