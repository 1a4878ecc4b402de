"""The last receipts of every worker, in memory that all of them read: whoever is asked can tell.

Each worker has a ring of slots that it alone writes; readers never wait, and no writer for them. A
slot is a length, a check over what follows, and the row. A slot that is written while it is read
fails its check; which slots hold which receipt is told by keys beside, read in one go.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.peers.rows import name_key

# A receipt takes some 400 bytes, more where names are long.
SLOT_BYTES: Final = 1024
_HEAD: Final = struct.Struct("<II")
MOST_RECEIPT_BYTES: Final = SLOT_BYTES - _HEAD.size
_KEY_BYTES: Final = 8


class ReceiptRingsSize(NamedTuple):
    """How many workers, and receipts of each there is room for."""

    workers: int
    slots: int

    @property
    def nbytes(self) -> int:
        """Bytes that `ReceiptRings` needs."""
        return self.workers * self.slots * (_KEY_BYTES + SLOT_BYTES)


class ReceiptRings:
    """One worker's side, over zeroed memory of ``size.nbytes``; ``worker``: from 0."""

    def __init__(self, buffer: memoryview | bytearray, size: ReceiptRingsSize, worker: int) -> None:
        shape = (size.workers, size.slots)
        self._keys: NDArray[np.uint64] = np.ndarray(shape, np.uint64, buffer, 0)
        self._slots = memoryview(buffer)[self._keys.nbytes :]
        self._per_worker = size.slots
        self._worker = worker
        self._own = self._keys[worker]
        self._next = 0

    def keep(self, decision_id: str, row: bytes) -> bool:
        """From now on every worker finds it; the oldest makes way. False for one too large."""
        if len(row) > MOST_RECEIPT_BYTES:
            return False
        place, key = self._next, name_key(decision_id)
        self._next = (place + 1) % self._per_worker
        at = (self._worker * self._per_worker + place) * SLOT_BYTES
        # In between nobody takes it for the one before.
        self._own[place] = 0
        end = at + _HEAD.size + len(row)
        self._slots[at + _HEAD.size : end] = row
        _HEAD.pack_into(self._slots, at, len(row), _check(key, row))
        self._own[place] = key
        return True

    def find(self, decision_id: str) -> bytes | None:
        """The row of a receipt, of whichever worker; None where none has it (any more)."""
        key = name_key(decision_id)
        for worker, place in np.argwhere(self._keys == key).tolist():
            row = self._read((worker * self._per_worker + place) * SLOT_BYTES, key)
            if row is not None:
                return row
        return None

    def _read(self, at: int, key: int) -> bytes | None:
        slot = bytes(self._slots[at : at + SLOT_BYTES])
        length, check = _HEAD.unpack_from(slot)
        row = slot[_HEAD.size : _HEAD.size + length]
        return row if length <= MOST_RECEIPT_BYTES and check == _check(key, row) else None


def _check(key: int, row: bytes) -> int:
    """Over the receipt's key as well, so that another one's row in its slot is none."""
    return zlib.crc32(row, key & 0xFFFFFFFF)
