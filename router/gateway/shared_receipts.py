"""Receipts of all gateways in what they share: sent in the background, asked for with a time-out.

Of each process the last `MOST_KEPT` are there, for an hour at most: their places are told by the
decision id, so the newest replaces the oldest and nothing has to be cleared away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from router.contract import Clock, StateStore
from router.core.decision_ids import made_by
from router.errors import ReceiptsUnreachableError, StateStoreError

KEEP_S: Final = 3600.0
# Some 7 MiB a process.
MOST_KEPT: Final = 16_384
# How long a receipt is on its way, and how many may be: seconds at thousands a second.
FLUSH_S: Final = 0.1
MOST_WAITING: Final = 4_096
_BATCH: Final = 256
# For one that was just sent off elsewhere.
_AGAIN_S: Final = 2 * FLUSH_S
_WITHIN_S: Final = 1.0
# Whoever asks for many holds up no other work.
_MOST_ASKING: Final = 32
_LAST_S: Final = 2.0
_RETRY_S: Final = 1.0


class SharedReceipts:
    """One process's side. ``on_sent``: told how many were ``stored``, and how many ``lost``, for
    the store could not be had for so long that no more could wait."""

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        on_sent: Callable[[str, int], None] = lambda outcome, receipts: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._on_sent = on_sent
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._asking = asyncio.Semaphore(_MOST_ASKING)

    def offer(self, decision_id: str, row: bytes) -> None:
        """Send it off some time soon; the oldest that waits makes way. Never waits."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._on_sent("lost", 1)
        self._waiting.append((decision_id, row))

    async def run(self) -> None:
        """One round, to be repeated: wait a moment, send what has come."""
        await asyncio.sleep(FLUSH_S)
        while self._waiting:
            batch = [
                self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))
            ]  # fmt: skip
            try:
                await self._send(batch)
            except StateStoreError:
                # The store's own metrics and log tell of it.
                self._take_back(batch)
                await asyncio.sleep(_RETRY_S)
                return
            except asyncio.CancelledError:
                # The last round sends them.
                self._take_back(batch)
                raise

    async def close(self) -> None:
        """Send what still waits; never raises."""
        batch = list(self._waiting)
        self._waiting.clear()
        try:
            async with asyncio.timeout(_LAST_S):
                await self._send(batch)
        except (StateStoreError, TimeoutError):
            self._on_sent("lost", len(batch))

    async def find(self, decision_id: str) -> bytes | None:
        """The row of a receipt, of whichever gateway; None where it is not there (any more).

        Raises ReceiptsUnreachableError where that cannot be told.
        """
        key = _key(decision_id)
        if key is None:
            return None
        try:
            async with asyncio.timeout(_WITHIN_S), self._asking:
                row = await self._store.get(key, self._clock.now())
                if row is None:
                    # Who answered may be about to send it.
                    await asyncio.sleep(_AGAIN_S)
                    row = await self._store.get(key, self._clock.now())
                return row
        except (StateStoreError, TimeoutError):
            raise ReceiptsUnreachableError(
                f"{decision_id[:64]!r} is not known here, and the other gateways' receipts cannot "
                "be asked for now: it may exist there",
                _RETRY_S,
            ) from None

    async def _send(self, batch: list[tuple[str, bytes]]) -> None:
        rows: Mapping[str, bytes] = {
            key: row for decision_id, row in batch if (key := _key(decision_id)) is not None
        }
        if rows:
            await self._store.put_all(rows, KEEP_S, self._clock.now())
            self._on_sent("stored", len(rows))

    def _take_back(self, batch: list[tuple[str, bytes]]) -> None:
        room = MOST_WAITING - len(self._waiting)
        kept = batch[-room:] if room > 0 else []
        self._waiting.extendleft(reversed(kept))
        if lost := len(batch) - len(kept):
            self._on_sent("lost", lost)


def _key(decision_id: str) -> str | None:
    """The place of a receipt; None of what is no decision id."""
    made = made_by(decision_id)
    return None if made is None else f"receipts/{made.identity}/{made.number % MOST_KEPT}"
