"""What several processes, or gateways, share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class StateStore(Protocol):
    """What several gateways share: memory is the embedded default, Redis what processes share.

    Keys, counters, holds and rooms are apart: one name may stand in each. Every call is one round
    trip at most and atomic by itself; a store that cannot answer raises StateStoreError. Nothing
    on the way of a request waits for one.
    """

    async def put(self, key: str, value: bytes, ttl_s: float, now: float) -> None:
        """Store until ``now + ttl_s``; infinite: until it is replaced, for what nobody renews."""
        ...

    async def put_all(self, values: Mapping[str, bytes], ttl_s: float, now: float) -> None:
        """As `put` of each; when it fails, some of them may be stored."""
        ...

    async def get(self, key: str, now: float) -> bytes | None:
        """The value, or None when absent or expired."""
        ...

    async def scan(self, prefix: str, now: float) -> Mapping[str, bytes]:
        """Every live key that starts with ``prefix``; takes several round trips."""
        ...

    async def add(self, counter: str, amount: int, ttl_s: float, now: float) -> int:
        """What ``counter`` comes to with ``amount`` (of either sign) added; an absent or expired
        one is 0. It lives until ``now + ttl_s`` from the last call on."""
        ...

    async def acquire(self, name: str, holder: str, ttl_s: float, now: float) -> int:
        """Become or stay the only holder of ``name`` for ``ttl_s``; 0 when another holds it.

        Else a fencing token: the same as long as a holder stays without a break, larger than any
        before with each that becomes it, so that what an earlier holder still writes is told.
        """
        ...

    async def release(self, name: str, holder: str) -> None:
        """Give ``name`` up if ``holder`` holds it; else nothing."""
        ...

    async def exchange(
        self, room: str, member: str, row: bytes, ttl_s: float, now: float
    ) -> Mapping[str, bytes]:
        """Put ``member``'s row into ``room`` until ``now + ttl_s``, then read the room: every live
        row by member, its own among them.

        Of two members that exchange, the later one reads the earlier one's row.
        """
        ...

    async def leave(self, room: str, member: str) -> None:
        """Take ``member``'s row out of ``room``, if there is one."""
        ...

    async def close(self) -> None:
        """Give up what it holds open; it is not used afterwards."""
        ...


class SequencePins(Protocol):
    """Which endpoint holds the state of which sequence; on the hot path, so nothing waits."""

    def find(self, model: str, sequence_id: str) -> str:
        """The endpoint that holds a sequence; "" when none does."""
        ...

    def keep(self, model: str, sequence_id: str, endpoint: str) -> None:
        """From now on ``endpoint`` holds the sequence."""
        ...

    def drop(self, model: str, sequence_id: str) -> None:
        """Nobody holds the sequence any more."""
        ...


class Places(Protocol):
    """Places at endpoints that several processes share; on the hot path, so nothing waits."""

    def refresh(self, now: float, at_once: bool = False) -> None:
        """Take in what the others hold, a moment old or ``at_once``; ``now``: monotonic, s."""
        ...

    def claim(self, endpoint: str, max_in_flight: int) -> bool:
        """Whether there is room for one more request; if so it is taken at once."""
        ...
