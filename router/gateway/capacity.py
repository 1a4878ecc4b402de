"""What callers may make one process hold, over all its fronts: calls at once, bytes of requests.

The second half of the calls is shared out among those who are there, by weight: who floods takes
no neighbour's.
"""

from __future__ import annotations

import asyncio
from typing import Final

from router.errors import GatewayFullError

RETRY_AFTER_S: Final = 1.0
_MAX_INFLATING: Final = 2


class Capacity:
    """``calls``: under way; ``held_bytes``: of their requests; ``inflating``: lets in so many at a
    time, each of which counts for as much as it may become."""

    __slots__ = ("_freed", "_owners", "_weights", "calls", "held_bytes", "inflating", "max_bytes",
                 "max_calls")  # fmt: skip

    def __init__(self, max_calls: int, max_bytes: int) -> None:
        self.max_calls = max_calls
        self.max_bytes = max_bytes
        self.calls = 0
        self.held_bytes = 0
        self.inflating = asyncio.Semaphore(_MAX_INFLATING)
        self._freed: set[asyncio.Future[None]] = set()
        # Of whoever has calls under way: how many, and its weight; and all weights together.
        self._owners: dict[str, tuple[int, float]] = {}
        self._weights = 0.0

    def begin(self, owner: str, weight: float) -> None:
        """One more call of ``owner``; `end` it. Raises GatewayFullError."""
        self.require_call()
        count, counted = self._owners.get(owner, (0, 0.0))
        if count and 2 * self.calls >= self.max_calls:
            most = self.max_calls * counted / self._weights
            if count >= most:
                raise GatewayFullError(
                    f"this tenant has {count} calls under way, its share of this gateway's",
                    RETRY_AFTER_S,
                )
        if not count:
            counted = weight
            self._weights += weight
        self._owners[owner] = (count + 1, counted)
        self.calls += 1

    def end(self, owner: str) -> None:
        """The opposite."""
        count, weight = self._owners[owner]
        if count > 1:
            self._owners[owner] = (count - 1, weight)
        else:
            del self._owners[owner]
            self._weights = self._weights - weight if self._owners else 0.0
        self.calls -= 1

    def hold(self, size: int) -> None:
        """Count ``size`` more bytes, or fewer below 0."""
        self.held_bytes += size
        if size < 0 and self._freed:
            freed, self._freed = self._freed, set()
            for waiting in freed:
                if not waiting.done():
                    waiting.set_result(None)

    async def freed(self) -> None:
        """Return when something that was held, over whichever front, no longer is."""
        waiting = asyncio.get_running_loop().create_future()
        self._freed.add(waiting)
        try:
            await waiting
        finally:
            self._freed.discard(waiting)

    def require_call(self) -> None:
        """Raises GatewayFullError where one more call is too much."""
        if self.calls >= self.max_calls:
            raise GatewayFullError(
                f"this gateway has {self.max_calls} calls under way, its limit", RETRY_AFTER_S
            )


def full() -> GatewayFullError:
    """The refusal of a request that there is no room for."""
    return GatewayFullError(
        "this gateway holds as many bytes of requests as it may: try again, or elsewhere",
        RETRY_AFTER_S,
    )
