"""Profiles that were calibrated while the gateway ran: in a file beside what is learned, in the
store that gateways share, or in both.

One process of all writes; the others, and who starts, read. What is read is held against its shape
here, and figure by figure by `router.config.calibrated`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from router.config.calibrated import Calibrated
from router.contract import StateStore
from router.errors import DataError
from router.replaced_file import ReplacedFile

_FORMAT: Final = 1
_MOST_BYTES: Final = 4 * 2**20
_KEY: Final = "calibrated"


class CalibratedStore:
    """``file``: of what is learned, None where there is none; ``store``: the same."""

    def __init__(self, file: Path | None, store: StateStore | None) -> None:
        self._file = None
        if file is not None:
            self._file = ReplacedFile(file.with_name(f"{file.name}.profiles"), _MOST_BYTES)
        self._store = store

    async def read(self, now: float) -> Sequence[Calibrated] | None:
        """What was kept, of the store where it has any; None where there is nothing.

        Raises DataError for what is none, OSError and StateStoreError.
        """
        if self._store is not None:
            body = await self._store.get(_KEY, now)
            if body is not None:
                return _decoded(body)
        if self._file is None:
            return None
        body = await asyncio.to_thread(self._file.read)
        return None if body is None else _decoded(body)

    async def write(self, found: Sequence[Calibrated], now: float) -> None:
        """Replace what is kept. Raises OSError and StateStoreError."""
        body = msgspec.json.encode({"format": _FORMAT, "profiles": found})
        if self._file is not None:
            await asyncio.to_thread(self._file.write, body)
        if self._store is not None:
            await self._store.put(_KEY, body, math.inf, now)


class _Kept(msgspec.Struct):
    format: int
    profiles: list[Calibrated]


def _decoded(body: bytes) -> Sequence[Calibrated]:
    try:
        if len(body) > _MOST_BYTES:
            raise DataError(f"over {_MOST_BYTES} bytes")
        kept = msgspec.json.decode(body, type=_Kept)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise DataError(f"no calibrated profiles: {error}") from None
    if kept.format != _FORMAT:
        raise DataError(f"format {kept.format}, and this gateway reads {_FORMAT}")
    return kept.profiles
