"""Streams that the server ends by itself: a client that only watches must not delay a stop."""

from __future__ import annotations

import asyncio
from typing import Any

from router.gateway.oip.intake import IncomingCall


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
        # Only while they read: a write that is cancelled would still be under way in gRPC, and
        # keep the call from ending.
        for task in self._reading:
            task.cancel()

    async def pause(self, seconds: float) -> None:
        """Sleep; less when the server begins to drain."""
        try:
            async with asyncio.timeout(seconds):
                await self._drained.wait()
        except TimeoutError:
            pass

    async def read(self, call: IncomingCall) -> bytes | None:
        """The client's next message; None when there are no more, or the server drains."""
        task = asyncio.current_task()
        if self.draining or task is None:
            return None
        self._reading.add(task)
        try:
            return await call.message()
        except asyncio.CancelledError:
            # Ours from `drain`, unless the client went away at the same time.
            if not self.draining or task.uncancel() > 0:
                raise
            return None
        finally:
            self._reading.discard(task)
