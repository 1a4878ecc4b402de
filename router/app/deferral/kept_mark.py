"""By which clock deadlines have passed: kept, so that a restart believes no clock that it finds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import msgspec

from router.deferral.clock_leaps import ClockMark, believed
from router.errors import DataError
from router.replaced_file import ReplacedFile

_MOST_BYTES: Final = 4096
# Between two writings of one that is no news, s.
_WRITTEN_S: Final = 300.0

_log = logging.getLogger(__name__)


class KeptMark:
    """Of one process; others of its machine may write the same file, and mean the same."""

    def __init__(self, path: Path, boot: str) -> None:
        """``boot``: other after each start of the machine."""
        self._file = ReplacedFile(path, _MOST_BYTES)
        self._boot = boot
        self._written = self._mark = self._read()

    def now(self, ticks: float, wall: float) -> float:
        """Unix s by which deadlines have passed. ``ticks``: of the machine's monotonic clock, s.

        Writes a small file now and then."""
        before, self._mark = self._mark, believed(self._mark, self._boot, ticks, wall)
        leapt = self._mark.leapt_at is not None
        if leapt and (before is None or before.leapt_at is None):
            _log.error(
                "the wall clock is far ahead of the time that has passed: no deferred work expires "
                "and no file is deleted by it until it has stood so for an hour",
                extra={"ahead_s": round(wall - self._mark.wall)},
            )
        written = self._written
        if (
            written is None
            or written.leapt_at != self._mark.leapt_at
            or ticks - written.ticks >= _WRITTEN_S
        ):
            self._write()
        return self._mark.wall

    def _read(self) -> ClockMark | None:
        try:
            body = self._file.read()
            return None if body is None else msgspec.json.decode(body, type=ClockMark)
        except (OSError, DataError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _write(self) -> None:
        self._written = self._mark
        try:
            self._file.write(msgspec.json.encode(self._mark))
        except OSError as error:
            _log.warning("deferred work: the mark of the clock cannot be written: %s", error)
