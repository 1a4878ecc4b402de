"""The document of hashed keys that gateways keep in their store: pieces behind one head.

    api-keys               head: format, SHA-256 and size of the document
    api-keys/SHA256/0 ...  the document, a quarter of a MiB a piece: a file of keys, as JSON

The head is small enough to be looked at every second, and is written last: who reads finds the
document before or the one after. A store is written by whoever may: what is there is bounded,
held against its hash, and checked as a file is.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from router.config.identity import KeysFileSchema
from router.contract import StateStore
from router.errors import ConfigError, DataError, StateStoreError
from router.identity.keys_file import MAX_BYTES, checked_keys

# What errors call it.
WHERE: Final = "the keys in the store"
# In the store: of the head, and of the lease under which it is changed.
NAME: Final = "api-keys"
PIECE_BYTES: Final = 256 * 1024
# Who reads a document while it is replaced has as long to end.
_LEFT_S: Final = 60.0
_HEAD: Final = re.compile(rb"1 ([0-9a-f]{64}) ([0-9]{1,8})")
# Whoever wrote a document that is wrong in many places need not be told of all.
_MOST_PROBLEMS: Final = 20


class StoredKeys:
    """The document in one store. ``now``: unix s."""

    def __init__(self, store: StateStore, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now

    async def head(self) -> bytes | None:
        """What tells one document from another; None where there is none, which is not the same as
        one without keys. Raises StateStoreError."""
        return await self._store.get(NAME, self._now())

    async def document(self, head: bytes) -> bytes:
        """The document of ``head``, whole. Raises StateStoreError; ConfigError where it is not what
        a gateway's commands write, DataError where parts of it are missing."""
        found = _HEAD.fullmatch(head)
        if found is None:
            raise ConfigError(WHERE, [("", "not in a format that this version reads")])
        sha256, size = found[1].decode(), int(found[2])
        if size > MAX_BYTES:
            raise ConfigError(WHERE, [("", f"larger than {MAX_BYTES // 2**20} MiB")])
        parts = []
        for number in range(_pieces(size)):
            part = await self._store.get(_piece(sha256, number), self._now())
            if part is None:
                raise DataError(f"{WHERE}: parts of them are missing, evicted perhaps")
            parts.append(part[: PIECE_BYTES + 1])
        document = b"".join(parts)
        if len(document) != size or hashlib.sha256(document).hexdigest() != sha256:
            raise ConfigError(WHERE, [("", "not what was written there: their SHA-256 differs")])
        return document

    async def replace(
        self,
        document: bytes,
        before: bytes | None,
        still: Callable[[], Awaitable[None]],
    ) -> None:
        """Put ``document`` in the place of the one whose head is ``before``; all at once for who
        reads. ``still``: called before that, raises ConfigError where somebody else is at it.

        Raises StateStoreError, and ConfigError where it is too large, too.
        """
        if len(document) > MAX_BYTES:
            raise ConfigError(WHERE, [("", f"larger than {MAX_BYTES // 2**20} MiB")])
        sha256 = hashlib.sha256(document).hexdigest()
        for number in range(_pieces(len(document))):
            part = document[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]
            await self._store.put(_piece(sha256, number), part, math.inf, self._now())
        await still()
        head = f"1 {sha256} {len(document)}".encode()
        await self._store.put(NAME, head, math.inf, self._now())
        if before is not None and before != head:
            # What stays behind is no more than room that is lost.
            with suppress(StateStoreError, ConfigError, DataError):
                document = await self.document(before)
                await still()
                await self._let_go(before, document)

    async def _let_go(self, head: bytes, document: bytes) -> None:
        sha256 = head.split()[1].decode()
        for number in range(_pieces(len(document))):
            part = document[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]
            await self._store.put(_piece(sha256, number), part, _LEFT_S, self._now())


def write_document(data: dict[str, Any]) -> bytes:
    """What a file of keys says, as it is kept."""
    return json.dumps(data, separators=(",", ":")).encode()


def read_document(document: bytes) -> KeysFileSchema:
    """What a document says. Raises ConfigError, whose words a terminal and a log can show."""
    try:
        # Ten times as quick as YAML, in every process and for every key that is made.
        data = json.loads(document.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise ConfigError(WHERE, [("", "not UTF-8")]) from None
    except (ValueError, RecursionError):
        # Python's words for it repeat some of it.
        raise ConfigError(WHERE, [("", "not JSON, or a key of it is given twice")]) from None
    try:
        return checked_keys(data, WHERE)
    except ConfigError as error:
        told = [(_shown(at), _shown(text)) for at, text in error.problems[:_MOST_PROBLEMS]]
        more = len(error.problems) - len(told)
        if more:
            told.append(("", f"and {more} more"))
        raise ConfigError(WHERE, told) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _no_number(text: str) -> float:
    raise ValueError


def _pieces(size: int) -> int:
    return math.ceil(size / PIECE_BYTES)


def _piece(sha256: str, number: int) -> str:
    return f"{NAME}/{sha256}/{number}"


def _shown(text: str) -> str:
    # A terminal obeys some of what cannot be seen.
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
