"""What the workers of a gateway have spent and reserved of carbon budgets, side by side.

Each process has a table of its own, which it alone writes, and looks into those of the others. A
slot is four aligned cells: the account by its key, the day, what is spent and what is reserved. The
key is written last and never changes on a day, so who finds it finds figures that were true of it;
that one of them is read before and one after a change is a request's worth, at most.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.peers.rows import PARENT, name_key

SLOTS: Final = 16_384
_CELLS: Final = 4
_KEY, _DAY, _SPENT, _RESERVED = range(_CELLS)
_CELL_BYTES: Final = 8
# From where an account belongs, so many slots are looked into.
_REACH: Final = 16
_MOST_UG: Final = 2**62


def spending_nbytes(workers: int, slots: int = SLOTS) -> int:
    """Bytes that `WorkerSpending` needs."""
    return (workers + 1) * slots * _CELLS * _CELL_BYTES


class WorkerSpending:
    """``core.carbon_budgets.SharedSpending`` of one worker, over zeroed memory of `spending_nbytes`
    that is aligned to eight bytes. ``row``: this worker's.

    An account for which there is no slot is not seen by the others.
    """

    def __init__(
        self, buffer: memoryview | bytearray, workers: int, row: int, slots: int = SLOTS
    ) -> None:
        shape = (workers + 1, slots, _CELLS)
        cells: NDArray[np.int64] = np.ndarray(shape, np.int64, buffer)
        self._tables = [memoryview(table.reshape(-1).data) for table in cells]
        self._slots = slots
        self._row = row
        self._others = [self._tables[r] for r in range(workers + 1) if r not in (PARENT, row)]
        # Where this worker's accounts are, by key, and the day that this holds for.
        self._own: dict[str, int] = {}
        self._keys: dict[str, int] = {}
        self._day = -1

    def others_ug(self, key: str, day: int) -> int:
        """What all other workers have spent and reserved."""
        wanted = self._key(key)
        total_ug = 0
        for table in self._others:
            at = self._find(table, wanted, day)
            if at >= 0:
                total_ug += table[at + _SPENT] + table[at + _RESERVED]
        return total_ug

    def own_ug(self, key: str, day: int) -> int:
        """What a worker in this row had spent before it ended; what was under way then ended with
        it, and counts as spent."""
        table = self._tables[self._row]
        at = self._find(table, self._key(key), day)
        return table[at + _SPENT] + table[at + _RESERVED] if at >= 0 else 0

    def show(self, key: str, day: int, spent_ug: int, reserved_ug: int) -> None:
        """Let the others know; of the day before they need not."""
        if day == self._day - 1:
            return
        if day != self._day:
            self._own.clear()
            self._keys.clear()
            self._day = day
        table = self._tables[self._row]
        at = self._own.get(key, -1)
        if at < 0:
            at = self._take(table, key, day)
            if at < 0:
                return
        table[at + _SPENT] = min(spent_ug, _MOST_UG)
        table[at + _RESERVED] = min(reserved_ug, _MOST_UG)

    def _take(self, table: memoryview[int], key: str, day: int) -> int:
        """A slot of this worker's own table for an account; -1 when there is none."""
        wanted = self._key(key)
        at = self._find(table, wanted, day)
        if at < 0:
            at = next((at for at in self._around(wanted) if table[at + _DAY] != day), -1)
        if at < 0:
            return -1
        if table[at + _KEY] != wanted or table[at + _DAY] != day:
            # While it changes hands it is nobody's.
            table[at + _KEY] = 0
            table[at + _SPENT] = table[at + _RESERVED] = 0
            table[at + _DAY] = day
            table[at + _KEY] = wanted
        self._own[key] = at
        return at

    def _find(self, table: memoryview[int], wanted: int, day: int) -> int:
        for at in self._around(wanted):
            if table[at + _DAY] != day:
                # Slots fill from the first on, so there is none behind one that is free.
                return -1
            if table[at + _KEY] == wanted:
                return at
        return -1

    def _around(self, wanted: int) -> range:
        first = wanted % (self._slots - _REACH + 1) * _CELLS
        return range(first, first + _REACH * _CELLS, _CELLS)

    def _key(self, key: str) -> int:
        known = self._keys.get(key)
        if known is None:
            # Signed, as the cells are.
            known = self._keys[key] = name_key(key) >> 1 or 1
        return known
