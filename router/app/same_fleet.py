"""Whether all who share a store route to one fleet.

Two fleets under one `state.redis.prefix` would count each other's gateways and spend each other's
budgets, and nothing else would tell.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from router.app.runtime import Runtime
from router.contract import StateStore
from router.errors import StateStoreError
from router.telemetry.admin import Reason

_ROOM: Final = "fleet"
_EVERY_S: Final = 20.0
_TTL_S: Final = 70.0
# Of an endpoint's address; of fleets that have many in common the smallest are common, too.
_DIGEST_BYTES: Final = 6
_MOST: Final = 64


class FleetWatch:
    """Shows the others which endpoints this process routes to, and looks at theirs."""

    def __init__(self, store: StateStore, runtime: Runtime, identity: str) -> None:
        self._store = store
        self._runtime = runtime
        self._identity = identity
        self._strangers = 0

    async def run(self) -> None:
        """One round, then a rest; to be repeated."""
        runtime = self._runtime
        own = sketch(endpoint.address for endpoint in runtime.config.fleet.endpoints)
        try:
            rows = await self._store.exchange(
                _ROOM, self._identity, own, _TTL_S, runtime.clock.now()
            )
        except StateStoreError:
            rows = {}
        self._strangers = len(strangers(own, rows))
        await asyncio.sleep(_EVERY_S)

    def notes(self) -> Sequence[Reason]:
        """What readiness says of it."""
        if not self._strangers:
            return ()
        detail = (
            f"{self._strangers} processes route to other endpoints and share this one's store: "
            "give each fleet a state.redis.prefix of its own"
        )
        return (Reason("fleets_mixed", detail, False),)


def sketch(addresses: Iterable[str]) -> bytes:
    """A row that tells fleets apart, of at most 384 bytes."""
    digests = (
        hashlib.blake2b(address.encode(), digest_size=_DIGEST_BYTES).digest()
        for address in addresses
    )
    return b"".join(sorted(set(digests))[:_MOST])


def strangers(own: bytes, rows: Mapping[str, bytes]) -> list[str]:
    """Who of ``rows`` has no endpoint in common with ``own``; what is no sketch is nobody's."""
    known = _digests(own)
    return sorted(
        member for member, row in rows.items() if (found := _digests(row)) and not found & known
    )


def _digests(row: bytes) -> set[bytes]:
    if len(row) > _MOST * _DIGEST_BYTES or len(row) % _DIGEST_BYTES:
        return set()
    return {row[i : i + _DIGEST_BYTES] for i in range(0, len(row), _DIGEST_BYTES)}
