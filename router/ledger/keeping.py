"""The ledger of one process: what the director tells it becomes rows, on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from router.ledger.receipt_cells import Cells, ended_cells, turned_away_cells
from router.ledger.row_queue import RowQueue
from router.model import Receipt, Request, RowOutcome

# Between two looks at what waits: a row that is made late keeps a receipt in memory.
_LOOK_S: Final = 0.25

_log = logging.getLogger(__name__)


# Receipt, outcome and reason of what ended; of what went nowhere the arguments of
# `turned_away_cells`. Plain tuples: they are made on the way of every request.
Told: TypeAlias = (
    tuple[Receipt, RowOutcome, str] | tuple[Request, RowOutcome, str, str, float, float]
)


def cells_of(tenant: Callable[[str], str]) -> Callable[[Told], Cells]:
    """What makes rows of what a `KeptLedger` was told; ``tenant``: as names are kept."""

    def made(told: Told) -> Cells:
        if len(told) == 3:
            return ended_cells(*told, tenant)
        return turned_away_cells(*told, tenant)

    return made


class KeptLedger:
    """A `router.contract.Ledger` on a queue."""

    def __init__(self, queue: RowQueue[Told]) -> None:
        self._put = queue.put

    def ended(self, receipt: Receipt, outcome: RowOutcome, reason: str = "") -> None:
        """See `router.contract.Ledger`."""
        self._put((receipt, outcome, reason))

    def turned_away(
        self,
        request: Request,
        outcome: RowOutcome,
        reason: str,
        policy: str,
        finished_at: float,
        e2e_ms: float,
    ) -> None:
        """See `router.contract.Ledger`."""
        self._put((request, outcome, reason, policy, finished_at, e2e_ms))


class LedgerThread:
    """Works off queues until it is closed."""

    def __init__(self, queues: Sequence[RowQueue[Any]], flush_s: float) -> None:
        self._queues = queues
        self._flush_s = flush_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def start(self) -> None:
        """Once."""
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """Write and seal what waits; False where a disk that has stalled takes longer."""
        self._stop.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(min(_LOOK_S, self._flush_s))
            for queue in self._queues:
                try:
                    queue.work(self._flush_s, _rest, last=stopping)
                except Exception:
                    # Whatever it is, rows that come later may be written.
                    _log.exception("the ledger failed")


def _rest() -> None:
    """Let the event loop have its turn, which else would wait for the interpreter to switch."""
    time.sleep(0)
