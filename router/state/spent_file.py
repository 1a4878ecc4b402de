"""What carbon budgets have spent on one day, in a file: read at the start, replaced now and then.

JSON, as what a gateway learned is. Each process writes one of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec

from router.errors import DataError
from router.replaced_file import ReplacedFile

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
        self._file = ReplacedFile(path, _MOST_BYTES)

    def read(self) -> SpentToday | None:
        """What was kept; None where there is no file.

        Raises DataError for what is no such file, OSError for what cannot be read.
        """
        body = self._file.read()
        if body is None:
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
        self._file.write(msgspec.json.encode({"format": SPENT_FORMAT, "spent": spent}))

    def remove(self) -> None:
        """It is kept elsewhere from now on. Never raises."""
        self._file.remove()
