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
from router.peers.pins import SharedPins, pins_nbytes
from router.peers.rows import ProcessRows, ProcessRowsSize

# Untouched memory costs nothing, so there is room for any fleet.
_ENDPOINTS: Final = 32_768
_SEQUENCES: Final = 65_536


class SharedMemory:
    """Made by the parent; passed as an argument, a spawned process has the same memory."""

    def __init__(self, workers: int, descriptor: int | None = None) -> None:
        """``descriptor``: of memory that another process made; None to make it."""
        self._workers = workers
        size = ProcessRowsSize(workers, _ENDPOINTS)
        nbytes = size.nbytes + pins_nbytes(_SEQUENCES)
        self._descriptor = _anonymous(nbytes) if descriptor is None else descriptor
        view = memoryview(mmap.mmap(self._descriptor, nbytes))
        self.rows = ProcessRows(view[: size.nbytes], size)
        self._pins = view[size.nbytes :]

    def pins(self, clock: Clock) -> SharedPins:
        """The sequences' table, for one process."""
        return SharedPins(self._pins, clock)

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
