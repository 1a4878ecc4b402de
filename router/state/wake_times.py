"""Wake times that were measured: in a file beside what is learned, in the store that gateways
share, or in both.

One process of all writes. What is read is held against its shape here, and figure by figure by
`router.core.wake_times`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from router.contract import StateStore
from router.core.wake_times import Site
from router.errors import DataError
from router.replaced_file import ReplacedFile

_FORMAT: Final = 1
# Of 4,096 sites with names of the longest kind.
_MOST_BYTES: Final = 4 * 2**20
_KEY: Final = "wake_times"


class _Row(msgspec.Struct):
    model: str
    region: str
    wake_s: list[float]


class _Kept(msgspec.Struct):
    format: int
    sites: list[_Row]


class WakeTimeStore:
    """``file``: of what is learned, None where there is none; ``store``: the same."""

    def __init__(self, file: Path | None, store: StateStore | None) -> None:
        self._file = None
        if file is not None:
            self._file = ReplacedFile(file.with_name(f"{file.name}.wakes"), _MOST_BYTES)
        self._store = store

    async def read(self, now: float) -> Mapping[Site, list[float]]:
        """What was kept, of the store where it has any; empty where there is nothing.

        Raises DataError for what is none, OSError and StateStoreError.
        """
        body = None
        if self._store is not None:
            body = await self._store.get(_KEY, now)
        if body is None and self._file is not None:
            body = await asyncio.to_thread(self._file.read)
        return {} if body is None else _decoded(body)

    async def write(self, taken: Mapping[Site, tuple[float, ...]], now: float) -> None:
        """Replace what is kept. Raises OSError and StateStoreError."""
        rows = [_Row(*site, list(all_s)) for site, all_s in taken.items()]
        body = msgspec.json.encode(_Kept(_FORMAT, rows))
        if self._file is not None:
            await asyncio.to_thread(self._file.write, body)
        if self._store is not None:
            await self._store.put(_KEY, body, math.inf, now)


def _decoded(body: bytes) -> Mapping[Site, list[float]]:
    try:
        if len(body) > _MOST_BYTES:
            raise DataError(f"over {_MOST_BYTES} bytes")
        kept = msgspec.json.decode(body, type=_Kept)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise DataError(f"no wake times: {error}") from None
    if kept.format != _FORMAT:
        raise DataError(f"format {kept.format}, and this gateway reads {_FORMAT}")
    return {(row.model, row.region): row.wake_s for row in kept.sites}
