"""From the event loop to the thread that writes: what is to be a row waits here, so many at most.

Putting takes no lock and waits for nobody. What does not fit is counted, and numbered all the same:
its place among the rows stays empty.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from router.contract import Clock
from router.ledger.links import GapReason
from router.ledger.receipt_cells import Cells
from router.ledger.table_writer import TableWriter

Kept = TypeVar("Kept")
# So many at a time, in which the event loop does not get its turn.
_SLICE: Final = 32

_log = logging.getLogger(__name__)


class RowQueue(Generic[Kept]):
    """Of one table. ``put`` on the event loop, all else on the thread.

    ``cells``: makes the row of what was put.
    """

    def __init__(
        self, writer: TableWriter, cells: Callable[[Kept], Cells], most: int, clock: Clock
    ) -> None:
        self.writer = writer
        self._cells = cells
        self._most = most
        self._clock = clock
        self._waiting: deque[Kept] = deque()
        # Raised on the way of requests: no call more than it takes.
        self._cell = writer.count.cell
        self._made: list[Cells] = []
        # Each is raised by one thread alone.
        self._turned_down = 0
        self._seen_turned_down = 0
        self._unwritable = 0
        self._flushed_at = clock.monotonic()

    def put(self, kept: Kept) -> None:
        """Never waits, never raises."""
        self._cell[0] += 1
        waiting = self._waiting
        if len(waiting) >= self._most:
            self._turned_down += 1
        else:
            waiting.append(kept)

    def work(self, flush_s: float, rest: Callable[[], None], last: bool = False) -> None:
        """Make rows of what waits, ``rest`` now and then, and flush them every ``flush_s``.
        ``last``: flush and seal all."""
        if not self.writer.pending:
            self._make(rest)
        ticks = self._clock.monotonic()
        if last or ticks - self._flushed_at >= flush_s or len(self._made) >= self._most // 2:
            self._flush(self._clock.now())
            self._flushed_at = ticks
            self.writer.opened(ticks)
            self.writer.seal_due(self._clock.now(), ticks, every=last)

    def _make(self, rest: Callable[[], None]) -> None:
        # What comes meanwhile is for the next time.
        for made in range(min(len(self._waiting), self._most - len(self._made))):
            kept = self._waiting.popleft()
            try:
                self._made.append(self._cells(kept))
            except Exception:
                self._unwritable += 1
                _log.exception("what is to be a row of the ledger is none")
            if made % _SLICE == _SLICE - 1:
                rest()

    def _flush(self, now: float) -> None:
        rows, self._made = self._made, []
        turned_down = self._turned_down
        missing = {
            GapReason.QUEUE_FULL.value: turned_down - self._seen_turned_down,
            GapReason.UNWRITABLE.value: self._unwritable,
        }
        self._seen_turned_down, self._unwritable = turned_down, 0
        self.writer.flush(rows, now, **missing)
        # Another one, where the old file of it was removed.
        self._cell = self.writer.count.cell
