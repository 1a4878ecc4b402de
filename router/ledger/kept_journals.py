"""Which rows lie in which journal of a process: what was in one that is removed can be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router.ledger.links import Gap, GapReason


class KeptJournals:
    """Of one table: all that were written and are in no sealed file yet."""

    def __init__(self) -> None:
        # By journal: numbers of its rows, first and last of each run; since when, unix s.
        self._runs: dict[Path, list[tuple[int, int]]] = {}
        self._since: dict[Path, float] = {}

    def begun(self, path: Path, since: float) -> None:
        """It holds no rows yet; they came, or will come, after ``since``, unix s."""
        self._runs[path] = []
        self._since[path] = since

    def wrote(self, path: Path, first: int, last: int) -> None:
        """Rows ``first`` to ``last`` are in it, later than those before."""
        runs = self._runs[path]
        if runs and runs[-1][1] + 1 == first:
            first = runs.pop()[0]
        runs.append((first, last))

    def done(self, path: Path) -> None:
        """Its rows are elsewhere."""
        self._runs.pop(path, None)
        self._since.pop(path, None)

    def removed(self, now: float) -> dict[Path, tuple[Gap, ...]]:
        """Those whose files are not there any more, with what was in them; they are forgotten."""
        gone = {}
        for path in [path for path in self._runs if not path.exists()]:
            since = min(self._since[path], now)
            gone[path] = tuple(
                Gap(GapReason.REMOVED, first, last, since, now) for first, last in self._runs[path]
            )
            self.done(path)
        return gone


def runs_of(seqs: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and last of each run of numbers that follow each other, in order; (n,)."""
    if not len(seqs):
        return []
    ends = np.flatnonzero(np.diff(seqs) != 1)
    starts = np.concatenate([[0], ends + 1])
    stops = np.concatenate([ends, [len(seqs) - 1]])
    return [(int(seqs[a]), int(seqs[b])) for a, b in zip(starts, stops, strict=True)]
