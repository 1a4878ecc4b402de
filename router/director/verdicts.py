"""What requests that were tried elsewhere showed of an endpoint, for those that wait to know.

An endpoint that breaks fails all that runs there at once. A few of these requests are tried
elsewhere; the others need not be, nor be given up: they wait until it is known whose fault it was.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from router.core.seat import ModelKey

# An endpoint by name, and one of its models.
Accused: TypeAlias = tuple[str, ModelKey]


class Verdicts:
    """The trials under way, by the endpoint and model that they will tell of."""

    def __init__(self) -> None:
        self._under_way: dict[Accused, int] = {}
        self._waiting: dict[Accused, asyncio.Future[None]] = {}

    def begin(self, accused: Accused) -> None:
        """A request that ``accused`` failed is tried elsewhere; `end` follows, whatever comes."""
        self._under_way[accused] = self._under_way.get(accused, 0) + 1

    def end(self, accused: Accused) -> None:
        """One of its trials has ended."""
        left = self._under_way[accused] - 1
        if left:
            self._under_way[accused] = left
        else:
            del self._under_way[accused]
        waiting = self._waiting.pop(accused, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def next(self, accused: Accused, at_most_s: float) -> bool:
        """Wait for the end of a trial; False where there is none, or not so soon."""
        if accused not in self._under_way:
            return False
        waiting = self._waiting.get(accused)
        if waiting is None:
            waiting = self._waiting[accused] = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait((waiting,), timeout=at_most_s)
        return bool(done)
