"""The memory that the processes of one gateway share: without a name, gone with the last of them.

It takes no room on a disk, so that a full one cannot break it.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import Any, Final

from router.contract import Clock
from router.peers.limit_room import WorkerLimitRoom, limit_room_nbytes
from router.peers.pins import SharedPins, pins_nbytes
from router.peers.receipts import ReceiptRings, ReceiptRingsSize
from router.peers.rows import PARENT, Phase, ProcessRows, ProcessRowsSize
from router.peers.spending import WorkerSpending, spending_nbytes

# Untouched memory costs nothing, so there is room for any fleet.
_ENDPOINTS: Final = 32_768
_SEQUENCES: Final = 65_536
# As many as a process keeps for itself.
_RECEIPTS: Final = 4_096


class SharedMemory:
    """Made by the parent; passed as an argument, a spawned process has the same memory."""

    def __init__(self, workers: int, descriptor: int | None = None) -> None:
        """``descriptor``: of memory that another process made; None to make it."""
        self._workers = workers
        size = ProcessRowsSize(workers, _ENDPOINTS)
        self._rings = ReceiptRingsSize(workers, _RECEIPTS)
        pins = size.nbytes + pins_nbytes(_SEQUENCES)
        rings = pins + self._rings.nbytes
        limits = rings + spending_nbytes(workers)
        nbytes = limits + limit_room_nbytes(workers)
        self._descriptor = _anonymous(nbytes) if descriptor is None else descriptor
        view = memoryview(mmap.mmap(self._descriptor, nbytes))
        self.rows = ProcessRows(view[: size.nbytes], size)
        self._pins = view[size.nbytes : pins]
        self._receipts = view[pins:rings]
        self._spending = view[rings:limits]
        self._limits = view[limits:]

    def pins(self, clock: Clock) -> SharedPins:
        """The sequences' table, for one process."""
        return SharedPins(self._pins, clock)

    def receipts(self, row: int) -> ReceiptRings:
        """The rings of receipts, for the worker of a row."""
        return ReceiptRings(self._receipts, self._rings, row - (PARENT + 1))

    def spending(self, row: int) -> WorkerSpending:
        """What carbon budgets have spent, for the worker of ``row``."""
        return WorkerSpending(self._spending, self._workers, row)

    def limits(self, row: int) -> WorkerLimitRoom:
        """What workers tell each other of principals' limits, for the one of ``row``."""
        return WorkerLimitRoom(self._limits, row, lambda r: self.rows.phase(r) is not Phase.GONE)

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (self._workers, reduction.DupFd(self._descriptor))


def _attach(workers: int, duplicate: Any) -> SharedMemory:
    return SharedMemory(workers, duplicate.detach())


def _anonymous(nbytes: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("carbon-router")
    else:
        with tempfile.TemporaryFile(prefix="carbon-router-") as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, nbytes)
    return descriptor
