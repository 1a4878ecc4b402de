"""Wake times that were measured: in a file beside what is learned, in the store that gateways
share, or in both.

One process of all writes. What is read is held against its shape here, and figure by figure by
`router.core.wake_times`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from router.contract import StateStore
from router.core.wake_times import Site
from router.state.kept_document import Formatted, KeptDocument, decoded

_FORMAT: Final = 1
# Of 4,096 sites with names of the longest kind.
_MOST_BYTES: Final = 4 * 2**20


class _Row(msgspec.Struct):
    model: str
    region: str
    wake_s: list[float]


class _Kept(Formatted):
    sites: list[_Row]


class WakeTimeStore:
    """See `KeptDocument`: in ``FILE.wakes`` beside ``file``."""

    def __init__(self, file: Path | None, store: StateStore | None) -> None:
        self._kept = KeptDocument(file, "wakes", store, "wake_times", _MOST_BYTES)

    async def read(self, now: float) -> Mapping[Site, list[float]]:
        """What was kept, of the store where it has any; empty where there is nothing.

        Raises DataError for what is none, OSError and StateStoreError.
        """
        body = await self._kept.read(now)
        if body is None:
            return {}
        kept = decoded(body, _Kept, _FORMAT, "wake times")
        return {(row.model, row.region): row.wake_s for row in kept.sites}

    async def write(self, taken: Mapping[Site, tuple[float, ...]], now: float) -> None:
        """Replace what is kept. Raises OSError and StateStoreError."""
        rows = [_Row(*site, list(all_s)) for site, all_s in taken.items()]
        await self._kept.write(msgspec.json.encode(_Kept(_FORMAT, rows)), now)
