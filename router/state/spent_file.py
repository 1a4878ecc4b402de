"""What carbon budgets have spent on one day, in a file: read at the start, replaced now and then.

JSON, written aside and renamed, as what a gateway learned is. Each process writes one of its own.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec

from router.errors import DataError

# Of what is in the file, and how it is meant: another number is another format.
SPENT_FORMAT: Final = 1
# Of 30,000 accounts with long names, about 6 MiB.
_MOST_BYTES: Final = 32 * 2**20

_Micrograms = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


@dataclass(frozen=True, slots=True)
class SpentToday:
    """``day``: counted from 1970; ``accounts``: by key, what is spent and reserved, how much of
    that a shared counter knows, and what that came to, micrograms; ``gateways``: that shared it, as
    last known."""

    day: int
    accounts: dict[str, tuple[_Micrograms, _Micrograms, _Micrograms]] = field(default_factory=dict)
    gateways: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1


@dataclass(frozen=True, slots=True)
class _Numbered:
    format: int
    spent: msgspec.Raw


class SpentFile:
    """One file of one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._aside = path.with_name(f".{path.name}.{os.getpid()}.aside")

    def read(self) -> SpentToday | None:
        """What was kept; None where there is no file.

        Raises DataError for what is no such file, OSError for what cannot be read.
        """
        try:
            body = self._body()
        except FileNotFoundError:
            return None
        try:
            numbered = msgspec.json.decode(body, type=_Numbered)
            if numbered.format != SPENT_FORMAT:
                raise DataError(f"format {numbered.format}, and this gateway reads {SPENT_FORMAT}")
            return msgspec.json.decode(numbered.spent, type=SpentToday)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
            raise DataError(f"not what budgets have spent: {error}") from None

    def write(self, spent: SpentToday) -> None:
        """Replace what is kept. Raises OSError, and leaves the old file."""
        body = msgspec.json.encode({"format": SPENT_FORMAT, "spent": spent})
        try:
            # Tenants are named in it: nobody else's business.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            with os.fdopen(os.open(self._aside, flags, 0o600), "wb") as aside:
                aside.write(body)
                aside.flush()
                os.fsync(aside.fileno())
            self._aside.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                self._aside.unlink()
            raise

    def remove(self) -> None:
        """It is kept elsewhere from now on. Never raises."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _body(self) -> bytes:
        # Whatever stands there, opening it must not wait.
        with os.fdopen(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DataError("not a regular file")
            body = file.read(_MOST_BYTES + 1)
        if len(body) > _MOST_BYTES:
            raise DataError(f"over {_MOST_BYTES} bytes")
        return body
