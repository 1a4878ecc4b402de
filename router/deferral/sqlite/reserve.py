"""Room on the disk that is kept back: where all else is full, what frees some needs a little.

To delete a row takes pages of the write-ahead log first. Without any, nobody could delete anything
any more, and a disk that was full once would be so until an operator came.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

_BYTES: Final = 2**20
# It is taken back when there is so much room again.
_ROOMY: Final = 4 * _BYTES


class Reserve:
    """One file, of all processes at a queue. Nothing here raises: it is the better for it, or as it
    was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.take()

    def take(self) -> None:
        """Keep room back, where none is and there is plenty."""
        with contextlib.suppress(OSError):
            if self._path.exists() or shutil.disk_usage(self._path.parent).free < _ROOMY:
                return
            made = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.posix_fallocate(made, 0, _BYTES)
            finally:
                os.close(made)

    def give(self) -> bool:
        """Give it up; False where there is none."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
