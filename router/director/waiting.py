"""A moment's wait before a request is shed: places come free all the time, and most soon.

A server that dies hands all that ran there to its neighbours at once; what does not fit in the same
millisecond fits in the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from router.errors import ShedError

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.05
# Each of them decides anew a few times; more than so many are shed at once.
_MOST_WAITING = 256

Decided = TypeVar("Decided")


class Waiting:
    """The requests of a gateway that wait for a place."""

    def __init__(self) -> None:
        self._waiting = 0

    async def for_room(self, decide: Callable[[], Decided], at_most_s: float) -> Decided:
        """What ``decide`` gives, asked again for ``at_most_s`` while it raises ShedError.

        Raises what ``decide`` does.
        """
        waited_s, pause_s = 0.0, _FIRST_PAUSE_S
        while True:
            try:
                return decide()
            except ShedError:
                if waited_s + pause_s > at_most_s or self._waiting >= _MOST_WAITING:
                    raise
            self._waiting += 1
            try:
                await asyncio.sleep(pause_s)
            finally:
                self._waiting -= 1
            waited_s += pause_s
            pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)
