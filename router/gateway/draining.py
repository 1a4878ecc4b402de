"""Streams that the server ends by itself: a client that only watches must not delay a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Watchers:
    """Ends the streams on which clients watch something and nothing of theirs is under way."""

    def __init__(self) -> None:
        self._reading: set[asyncio.Task[Any]] = set()
        self._drained = asyncio.Event()

    @property
    def draining(self) -> bool:
        """Whether the server is shutting down."""
        return self._drained.is_set()

    def drain(self) -> None:
        """End every stream now and let none begin."""
        self._drained.set()
        for task in self._reading:
            task.cancel()

    async def pause(self, seconds: float) -> None:
        """Sleep; less when the server begins to drain."""
        try:
            async with asyncio.timeout(seconds):
                await self._drained.wait()
        except TimeoutError:
            pass

    async def while_open(self, reading: Coroutine[Any, Any, None]) -> None:
        """Run ``reading``, which waits for the client, to its end or until `drain`."""
        task = asyncio.current_task()
        if self.draining or task is None:
            reading.close()
            return
        self._reading.add(task)
        try:
            await reading
        except asyncio.CancelledError:
            # Ours from `drain`, unless the client went away at the same time.
            if not self.draining or task.uncancel() > 0:
                raise
        finally:
            self._reading.discard(task)
