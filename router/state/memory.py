"""StateStore inside one process: the embedded default, bounded in keys and bytes."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from router.errors import StateStoreError


class _Entry(NamedTuple):
    value: bytes
    expires_at: float


class _Hold(NamedTuple):
    holder: str
    expires_at: float
    token: int


class _Count(NamedTuple):
    total: int
    expires_at: float


class _Row(NamedTuple):
    row: bytes
    expires_at: float


_K = TypeVar("_K")
_V = TypeVar("_V", _Count, _Row)


class MemoryStore:
    """Keys and holds in dictionaries; expiry is judged by the ``now`` of each call.

    When a new key would exceed ``max_keys`` or ``max_bytes`` (keys in UTF-8 plus values), expired
    keys go first, then the keys that would expire soonest. Holds are never evicted, because that
    would make two holders: past ``max_holds`` live holds, ``acquire`` says no.
    """

    def __init__(
        self,
        max_keys: int = 100_000,
        max_bytes: int = 64 * 1024 * 1024,
        max_holds: int = 1_000,
        max_counters: int = 100_000,
    ) -> None:
        self._max_keys = max_keys
        self._max_bytes = max_bytes
        self._max_holds = max_holds
        self._entries: dict[str, _Entry] = {}
        self._max_counters = max_counters
        self._holds: dict[str, _Hold] = {}
        self._tokens = 0
        self._counts: dict[str, _Count] = {}
        self._rooms: dict[tuple[str, str], _Row] = {}
        # (expires_at, key); a key that was put again leaves an outdated pair behind.
        self._expiries: list[tuple[float, str]] = []
        self._bytes = 0

    async def put(self, key: str, value: bytes, ttl_s: float, now: float) -> None:
        """Store until ``now + ttl_s``. Raises ValueError when ``ttl_s`` is not > 0, or when the
        key and its value alone exceed the store.
        """
        if ttl_s != math.inf:
            _require_ttl(ttl_s)
        size = _size(key, value)
        if size > self._max_bytes:
            raise ValueError(f"{key[:64]!r} with its value takes {size} bytes: too large to store")
        self._drop(key)
        self._make_room(size, now)
        entry = _Entry(bytes(value), now + ttl_s)
        self._entries[key] = entry
        self._bytes += size
        heapq.heappush(self._expiries, (entry.expires_at, key))
        if len(self._expiries) > 2 * len(self._entries) + 64:
            self._rebuild()

    async def put_all(self, values: Mapping[str, bytes], ttl_s: float, now: float) -> None:
        """As `put` of each. Raises ValueError as it does."""
        for key, value in values.items():
            await self.put(key, value, ttl_s, now)

    async def get(self, key: str, now: float) -> bytes | None:
        """The value, or None when absent or expired."""
        entry = self._entries.get(key)
        return None if entry is None or entry.expires_at <= now else entry.value

    async def scan(self, prefix: str, now: float) -> Mapping[str, bytes]:
        """Every live key that starts with ``prefix``; O(number of keys)."""
        return {
            key: entry.value
            for key, entry in self._entries.items()
            if entry.expires_at > now and key.startswith(prefix)
        }

    async def add(self, counter: str, amount: int, ttl_s: float, now: float) -> int:
        """What ``counter`` comes to. Raises ValueError when ``ttl_s`` is not finite and > 0."""
        _require_ttl(ttl_s)
        count = self._counts.get(counter)
        if count is None:
            self._counts = self._with_room(self._counts, now)
        total = amount + (count.total if count is not None and count.expires_at > now else 0)
        self._counts[counter] = _Count(total, now + ttl_s)
        return total

    async def acquire(self, name: str, holder: str, ttl_s: float, now: float) -> int:
        """Become or stay the only holder of ``name`` until ``now + ttl_s``: a fencing token, or 0.

        Raises ValueError when ``ttl_s`` is not finite and > 0.
        """
        _require_ttl(ttl_s)
        held = self._holds.get(name)
        if held is not None and held.expires_at > now:
            if held.holder != holder:
                return 0
            self._holds[name] = held._replace(expires_at=now + ttl_s)
            return held.token
        if held is None and len(self._holds) >= self._max_holds:
            self._holds = {key: hold for key, hold in self._holds.items() if hold.expires_at > now}
            if len(self._holds) >= self._max_holds:
                return 0
        self._tokens += 1
        self._holds[name] = _Hold(holder, now + ttl_s, self._tokens)
        return self._tokens

    async def release(self, name: str, holder: str) -> None:
        """Give ``name`` up if ``holder`` holds it; else nothing."""
        held = self._holds.get(name)
        if held is not None and held.holder == holder:
            del self._holds[name]

    async def exchange(
        self, room: str, member: str, row: bytes, ttl_s: float, now: float
    ) -> Mapping[str, bytes]:
        """Put a row until ``now + ttl_s``, then read the room. Raises ValueError when ``ttl_s`` is
        not finite and > 0."""
        _require_ttl(ttl_s)
        if (room, member) not in self._rooms:
            self._rooms = self._with_room(self._rooms, now)
        self._rooms[room, member] = _Row(bytes(row), now + ttl_s)
        return {
            other: there.row
            for (where, other), there in self._rooms.items()
            if where == room and there.expires_at > now
        }

    async def leave(self, room: str, member: str) -> None:
        """Take a row out, if there is one."""
        self._rooms.pop((room, member), None)

    async def close(self) -> None:
        """Nothing is open."""

    def _with_room(self, known: dict[_K, _V], now: float) -> dict[_K, _V]:
        """``known`` with a place for one more; raises StateStoreError where all of it lives."""
        if len(known) >= self._max_counters:
            known = {key: one for key, one in known.items() if one.expires_at > now}
            if len(known) >= self._max_counters:
                raise StateStoreError(f"{len(known)} counters or rows are kept, and no more fit")
        return known

    def _make_room(self, size: int, now: float) -> None:
        while self._expiries and (
            self._expiries[0][0] <= now
            or len(self._entries) >= self._max_keys
            or self._bytes + size > self._max_bytes
        ):
            expires_at, key = heapq.heappop(self._expiries)
            entry = self._entries.get(key)
            if entry is not None and entry.expires_at == expires_at:
                self._drop(key)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _size(key, entry.value)

    def _rebuild(self) -> None:
        self._expiries = [(entry.expires_at, key) for key, entry in self._entries.items()]
        heapq.heapify(self._expiries)


def _size(key: str, value: bytes) -> int:
    return len(key.encode(errors="surrogatepass")) + len(value)


def _require_ttl(ttl_s: float) -> None:
    if not (ttl_s > 0.0 and math.isfinite(ttl_s)):
        raise ValueError(f"ttl_s must be a finite number of seconds > 0, got {ttl_s}")
