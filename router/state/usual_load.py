"""What usually runs where, as it is kept. What is read is held against its shape here, and figure
by figure by `router.core.usual_load`. One process of all writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from router.contract import StateStore
from router.core.usual_load import UsualSlot
from router.core.wake_times import Site
from router.state.kept_document import Formatted, KeptDocument, decoded

_FORMAT: Final = 1
# Of 4,096 sites with names of the longest kind.
_MOST_BYTES: Final = 16 * 2**20


class _Row(msgspec.Struct):
    model: str
    region: str
    places: list[float]
    days: list[int]


class _Kept(Formatted):
    sites: list[_Row]


class UsualLoadStore:
    """See `KeptDocument`: in ``FILE.usual`` beside ``file``."""

    def __init__(self, file: Path | None, store: StateStore | None) -> None:
        self._kept = KeptDocument(file, "usual", store, "usual_load", _MOST_BYTES)

    async def read(self, now: float) -> Mapping[Site, Sequence[UsualSlot]]:
        """Empty where there is nothing. Raises DataError for what is none, OSError and
        StateStoreError."""
        body = await self._kept.read(now)
        if body is None:
            return {}
        kept = decoded(body, _Kept, _FORMAT, "usual loads")
        return {
            (row.model, row.region): [
                UsualSlot(*slot) for slot in zip(row.places, row.days, strict=False)
            ]
            for row in kept.sites
        }

    async def write(self, taken: Mapping[Site, Sequence[UsualSlot]], now: float) -> None:
        """Replace what is kept. Raises OSError and StateStoreError."""
        rows = [
            _Row(*site, [round(slot.places, 3) for slot in slots], [slot.days for slot in slots])
            for site, slots in taken.items()
        ]
        await self._kept.write(msgspec.json.encode(_Kept(_FORMAT, rows)), now)
