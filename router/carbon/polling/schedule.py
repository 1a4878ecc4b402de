"""When asking a carbon provider is worth a call. Pure: ``now`` and the random draw are arguments.

A provider publishes every so often, some time after a slot ends; asking in between is a call for
nothing. Each grid zone learns that lag: it lies between the latest time at which a value was not
there yet and the earliest at which it was, and is sought by bisection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# The lag is known well enough at this part of the interval between publications.
TOLERANCE: Final = 1 / 12
# How much of the interval is forgotten at each publication, so that an earlier one is found.
_FORGET: Final = 1 / 500


def backoff_s(failures: int, draw: float, shortest_s: float, longest_s: float) -> float:
    """Seconds to wait after ``failures`` >= 1 in a row; ``draw`` in [0, 1) moves it by a quarter.

    Doubles with each failure; never below three quarters of ``shortest_s``.
    """
    doubled = shortest_s * 2.0 ** min(failures - 1, 30)
    return min(doubled, longest_s) * (0.75 + 0.5 * draw)


@dataclass(slots=True)
class NewsPlan:
    """When one grid zone is next asked for its latest value."""

    period_s: float
    due_at: float = -math.inf
    newest: float = -math.inf
    asked_at: float = -math.inf
    failures: int = 0
    misses: int = 0
    lag_low_s: float = -math.inf
    lag_high_s: float = math.inf

    @property
    def tolerance_s(self) -> float:
        """How closely publications are followed, and the least time between two calls."""
        return self.period_s * TOLERANCE

    def heard(self, newest: float, now: float, draw: float) -> None:
        """An answer came; ``newest``: the end of its newest slot. ``draw``: uniform in [0, 1)."""
        self.failures = 0
        if newest > self.newest:
            self._learn(newest, now)
            self.newest, self.misses = newest, 0
            low, high = self.lag_low_s, self.lag_high_s
            lag_s = high if high - low <= self.tolerance_s else (low + high) / 2.0
            due_at = newest + self.period_s + lag_s + draw * self.tolerance_s / 2.0
            self.due_at = max(due_at, now + self.tolerance_s)
        else:
            # Late, or for ever the same stamp.
            self.misses += 1
            self.due_at = now + backoff_s(self.misses, draw, self.tolerance_s, self.period_s)
        self.asked_at = now

    def failed(self, wait_s: float, now: float) -> None:
        """No usable answer: not again before ``wait_s`` have passed."""
        self.failures += 1
        self.due_at = now + wait_s

    def shift(self, seconds: float) -> None:
        """The clock by which it was planned stepped: what was learned of the lag was wrong."""
        self.due_at += seconds
        self.asked_at += seconds
        self.lag_low_s, self.lag_high_s = -math.inf, math.inf

    def _learn(self, newest: float, now: float) -> None:
        """Narrow the lag down by what this answer tells."""
        period_s = self.period_s
        high = now - newest
        if not self.misses:
            # There at first asking: it may have been there for long.
            high = min(high, self.lag_high_s)
        # A slot is published at its start at the earliest, and the next one was not there yet.
        floor = max(-period_s, now - newest - period_s)
        low = max(floor, self.lag_low_s - period_s * _FORGET, self.asked_at - newest)
        self.lag_low_s, self.lag_high_s = min(low, high), high


@dataclass(slots=True)
class EveryPlan:
    """When one grid zone is next asked for what is issued or re-read at a steady interval."""

    every_s: float
    due_at: float = -math.inf
    asked_at: float = -math.inf
    failures: int = 0

    def heard(self, now: float, draw: float) -> None:
        """An answer came. ``draw``, uniform in [0, 1), spreads the zones over a tenth of it."""
        self.failures = 0
        self.asked_at = now
        self.due_at = now + self.every_s * (0.95 + 0.1 * draw)

    def failed(self, wait_s: float, now: float) -> None:
        """No usable answer: not again before ``wait_s`` have passed."""
        self.failures += 1
        self.due_at = now + wait_s

    def shift(self, seconds: float) -> None:
        """The clock by which it was planned stepped."""
        self.due_at += seconds
        self.asked_at += seconds

    def hasten(self, at: float) -> None:
        """Something is missing: due at ``at`` unless it is sooner, or failing."""
        if not self.failures:
            self.due_at = min(self.due_at, at)


class Rest:
    """A whole source's pause: told to wait, or failing again and again."""

    # A single failing call may be one grid zone's affair.
    PATIENCE: Final = 3

    def __init__(self, shortest_s: float, longest_s: float) -> None:
        self.until = -math.inf
        self._failures = 0
        self._shortest_s = shortest_s
        self._longest_s = longest_s

    def succeeded(self) -> None:
        """A call was answered."""
        self._failures = 0

    def failed(self, now: float, draw: float) -> None:
        """A call was not answered at all."""
        self._failures += 1
        if self._failures >= self.PATIENCE:
            streak = self._failures - self.PATIENCE + 1
            self.wait(backoff_s(streak, draw, self._shortest_s, self._longest_s), now)

    def shift(self, seconds: float) -> None:
        """The clock stepped."""
        self.until += seconds

    def wait(self, seconds: float, now: float) -> None:
        """No call for ``seconds``."""
        self.until = max(self.until, now + seconds)
