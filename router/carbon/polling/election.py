"""Which of several gateways calls a provider: the others know who it is, and when it is gone.

A lease on a short rhythm of its own: whoever holds it is followed for `LEASE_S` after its last
word, so another takes over within `LEASE_S` + `BEAT_S` and a call or two of the store. In the same
breath every gateway shows the others that it is there, and what it wants to know. Durations are
measured on this process's monotonic clock alone, so clocks that differ, or step, elect nobody.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Iterable, Mapping
from enum import StrEnum
from typing import Final, TypeVar

from router.carbon.polling.codec import decode_zones, encode_zones
from router.contract import Clock, Rng, StateStore
from router.errors import DataError

# How long a word holds, and how often it is given: three may be lost.
LEASE_S: Final = 6.0
BEAT_S: Final = 1.25
# How long one is shown as there, and counted when a limit has to be divided. The latter is longer:
# a store that lost all it held must not make a gateway think that it is alone.
_SHOWN_S: Final = 15.0
_COUNTED_S: Final = 60.0
# A store that answers again answers all of them by then.
_SETTLES_S: Final = 3 * BEAT_S
_MOST_ROW_BYTES: Final = 2**16
_MOST_MEMBERS: Final = 4096

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Part(StrEnum):
    """What this gateway does for a source now."""

    LEADS = "leads"
    FOLLOWS = "follows"
    ALONE = "alone"


class PollerElection:
    """One gateway's part in the calls of one provider. Never raises for what the store does.

    ``token``: the fencing token of the last time that it came to lead, 0 for never; ``wanted``: the
    grid zones that any gateway wants.
    """

    def __init__(
        self,
        store: StateStore,
        name: str,
        holder: str,
        clock: Clock,
        rng: Rng,
        *,
        patience_s: float = 180.0,
        timeout_s: float = 1.0,
    ) -> None:
        """``holder``: unique to this poller. ``patience_s``: a gateway that is left alone calls for
        itself after a random part of it. ``timeout_s``: for each store call.
        """
        self.name = name
        self.patience_s = patience_s
        self.token = 0
        self.wanted: frozenset[str] = frozenset()
        self._store = store
        self._holder = holder
        self._clock = clock
        self._rng = rng
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._beaten_at = -math.inf
        self._held_until = -math.inf
        self._alone_from = math.inf
        self._settled_at = -math.inf
        self._left = False
        self._troubles: dict[str, str] = {}
        # Who was seen when, by the monotonic clock.
        self._seen: dict[str, float] = {holder: math.inf}

    @property
    def part(self) -> Part:
        """As of this moment: who was stopped for longer than its lease leads no more."""
        now = self._clock.monotonic()
        if now < self._held_until:
            return Part.LEADS
        return Part.ALONE if self._troubles and now >= self._alone_from else Part.FOLLOWS

    @property
    def trouble(self) -> str:
        """Why this gateway is on its own, or soon will be; "" while it is not."""
        return next(iter(self._troubles.values()), "")

    @property
    def store_fails(self) -> bool:
        """Whether the store did not answer when it was last called."""
        return "store" in self._troubles

    @property
    def settles_s(self) -> float:
        """Seconds until all gateways will have noticed that the store answers again, and have told
        it what they did meanwhile; 0 when that is long ago."""
        return max(self._settled_at - self._clock.monotonic(), 0.0)

    @property
    def gateways(self) -> int:
        """How many share the calls, this one included, as last known."""
        return len(self._seen)

    def share(self, calls: int) -> int:
        """What this gateway may take of ``calls`` when the others cannot be asked: equal parts,
        which together are no more than all of them."""
        others = sorted(self._seen)
        part, rest = divmod(max(calls, 0), len(others))
        return part + (others.index(self._holder) < rest)

    async def beat(self, wants: Iterable[str]) -> bool:
        """Renew or seek the lease, unless that was just done; True when it has come to lead."""
        async with self._turn:
            began = self._clock.monotonic()
            if self._left or began - self._beaten_at < BEAT_S / 2.0:
                return False
            self._beaten_at = began
            led = self.part is Part.LEADS
            now = self._clock.now()
            try:
                token = await self.within(
                    self._store.acquire(self.name, self._holder, LEASE_S, now)
                )
                self._held_until = began + LEASE_S if token else -math.inf
                self.token = token or self.token
                rows = await self.within(
                    self._store.exchange(
                        self.name, self._holder, encode_zones(sorted(wants)), _SHOWN_S, now
                    )
                )
            except Exception as error:
                self.fail(error)
                return False
            self._take(rows, began)
            if self.store_fails:
                self._settled_at = self._clock.monotonic() + _SETTLES_S
                self.recover("store")
            return not led and self.part is Part.LEADS

    async def leave(self) -> None:
        """Give the lease up for good, so that another gateway takes over at its next beat."""
        async with self._turn:
            self._left = True
            self._held_until = -math.inf
            try:
                await self.within(self._store.release(self.name, self._holder))
                await self.within(self._store.leave(self.name, self._holder))
            except Exception as error:
                _log.warning("%s: lease not released: %s", self.name, type(error).__name__)

    async def within(self, call: Awaitable[_T]) -> _T:
        """A call of the store, bounded in time."""
        async with asyncio.timeout(self._timeout_s):
            return await call

    def fail(self, error: Exception) -> None:
        """The store does not answer."""
        self.be_left("store", f"the state store fails: {type(error).__name__}")

    def be_left(self, cause: str, why: str) -> None:
        """Nobody can be followed: on its own after a random part of its patience, so that gateways
        do not ask all at once."""
        if not self._troubles:
            _log.warning("%s: %s; asking for ourselves", self.name, why)
            self._alone_from = self._clock.monotonic() + self._rng.random() * self.patience_s
        self._troubles[cause] = why

    def recover(self, cause: str) -> None:
        """What ``cause`` stood for is over."""
        if self._troubles.pop(cause, "") and not self._troubles:
            _log.info("%s: shared again", self.name)
            self._alone_from = math.inf

    def _take(self, rows: Mapping[str, bytes], at: float) -> None:
        """Who is there, and what they want."""
        wanted: set[str] = set()
        for member, row in list(rows.items())[:_MOST_MEMBERS]:
            try:
                if len(row) > _MOST_ROW_BYTES:
                    raise DataError(f"over {_MOST_ROW_BYTES} bytes")
                wanted.update(decode_zones(row))
            except DataError as error:
                _log.debug("%s: what %.64s wants cannot be read: %s", self.name, member, error)
            self._seen[member] = at
        self._seen = {
            member: seen for member, seen in self._seen.items() if at - seen <= _COUNTED_S
        }
        self._seen[self._holder] = math.inf
        self.wanted = frozenset(wanted)
