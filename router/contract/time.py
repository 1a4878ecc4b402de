"""The only ways to learn the time and to be random."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The only way to learn the time. Built once, in app."""

    def now(self) -> float:
        """Unix seconds UTC; a replay may run it faster than the wall."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back, always at wall speed, for measuring durations."""
        ...


class Rng(Protocol):
    """The only way to be random. ``random.Random`` satisfies it."""

    def random(self) -> float:
        """Uniform in [0, 1)."""
        ...
