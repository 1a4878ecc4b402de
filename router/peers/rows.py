"""The rows of a gateway's processes: who lives, what each has in flight, how its reload went.

A row has one writer, its process (the parent once that one is dead), and readers that never wait.
A cell is eight aligned bytes, so it is read whole. What cells say together, endpoints by place,
carries a version that is odd while it changes (a sequence lock).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Row 0 is the parent's; workers count from 1.
PARENT: Final = 0
_CELL_BYTES: Final = 8
_HEADER: Final = 8
_PID, _BEATS, _PHASE, _VERSION, _ENDPOINTS, _RELOAD = range(6)


class Phase(IntEnum):
    """Where a process is in its life. GONE: nobody has this row now."""

    GONE = 0
    STARTING = 1
    SERVING = 2
    DRAINING = 3


class Reload(IntEnum):
    """How a process's last reload went."""

    NONE = 0
    APPLIED = 1
    REFUSED = 2


class ProcessRowsSize(NamedTuple):
    """How many processes, the parent not counted, and endpoints of each there is room for."""

    workers: int
    endpoints: int

    @property
    def nbytes(self) -> int:
        """Bytes that `ProcessRows` needs."""
        per_row = _HEADER + self.endpoints + 2 * (self.endpoints + 1)
        return (self.workers + 1) * per_row * _CELL_BYTES


def name_key(*names: str) -> int:
    """64 bits that stand for names in every process; never 0."""
    digest = hashlib.blake2b("\0".join(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


class ProcessRows:
    """Every row, over zeroed memory of ``size.nbytes`` that is aligned to eight bytes.

    ``keys`` (rows, endpoints): endpoints by `name_key`, 0 after the last. ``counts`` and ``caps``
    (rows, endpoints + 1): requests in flight there and the least concurrency that a budget
    tolerates, 0 for any; their last column stands for an endpoint that a row does not have.
    """

    def __init__(self, buffer: memoryview | bytearray, size: ProcessRowsSize) -> None:
        self.size = size
        rows, wide = size.workers + 1, size.endpoints + 1
        at = 0
        self._header: NDArray[np.int64] = np.ndarray((rows, _HEADER), np.int64, buffer, at)
        at += self._header.nbytes
        self.keys: NDArray[np.uint64] = np.ndarray((rows, size.endpoints), np.uint64, buffer, at)
        at += self.keys.nbytes
        self.counts: NDArray[np.int64] = np.ndarray((rows, wide), np.int64, buffer, at)
        at += self.counts.nbytes
        self.caps: NDArray[np.float64] = np.ndarray((rows, wide), np.float64, buffer, at)

    def occupy(self, row: int, pid: int) -> None:
        """Begin anew in a row, as a process that starts."""
        self.clear(row)
        self._header[row, _PID] = pid
        self._header[row, _PHASE] = Phase.STARTING

    def clear(self, row: int) -> None:
        """Forget all that a process said that is dead: what it had in flight ended with it."""
        self.list_endpoints(row, (), ())
        for field in (_PID, _PHASE, _RELOAD):
            self._header[row, field] = 0

    def list_endpoints(self, row: int, keys: Sequence[int], counts: Sequence[int]) -> None:
        """Put other endpoints into a row, with what is in flight there; those beyond its size are
        left out."""
        n = min(len(keys), self.size.endpoints)
        before = int(self._header[row, _ENDPOINTS])
        # Its process may have been killed while it wrote: then the version is odd.
        version = int(self._header[row, _VERSION]) // 2 * 2
        self._header[row, _VERSION] = version + 1
        self.keys[row, :before] = 0
        self.counts[row, :before] = 0
        self.caps[row, :before] = 0.0
        self.keys[row, :n] = keys[:n]
        self.counts[row, :n] = counts[:n]
        self._header[row, _ENDPOINTS] = n
        self._header[row, _VERSION] = version + 2

    def version(self, row: int) -> int:
        """Of a row's list of endpoints; odd while it changes."""
        return int(self._header[row, _VERSION])

    def endpoints(self, row: int) -> NDArray[np.uint64]:
        """The keys of a row, in order."""
        return self.keys[row, : int(self._header[row, _ENDPOINTS])]

    def beat(self, row: int) -> None:
        """Show that a process lives and turns."""
        self._header[row, _BEATS] += 1

    def beats(self, row: int) -> int:
        """How often a row's process has shown so."""
        return int(self._header[row, _BEATS])

    def pid(self, row: int) -> int:
        """A row's process; 0 when nobody has it."""
        return int(self._header[row, _PID])

    def phase(self, row: int) -> Phase:
        """Where a row's process is in its life."""
        return Phase(int(self._header[row, _PHASE]))

    def enter(self, row: int, phase: Phase) -> None:
        """Say where a process is in its life."""
        self._header[row, _PHASE] = phase

    def reload(self, row: int) -> Reload:
        """How a process's last reload went."""
        return Reload(int(self._header[row, _RELOAD]))

    def reloaded(self, row: int, how: Reload) -> None:
        """Say how a reload went."""
        self._header[row, _RELOAD] = how
