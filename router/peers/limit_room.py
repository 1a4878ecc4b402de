"""Rows of limits of the workers of one gateway, in the memory that they share.

Each worker writes its own row alone, under a version that is odd while it changes, and reads those
of all others whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from router.peers.limit_rows import LIMIT_ROW_BYTES
from router.peers.rows import PARENT

_CELL_BYTES: Final = 8
_VERSION, _LENGTH = range(2)
_HEADER_BYTES: Final = 2 * _CELL_BYTES
_ROW_BYTES: Final = _HEADER_BYTES + -(-LIMIT_ROW_BYTES // _CELL_BYTES) * _CELL_BYTES
# A row is written in some microseconds, and read in as many.
_TRIES: Final = 100


def limit_room_nbytes(workers: int) -> int:
    """Bytes that `WorkerLimitRoom` needs."""
    return workers * _ROW_BYTES


class WorkerLimitRoom:
    """As one worker sees it, over zeroed memory of `limit_room_nbytes` that is aligned to eight
    bytes. ``row``: this worker's; ``lives``: whether a row has a process."""

    def __init__(self, buffer: memoryview, row: int, lives: Callable[[int], bool]) -> None:
        self._rows = [
            buffer[at : at + _ROW_BYTES] for at in range(0, len(buffer) // _ROW_BYTES * _ROW_BYTES,
                                                         _ROW_BYTES)
        ]  # fmt: skip
        self._headers = [row[:_HEADER_BYTES].cast("q") for row in self._rows]
        self._row = row - (PARENT + 1)
        self._lives = lives

    def exchange(self, row: bytes) -> Sequence[bytes] | None:
        """Write ``row`` (at most LIMIT_ROW_BYTES), then read those of all others that live; None
        where one cannot be read now, such as of a worker that was killed while it wrote."""
        header, body = self._headers[self._row], self._rows[self._row]
        version = header[_VERSION] // 2 * 2
        header[_VERSION] = version + 1
        body[_HEADER_BYTES : _HEADER_BYTES + len(row)] = row
        header[_LENGTH] = len(row)
        header[_VERSION] = version + 2
        rows = []
        for place in range(len(self._rows)):
            if place == self._row or not self._lives(place + PARENT + 1):
                continue
            read = self._read(place)
            if read is None:
                return None
            rows.append(read)
        return rows

    def _read(self, place: int) -> bytes | None:
        header, body = self._headers[place], self._rows[place]
        for _ in range(_TRIES):
            version = header[_VERSION]
            length = min(header[_LENGTH], LIMIT_ROW_BYTES)
            read = bytes(body[_HEADER_BYTES : _HEADER_BYTES + length])
            if version % 2 == 0 and header[_VERSION] == version:
                return read
        return None
