"""What a process of a gateway learned, in a file: read at the start, replaced now and then.

JSON, so that an operator can look at it. What is read is held against the shape of `Learned` here,
and figure by figure by those who take it back. Of several workers each has a file of its own.
"""

from __future__ import annotations

import contextlib
import glob
import re
from pathlib import Path
from typing import Final

import msgspec

from router.core.evidence import Told
from router.core.learned import Learned
from router.errors import DataError
from router.replaced_file import ReplacedFile

# Of what is in the file, and how it is meant: another number is another format.
FORMAT: Final = 1
# Of 4,096 tenants with long names, and 10,000 endpoints, about 15 MiB.
_MOST_BYTES: Final = 32 * 2**20
# Of workers after the first.
_OTHERS: Final = re.compile(r"[2-9]|[1-9][0-9]{1,3}")


class _Headed(msgspec.Struct):
    format: int
    learned: msgspec.Raw
    taken_up: msgspec.Raw = msgspec.Raw(b"{}")


class LearnedFile:
    """One file; threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = ReplacedFile(path, _MOST_BYTES)

    def read(self) -> Told | None:
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
            return Told(
                msgspec.json.decode(headed.learned, type=Learned),
                msgspec.json.decode(headed.taken_up, type=Learned),
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
            raise DataError(f"not what a gateway learned: {error}") from None

    def age_s(self, now: float) -> float:
        """Since it was written, by the file system's clock; 0 where there is no file."""
        try:
            return max(now - self.path.stat().st_mtime, 0.0)
        except OSError:
            return 0.0

    def write(self, told: Told) -> None:
        """Replace what is kept. Raises OSError, and leaves the old file."""
        body = {"format": FORMAT, "learned": told.own}
        if told.others != Learned():
            body["taken_up"] = told.others
        self._file.write(msgspec.json.encode(body))

    def clean(self) -> None:
        """Remove what processes that were killed left aside. Never raises."""
        self._file.clean()

    def remove(self) -> None:
        """It is kept elsewhere from now on. Never raises."""
        self._file.remove()


def learned_path(path: Path, number: int) -> Path:
    """Of worker ``number``; ``path``: of the first, 1, and of a process alone."""
    return path if number == 1 else path.with_name(f"{path.name}.{number}")


def learned_paths(path: Path) -> dict[int, Path]:
    """By number: the first, and what others there are. Never raises."""
    found = {1: path}
    with contextlib.suppress(OSError):
        for one in path.parent.glob(f"{glob.escape(path.name)}.*"):
            number = one.name.removeprefix(f"{path.name}.")
            if _OTHERS.fullmatch(number):
                found[int(number)] = one
    return dict(sorted(found.items()))
