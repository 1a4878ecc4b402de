"""What a gateway learned, in a file: read at the start, replaced now and then.

JSON, so that an operator can look at it. A file is written aside and renamed, so that whoever ends
the process, or the power, leaves the old one or the new one, never half of one. What is read is
held against the shape of `Learned` here, and figure by figure by those who take it back.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from router.core.learned import Learned
from router.errors import DataError

# Of what is in the file, and how it is meant: another number is another format.
FORMAT: Final = 1
# Of 4,096 tenants with long names, and 10,000 endpoints, about 10 MiB.
_MOST_BYTES: Final = 32 * 2**20


@dataclass(frozen=True, slots=True)
class _Headed:
    format: int
    learned: msgspec.Raw


class LearnedFile:
    """One file; threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # One process writes one file, so its number makes the name aside its own.
        self._aside = path.with_name(f".{path.name}.{os.getpid()}.aside")
        self._lock = threading.Lock()

    def read(self) -> Learned | None:
        """What was kept; None where there is no file.

        Raises DataError for what is no such file, OSError for what cannot be read.
        """
        try:
            body = self._body()
        except FileNotFoundError:
            return None
        try:
            headed = msgspec.json.decode(body, type=_Headed)
            if headed.format != FORMAT:
                raise DataError(f"format {headed.format}, and this gateway reads {FORMAT}")
            return msgspec.json.decode(headed.learned, type=Learned)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
            raise DataError(f"not what a gateway learned: {error}") from None

    def age_s(self, now: float) -> float:
        """Since it was written, by the file system's clock; 0 where there is no file."""
        try:
            return max(now - self._path.stat().st_mtime, 0.0)
        except OSError:
            return 0.0

    def write(self, learned: Learned) -> None:
        """Replace what is kept. Raises OSError, and leaves the old file."""
        body = msgspec.json.encode({"format": FORMAT, "learned": learned})
        with self._lock:
            try:
                # Tenants are named in it: nobody else's business.
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
                with os.fdopen(os.open(self._aside, flags, 0o600), "wb") as aside:
                    aside.write(body)
                    aside.flush()
                    os.fsync(aside.fileno())
                self._aside.replace(self._path)
            except OSError:
                with contextlib.suppress(OSError):
                    self._aside.unlink()
                raise

    def clean(self) -> None:
        """Remove what processes that were killed left aside. Never raises."""
        with contextlib.suppress(OSError):
            for aside in self._path.parent.glob(f".{self._path.name}.*.aside"):
                with contextlib.suppress(OSError):
                    aside.unlink()

    def _body(self) -> bytes:
        # Whatever stands there, opening it must not wait.
        with os.fdopen(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise DataError("not a regular file")
            body = file.read(_MOST_BYTES + 1)
        if len(body) > _MOST_BYTES:
            raise DataError(f"over {_MOST_BYTES} bytes")
        return body
