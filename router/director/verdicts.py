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
        self._waiting: dict[Accused, asyncio.Future[bool]] = {}

    def begin(self, accused: Accused) -> None:
        """A request that ``accused`` failed is tried elsewhere; `end` follows, whatever comes."""
        self._under_way[accused] = self._under_way.get(accused, 0) + 1

    def end(self, accused: Accused, proven: bool) -> None:
        """One of its trials has ended. ``proven``: the request was answered elsewhere."""
        left = self._under_way[accused] - 1
        if left:
            self._under_way[accused] = left
        else:
            del self._under_way[accused]
        waiting = self._waiting.pop(accused, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(proven)

    async def next(self, accused: Accused, at_most_s: float) -> bool | None:
        """What the next trial to end proves; None where there is none, or none so soon."""
        if accused not in self._under_way:
            return None
        waiting = self._waiting.get(accused)
        if waiting is None:
            waiting = self._waiting[accused] = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait((waiting,), timeout=at_most_s)
        return waiting.result() if done else None
