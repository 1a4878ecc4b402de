"""How many processes share what a principal may use: those of this gateway, or of all gateways."""

from __future__ import annotations

import asyncio
from typing import Final

from router.contract import Clock, StateStore
from router.errors import StateStoreError

_ROOM: Final = "limits"
_EVERY_S: Final = 5.0
# One that has not said so for so long has gone.
_TTL_S: Final = 3.0 * _EVERY_S
# Whoever may write to the store is trusted with the limits; not with so small a share that nothing
# is left.
_MOST: Final = 10_000


class Sharers:
    """``count``: as of the last round. While the store is away it stays as it was: the others most
    likely go on, too."""

    def __init__(self, workers: int, store: StateStore | None, identity: str, clock: Clock) -> None:
        """``workers``: of this gateway; ``store``: None where no other gateway shares anything;
        ``identity``: of this process among all."""
        self.count = workers
        self._store = store
        self._identity = identity
        self._clock = clock

    async def run(self) -> None:
        """One round: say that this process is there, see who else is, and wait."""
        if self._store is None:
            await asyncio.Event().wait()
            return
        try:
            there = await self._store.exchange(
                _ROOM, self._identity, b"", _TTL_S, self._clock.now()
            )
        except StateStoreError:
            pass
        else:
            self.count = min(max(1, len(there)), _MOST)
        await asyncio.sleep(_EVERY_S)
