"""Who stands still: processes show that they turn by counting, and others look at the counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

# A look after a longer break counts for so long only: who was stopped itself, together with those
# that it looks at, must not take them for frozen.
_LONGEST_LOOK_S = 1.0


class BeatWatch:
    """For how long each row has not beaten, by the times of this watch's own looks."""

    def __init__(self, beats: Callable[[int], int], rows: Iterable[int]) -> None:
        self._beats = beats
        self._seen = {row: (beats(row), 0.0) for row in rows}
        self._looked_at: float | None = None

    def look(self, now: float) -> None:
        """Look at every row; ``now``: monotonic, s."""
        before = now if self._looked_at is None else self._looked_at
        passed_s = min(max(now - before, 0.0), _LONGEST_LOOK_S)
        self._looked_at = now
        for row, (count, still_s) in self._seen.items():
            current = self._beats(row)
            still = still_s + passed_s if current == count else 0.0
            self._seen[row] = (current, still)

    def still_s(self, row: int) -> float:
        """Seconds since a row was last seen to beat."""
        return self._seen[row][1]

    def begin(self, row: int) -> None:
        """A new process has the row: what it has not done yet is not held against it."""
        self._seen[row] = (self._beats(row), 0.0)
