"""Rounds in which this process tells all others what is asked of principals' limits, and reads.

Gateways on one store tell each other through it, workers without one in memory that they share.
Requests never wait for a round: they use the part that it left (`router.identity.limit_claims`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from router.contract import Clock, Rng, StateStore
from router.errors import StateStoreError
from router.identity.access import Access
from router.identity.limit_claims import LimitClaims
from router.peers.limit_room import WorkerLimitRoom
from router.peers.limit_rows import LimitRowHead, encode_limits, read_limits
from router.peers.rows import name_key

LIMIT_ROOM: Final = "limits"
_ROUND_S: Final = 0.5
# A row lives for so many rounds, and what it claims a little less: clocks drift.
_LIVES: Final = 4.0
_HOLDS: Final = 0.85
# Where many principals are in use by many processes rounds are made more rarely.
_BYTES_PER_S: Final = 2.0**20
_GROWS: Final = 1.5


class LimitSharing:
    """Built once a process; `join` before anything is served, `run` in the background."""

    def __init__(
        self,
        access: Access,
        clock: Clock,
        rng: Rng,
        identity: str,
        sharers: Callable[[], int],
        store: StateStore | None = None,
        room: WorkerLimitRoom | None = None,
    ) -> None:
        """``clock``: the limiter's; ``identity``: of this process among all; ``sharers``: how many
        there are; ``room``: of workers without a store."""
        self._access = access
        self._clock = clock
        self._rng = rng
        self._identity = identity
        self._store = store
        self._room = room
        self._head = LimitRowHead(name_key(identity))
        self._claims = LimitClaims(self._head.process, name_key, sharers)
        self._moved_bytes = 0
        self._paced_s = _ROUND_S
        self._members: list[str] = []

    def join(self) -> None:
        """Limits are shared by demand from here on."""
        if self._store is not None or self._room is not None:
            self._access.limiter.claims = self._claims
        if self._store is None and self._room is not None:
            self._in_memory(self._room)

    def work(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The background job, by name; none for a process alone."""
        return {} if self._store is None and self._room is None else {"limits": self.run}

    async def run(self) -> None:
        """One round, and a rest; to be repeated."""
        began = self._clock.monotonic()
        if self._access.credentials is not None:
            # Nobody has limits where nobody is asked who calls.
            await self.round()
        # Where rows have grown at once, sooner: what the last one claims still holds by then.
        period_s = min(self._period_s, _GROWS * self._paced_s)
        self._paced_s = period_s
        rest_s = period_s * (2.0 + 2.0 * self._rng.random()) / 3.0
        await asyncio.sleep(max(0.0, began + rest_s - self._clock.monotonic()))

    async def round(self) -> None:
        """Tell and read, if that can be done; never raises StateStoreError."""
        if self._store is not None:
            await self._through(self._store)
        elif self._room is not None:
            self._in_memory(self._room)

    async def leave(self) -> None:
        """Take this process's rows out of the store, if that can be done at once."""
        if self._store is None:
            return
        for member in self._members:
            with contextlib.suppress(StateStoreError):
                await self._store.leave(LIMIT_ROOM, member)

    @property
    def _period_s(self) -> float:
        return max(_ROUND_S, self._moved_bytes / _BYTES_PER_S)

    async def _through(self, store: StateStore) -> None:
        # A call without an answer may be carried out late: the next row has another name.
        member = f"{self._identity}.{self._head.incarnation}"
        if member not in self._members:
            self._members = [*self._members[-3:], member]
        ttl_s, sent_at = _LIVES * self._paced_s, self._clock.monotonic()
        row = self._row(sent_at)
        try:
            rows = await store.exchange(LIMIT_ROOM, member, row, ttl_s, self._clock.now())
        except StateStoreError:
            self._head = self._head._replace(incarnation=self._head.incarnation + 1)
            return
        self._moved_bytes = len(row) + sum(map(len, rows.values()))
        self._read(list(rows.values()), sent_at + _HOLDS * ttl_s)

    def _in_memory(self, room: WorkerLimitRoom) -> None:
        rows = room.exchange(self._row(self._clock.monotonic()))
        if rows is not None:
            # What a worker tells stands there as long as it lives.
            self._read(rows, math.inf)

    def _row(self, now: float) -> bytes:
        self._head = self._head._replace(beat=self._head.beat + 1)
        in_use = self._access.limiter.in_use(now)
        return encode_limits(self._head, self._claims.message(in_use, now))

    def _read(self, rows: Sequence[bytes], valid_until: float) -> None:
        now = self._clock.monotonic()
        if now >= valid_until:
            # It came too late to be worth anything.
            return
        told = read_limits(rows, self._head.process)
        self._claims.read(told.entries, told.processes, 1 + told.others, valid_until, now)
