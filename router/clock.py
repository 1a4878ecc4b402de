"""The only place that reads the machine's clocks."""

from __future__ import annotations

import time


class WallClock:
    """The machine's own time."""

    def now(self) -> float:
        """Unix seconds UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never step back."""
        return time.perf_counter()


class ReplayClock(WallClock):
    """Carbon time that starts at ``start`` (unix s) now and runs ``speed`` times as fast."""

    def __init__(self, start: float, speed: float) -> None:
        self._start = start
        self._speed = speed
        self._began = self.monotonic()

    def now(self) -> float:
        """Unix seconds UTC of the replayed day."""
        return self._start + (self.monotonic() - self._began) * self._speed
