"""What a gateway learned, in a file: read at the start, replaced now and then.

JSON, so that an operator can look at it. What is read is held against the shape of `Learned` here,
and figure by figure by those who take it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from router.core.learned import Learned
from router.errors import DataError
from router.replaced_file import ReplacedFile

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
        self._file = ReplacedFile(path, _MOST_BYTES)

    def read(self) -> Learned | None:
        """What was kept; None where there is no file.

        Raises DataError for what is no such file, OSError for what cannot be read.
        """
        body = self._file.read()
        if body is None:
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
            return max(now - self._file.path.stat().st_mtime, 0.0)
        except OSError:
            return 0.0

    def write(self, learned: Learned) -> None:
        """Replace what is kept. Raises OSError, and leaves the old file."""
        self._file.write(msgspec.json.encode({"format": FORMAT, "learned": learned}))

    def clean(self) -> None:
        """Remove what processes that were killed left aside. Never raises."""
        self._file.clean()
