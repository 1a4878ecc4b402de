"""How often one provider may be asked: limits on calls within rolling windows. Pure, no clock.

A provider counts calls in any window ("3,000 in 5 minutes"), and a bucket that refills would allow
up to twice as many across a window's edge; so calls are counted here too, in slices of the window,
each forgotten only once all of it has left the window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

_SLICES: Final = 60


class CallLimit(NamedTuple):
    """At most ``calls`` in any ``per_s`` seconds."""

    calls: int
    per_s: float


class CallAllowance(Protocol):
    """Who says whether a provider may be called once more."""

    @property
    def limits(self) -> Sequence[CallLimit]:
        """What it keeps to, to be told."""
        ...

    async def spend(self, now: float) -> float:
        """0.0 when a call may be made, which is counted; else the seconds until one may be.

        ``now``: monotonic, s.
        """
        ...


class CallBudget:
    """Every one of several limits at once; without a limit everything is allowed.

    Bounded memory: 60 slices a limit. A call is allowed again at most a sixtieth of the window
    later than the provider would allow it, never earlier.
    """

    def __init__(self, *limits: CallLimit) -> None:
        """Raises ValueError for a limit without a call, or without a time."""
        for limit in limits:
            if not (limit.calls >= 1 and 0.0 < limit.per_s < math.inf):
                raise ValueError(f"{limit} must allow at least one call in a time above 0 s")
        self.limits = limits
        self._windows = tuple(_Window(limit) for limit in limits)

    def take(self, now: float) -> float:
        """0.0 when a call may be made, which is counted; else the seconds until one may be.

        ``now``: seconds on any clock; where it steps back it is taken to stand still.
        """
        wait_s = max((window.wait_s(now) for window in self._windows), default=0.0)
        if wait_s <= 0.0:
            for window in self._windows:
                window.count(now)
        return wait_s

    async def spend(self, now: float) -> float:
        """As `CallAllowance.spend`: `take`, with nobody to wait for."""
        return self.take(now)

    def left(self, now: float) -> float:
        """How many calls may be made at once; inf without a limit."""
        return min((window.left(now) for window in self._windows), default=math.inf)


class _Window:
    def __init__(self, limit: CallLimit) -> None:
        self._limit = limit
        self._slice_s = limit.per_s / _SLICES
        # (slice number, calls in it), oldest first.
        self._counted: deque[tuple[int, int]] = deque()
        self._used = 0

    def left(self, now: float) -> int:
        self._forget(now)
        return self._limit.calls - self._used

    def wait_s(self, now: float) -> float:
        if self.left(now) > 0:
            return 0.0
        oldest = self._counted[0][0]
        # Rounding must not make a wait of nothing out of a refusal.
        return max((oldest + _SLICES + 1) * self._slice_s - now, 1e-3)

    def count(self, now: float) -> None:
        number = self._number(now)
        if self._counted and self._counted[-1][0] == number:
            self._counted[-1] = (number, self._counted[-1][1] + 1)
        else:
            self._counted.append((number, 1))
        self._used += 1

    def _forget(self, now: float) -> None:
        newest_gone = self._number(now) - _SLICES - 1
        while self._counted and self._counted[0][0] <= newest_gone:
            self._used -= self._counted.popleft()[1]

    def _number(self, now: float) -> int:
        number = math.floor(now / self._slice_s)
        return max(number, self._counted[-1][0]) if self._counted else number
