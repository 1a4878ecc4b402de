"""What carbon budgets have spent today outlives a restart, in files beside ``state.file``.

Each process writes its own: a worker's has the number of its row. What processes left that are no
more, because there were other numbers of them before, the first one takes over.
"""

from __future__ import annotations

import logging
import math
import threading
from pathlib import Path
from typing import Final

from router.core.carbon_budgets import CarbonBudgets, Spent
from router.errors import DataError
from router.peers.rows import PARENT
from router.state.spent_file import SpentFile, SpentToday

# What was settled in the last of them is forgotten by a process that is killed.
_EVERY_S: Final = 5.0
# At the end, on a disk that has stalled.
_LAST_S: Final = 2.0
_SUFFIX: Final = ".budget"

_log = logging.getLogger(__name__)


class SpentKeeper:
    """One a process. Never raises: what cannot be read or written is said in the log."""

    def __init__(self, state_file: Path | None, budgets: CarbonBudgets, row: int = PARENT) -> None:
        """``state_file``: None keeps nothing; ``row``: of a worker, PARENT of a process alone."""
        self._budgets = budgets
        self._row = row
        self._file: SpentFile | None = None
        if state_file is not None:
            self._file = SpentFile(_path(state_file, row))
        self._state_file = state_file
        self._left_over: list[SpentFile] = []
        self._written: SpentToday | None = None
        self._wrote_at = -math.inf
        self._failing = False
        # Of several threads that write, the last one to end must not be an old one.
        self._lock = threading.Lock()

    def restore(self, workers: int) -> int:
        """Go on from what the files hold; the number of gateways that was last seen, 0 for none.
        To be called before anything is served, once `CarbonBudgets.day` is known."""
        if self._file is None or self._state_file is None:
            return 0
        own, others = _shared_out(self._state_file, self._row, workers)
        self._left_over = [file for file in own if file.path != self._file.path]
        total: dict[str, Spent] = {}
        beside: dict[str, int] = {}
        gateways = 0
        for file in (*own, *others):
            found = self._read(file)
            if found is None or not found.accounts:
                continue
            gateways = max(gateways, found.gateways)
            if found.day != self._budgets.day:
                continue
            for key, (spent_ug, counted_ug, total_ug) in found.accounts.items():
                if file in others:
                    beside[key] = beside.get(key, 0) + spent_ug
                    continue
                before = total.get(key, Spent(0, 0))
                total[key] = Spent(
                    before.spent_ug + spent_ug,
                    before.counted_ug + counted_ug,
                    max(before.total_ug, total_ug),
                )
        if total or beside:
            self._budgets.restore(self._budgets.day, total, beside)
            _log.info("what carbon budgets spent today is taken up", extra={"accounts": len(total)})
        return gateways

    def due(self, ticks: float, gateways: int, at_once: bool = False) -> SpentToday | None:
        """What is to be written now; None where nothing is. ``ticks``: monotonic, s."""
        if self._file is None or (ticks - self._wrote_at < _EVERY_S and not at_once):
            return None
        self._wrote_at = ticks
        accounts = {
            key: (max(0, one.spent_ug), max(0, one.counted_ug), max(0, one.total_ug))
            for key, one in self._budgets.spending()
            if one.spent_ug or one.total_ug
        }
        spent = SpentToday(self._budgets.day, accounts, gateways)
        if spent == self._written or (not accounts and self._written is None):
            return None
        self._written = spent
        return spent

    def write(self, spent: SpentToday) -> None:
        """Off the event loop."""
        if self._file is None:
            return
        try:
            with self._lock:
                self._file.write(spent)
        except OSError as error:
            self._written = None
            # Once, until it succeeds again.
            if not self._failing:
                _log.error("what budgets spent is not written to %s: %s", self._file.path, error)
            self._failing = True
        else:
            self._failing = False
            left_over, self._left_over = self._left_over, []
            for file in left_over:
                file.remove()

    def close(self, ticks: float, gateways: int) -> None:
        """The last write, given up on a disk that has stalled."""
        spent = self.due(ticks, gateways, at_once=True)
        if spent is not None:
            last = threading.Thread(target=self.write, args=(spent,), daemon=True, name="budget")
            last.start()
            last.join(_LAST_S)

    def _read(self, file: SpentFile) -> SpentToday | None:
        try:
            return file.read()
        except (DataError, OSError) as error:
            _log.warning("what budgets spent before is not known: %s: %s", file.path, error)
            return None


def _path(state_file: Path, row: int) -> Path:
    number = "" if row == PARENT else f".{row}"
    return state_file.with_name(f"{state_file.name}{_SUFFIX}{number}")


def _shared_out(
    state_file: Path, row: int, workers: int
) -> tuple[list[SpentFile], list[SpentFile]]:
    """Files that the worker of ``row`` goes on from, and those that others do. The first one has
    those of rows that nobody has now."""
    rows = range(PARENT, PARENT + 1) if row == PARENT else range(PARENT + 1, workers + 1)
    own: list[SpentFile] = []
    others: list[SpentFile] = []
    for path in sorted(state_file.parent.glob(f"{state_file.name}{_SUFFIX}*")):
        number = path.name.removeprefix(f"{state_file.name}{_SUFFIX}").removeprefix(".")
        if number and not number.isdigit():
            continue
        whose = int(number) if number else PARENT
        heir = whose if whose in rows else rows[0]
        (own if heir == row else others).append(SpentFile(path))
    return own, others
