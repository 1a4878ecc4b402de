"""How late an event loop wakes up: whether a machine keeps time while it emulates."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

EDGES_MS: Final = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0, 200.0, 500.0)
_EVERY_S: Final = 0.02


class LoopLag:
    """Counts how late its own sleeps end. ``counts``: by upper edge, the last one beyond all;
    ``total_s``: their sum.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(EDGES_MS) + 1)
        self.total_s = 0.0

    async def run(self) -> None:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            self.observe((loop.time() - due) * 1e3)

    def observe(self, lag_ms: float) -> None:
        """Count one sample."""
        self.counts[bisect_left(EDGES_MS, lag_ms)] += 1
        self.total_s += lag_ms / 1e3


def quantile_ms(counts: Sequence[int], q: float) -> float:
    """Upper edge of the bin that holds the ``q`` quantile, ms; inf beyond all, NaN of none."""
    total = sum(counts)
    if not total:
        return math.nan
    rank, seen = q * total, 0
    for edge, count in zip((*EDGES_MS, math.inf), counts, strict=True):
        seen += count
        if seen >= rank:
            return edge
    return math.inf
