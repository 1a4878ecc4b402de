"""A moment's wait before a request is shed: places come free all the time, and most soon.

A server that dies hands all that ran there to its neighbours at once; what does not fit in the same
millisecond fits in the next. Who waits is counted, for a tenant that floods is not to take every
place in the line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from router.core.shares import PlaceClaim
from router.errors import CarbonBudgetHeldError, ShedError

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.05
# Each of them decides anew a few times; more than so many are shed at once.
_MOST_WAITING = 256

# What a moment may mend.
PASSING = (ShedError, CarbonBudgetHeldError)

Decided = TypeVar("Decided")


class Waiting:
    """The requests of a gateway that wait for a place."""

    def __init__(self) -> None:
        self._waiting = 0

    async def for_room(
        self,
        decide: Callable[[], Decided],
        at_most_s: float,
        claim: PlaceClaim,
        monotonic: Callable[[], float],
    ) -> Decided:
        """What ``decide`` gives, asked again for ``at_most_s`` while it raises what is PASSING.

        ``claim``: of the request that waits. Raises what ``decide`` does.
        """
        waited_s, pause_s = 0.0, _FIRST_PAUSE_S
        while True:
            try:
                return decide()
            except PASSING:
                if waited_s + pause_s > at_most_s:
                    raise
                if not claim.may_wait(self._waiting, _MOST_WAITING, monotonic()):
                    raise
            self._waiting += 1
            claim.wait(monotonic())
            try:
                await asyncio.sleep(pause_s)
            finally:
                self._waiting -= 1
                claim.stop_waiting(monotonic())
            waited_s += pause_s
            pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)
