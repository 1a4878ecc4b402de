"""How many processes share a store, for all that is divided among them.

Whoever exchanges rows (`router.peers.gateways`) tells what it reads; carbon budgets, callers'
limits and places go by the count.
"""

from __future__ import annotations

import math
from typing import Final

# Fewer than before are believed once it has been so for as long and the store was there throughout:
# one that has come back knows nobody at first, and may be gone again.
FEWER_S: Final = 30.0


class SeenMembers:
    """``count``: this process included; more at once, fewer after a while, and as it was while
    nobody can be seen."""

    def __init__(self) -> None:
        self.count = 1
        self._fewer_since = math.nan
        self._fewer = 0

    def assume(self, count: int) -> None:
        """So many were seen before this process started."""
        self.count = max(self.count, count)

    def seen(self, count: int, ticks: float) -> None:
        """So many are there now; ``ticks``: monotonic, s."""
        if count >= self.count:
            self.count, self._fewer_since = count, math.nan
            return
        if math.isnan(self._fewer_since):
            self._fewer_since, self._fewer = ticks, 1
        self._fewer = max(self._fewer, count)
        if ticks - self._fewer_since >= FEWER_S:
            self.count, self._fewer_since = self._fewer, math.nan

    def missed(self) -> None:
        """Nobody could be seen for a while."""
        self._fewer_since = math.nan
