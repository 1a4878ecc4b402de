"""Work that anybody may ask for again and again, and that has a part of a core for all that."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

_Done = TypeVar("_Done")

# Each waits so many times as long as the one before took: a fifth of a core.
_REST: Final = 4.0


class Turns:
    """One at a time, with a rest in between."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._rested_at = -math.inf

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turns]:
        """Once the one before has ended, and rested."""
        async with self._lock:
            await asyncio.sleep(max(0.0, self._rested_at - asyncio.get_running_loop().time()))
            yield self

    async def aside(self, work: Callable[[], _Done]) -> _Done:
        """``work`` beside the event loop."""
        done, took_s = await asyncio.to_thread(_timed, work)
        self.took(took_s)
        return done

    def took(self, seconds: float) -> None:
        """Of a processor."""
        self._rested_at = asyncio.get_running_loop().time() + _REST * seconds


def _timed(work: Callable[[], _Done]) -> tuple[_Done, float]:
    began = time.thread_time()
    return work(), time.thread_time() - began
