"""A small document that one process of all keeps for those after it: in a file beside what is
learned, in the store that gateways share, or in both."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import TypeVar

import msgspec

from router.contract import StateStore
from router.errors import DataError
from router.replaced_file import ReplacedFile


class Formatted(msgspec.Struct):
    """What a document says first: by which version of its shape it was written."""

    format: int


_Body = TypeVar("_Body", bound=Formatted)


def decoded(body: bytes, shape: type[_Body], known: int, what: str) -> _Body:
    """``body`` in the ``known`` format. Raises DataError for what is no ``what``."""
    try:
        kept = msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise DataError(f"no {what}: {error}") from None
    if kept.format != known:
        raise DataError(f"format {kept.format}, and this gateway reads {known}")
    return kept


class KeptDocument:
    """``file``: of what is learned, None where there is none; ``suffix``: of its own beside that;
    ``store``: the same, under ``key``. More than ``most_bytes`` is none of ours."""

    def __init__(
        self, file: Path | None, suffix: str, store: StateStore | None, key: str, most_bytes: int
    ) -> None:
        self._file = None
        if file is not None:
            self._file = ReplacedFile(file.with_name(f"{file.name}.{suffix}"), most_bytes)
        self._store = store
        self._key = key
        self._most_bytes = most_bytes

    async def read(self, now: float) -> bytes | None:
        """What was kept, of the store where it has any; None where there is nothing.

        Raises DataError for what is too long, OSError and StateStoreError.
        """
        body = None
        if self._store is not None:
            body = await self._store.get(self._key, now)
        if body is None and self._file is not None:
            body = await asyncio.to_thread(self._file.read)
        if body is not None and len(body) > self._most_bytes:
            raise DataError(f"over {self._most_bytes} bytes")
        return body

    async def write(self, body: bytes, now: float) -> None:
        """Replace what is kept. Raises OSError and StateStoreError."""
        if self._file is not None:
            await asyncio.to_thread(self._file.write, body)
        if self._store is not None:
            await self._store.put(self._key, body, math.inf, now)
