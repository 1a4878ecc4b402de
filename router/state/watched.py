"""A StateStore and how it fares: counts for metrics, and whether it fails, for people."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, TypeVar

from router.contract import Clock, StateStore
from router.errors import StateStoreError

_T = TypeVar("_T")

OnStoreCall = Callable[[str, str, float], None]
"""Told of every call: its name, "" or why it failed, and the seconds that it took."""

# One slow answer is no failure yet; one good answer between failures no recovery.
_FAILS_AFTER_S: Final = 0.5
_RECOVERS_AFTER_S: Final = 2.0
_PROBE_S: Final = 1.0
_PROBE_ROOM: Final = "probe"

_log = logging.getLogger(__name__)


class StoreHealth(NamedTuple):
    """Whether what gateways share can be had. ``failing_s``: since when it cannot, 0 while it can;
    ``why``: in words without a secret."""

    failing_s: float = 0.0
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether it can."""
        return not self.why


class _Trouble(NamedTuple):
    first: float
    last: float
    why: str


class WatchedStore:
    """``store`` itself to whoever calls it; what is said of its health is of all calls together.

    It fails once calls have failed for half a second, and has recovered when none has for two
    seconds. Each change is logged once.
    """

    def __init__(
        self,
        store: StateStore,
        clock: Clock,
        identity: str,
        on_call: OnStoreCall = lambda name, failure, seconds: None,
        on_health: Callable[[StoreHealth], None] = lambda health: None,
    ) -> None:
        """``identity``: of this process, under which it probes. ``on_health``: told each round of
        `probe`."""
        self._store = store
        self._clock = clock
        self._identity = identity
        self._on_call = on_call
        self._on_health = on_health
        self._trouble: _Trouble | None = None
        self._failing = False
        self._answered = False

    def health(self) -> StoreHealth:
        """How the store fares now."""
        trouble = self._trouble
        if not self._failing or trouble is None:
            return StoreHealth()
        return StoreHealth(max(self._clock.monotonic() - trouble.first, 0.0), trouble.why)

    def fails(self) -> bool:
        """Whether it fails now; asked for every request."""
        return self._failing

    async def probe(self) -> None:
        """One round, to be repeated: a call if nobody else has had an answer, then a rest.

        It reads and writes, so that a store that can no longer be written to is told, and is
        found to have recovered when nobody else asks.
        """
        if self._trouble is not None or not self._answered:
            try:
                now = self._clock.now()
                await self.exchange(_PROBE_ROOM, self._identity, b"", 3 * _PROBE_S, now)
            except StateStoreError:
                # Counted and told already.
                pass
        self._answered = False
        self._on_health(self.health())
        await asyncio.sleep(_PROBE_S)

    async def put(self, key: str, value: bytes, ttl_s: float, now: float) -> None:
        """As in the contract; so are all others."""
        await self._watch("put", self._store.put(key, value, ttl_s, now))

    async def put_all(self, values: Mapping[str, bytes], ttl_s: float, now: float) -> None:
        """See `put`."""
        await self._watch("put_all", self._store.put_all(values, ttl_s, now))

    async def get(self, key: str, now: float) -> bytes | None:
        """See `put`."""
        return await self._watch("get", self._store.get(key, now))

    async def scan(self, prefix: str, now: float) -> Mapping[str, bytes]:
        """See `put`."""
        return await self._watch("scan", self._store.scan(prefix, now))

    async def add(self, counter: str, amount: int, ttl_s: float, now: float) -> int:
        """See `put`."""
        return await self._watch("add", self._store.add(counter, amount, ttl_s, now))

    async def acquire(self, name: str, holder: str, ttl_s: float, now: float) -> int:
        """See `put`."""
        return await self._watch("acquire", self._store.acquire(name, holder, ttl_s, now))

    async def release(self, name: str, holder: str) -> None:
        """See `put`."""
        await self._watch("release", self._store.release(name, holder))

    async def exchange(
        self, room: str, member: str, row: bytes, ttl_s: float, now: float
    ) -> Mapping[str, bytes]:
        """See `put`."""
        return await self._watch("exchange", self._store.exchange(room, member, row, ttl_s, now))

    async def leave(self, room: str, member: str) -> None:
        """See `put`."""
        await self._watch("leave", self._store.leave(room, member))

    async def close(self) -> None:
        """See `put`."""
        await self._store.close()

    async def _watch(self, name: str, call: Awaitable[_T]) -> _T:
        began = self._clock.monotonic()
        try:
            answer = await call
        except StateStoreError as error:
            ended = self._clock.monotonic()
            self._on_call(name, error.cause, ended - began)
            self._failed(str(error), ended)
            raise
        ended = self._clock.monotonic()
        self._on_call(name, "", ended - began)
        self._succeeded(ended)
        return answer

    def _failed(self, why: str, now: float) -> None:
        trouble = self._trouble
        if trouble is None or (not self._failing and now - trouble.last > _RECOVERS_AFTER_S):
            trouble = _Trouble(now, now, why)
        self._trouble = trouble = trouble._replace(last=now, why=why)
        if not self._failing and now - trouble.first >= _FAILS_AFTER_S:
            self._failing = True
            _log.warning("%s; each gateway goes on with what it knows itself", why)

    def _succeeded(self, now: float) -> None:
        self._answered = True
        trouble = self._trouble
        if trouble is None or now - trouble.last < _RECOVERS_AFTER_S:
            return
        if self._failing:
            failed_s = round(trouble.last - trouble.first, 1)
            _log.info("state store: it answers again", extra={"failed_s": failed_s})
        self._failing, self._trouble = False, None
