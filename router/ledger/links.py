"""The chain of a writer's batches: each says what its rows are, and which batch came before.

A file holds one link, or several once it was compacted; its rows are those of its links, in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from router.errors import DataError
from router.ledger.columns import VERSION

# Of a writer's first link.
NO_LINK: Final = ""


class GapReason(StrEnum):
    """Why rows that were numbered are not there."""

    # The process was ended before they were written.
    KILLED = "killed"
    # The queue was full, because the disk did not keep up, or was full.
    QUEUE_FULL = "queue_full"
    # A cell was not what its column holds: a fault of this program.
    UNWRITABLE = "unwritable"
    # They were written, but the store did not take them, and the spool had no room for more.
    SPOOL_FULL = "spool_full"
    # They were in a journal that somebody removed.
    REMOVED = "removed"


_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows that are missing, and are known to be. ``since``, ``until``: unix s, between which they
    would have come. ``link``, ``hash``: of the batch that is missing as a whole, else 0 and ""."""

    reason: GapReason
    first_seq: _Count
    last_seq: _Count
    since: float
    until: float
    link: _Count = 0
    hash: str = NO_LINK


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One batch. ``link``: 1, 2, ... of its writer; ``first_seq``, ``last_seq``: the least and
    greatest of its ``rows``; ``digest``: `row_digest` of them; ``previous``: the hash of the link
    before; ``gaps``: found since that. ``through``: every number up to it is of a row of this
    batch, of one before it, or of a gap that they tell. ``hash``: of all of this."""

    table: str
    writer: str
    link: _Count
    first_seq: _Count
    last_seq: _Count
    rows: _Count
    digest: str
    previous: str
    gaps: tuple[Gap, ...] = ()
    through: _Count = 0
    version: int = VERSION
    hash: str = NO_LINK


def hashed(link: ChainLink) -> ChainLink:
    """``link`` with its hash: the SHA-256 of its other figures as JSON, keys in order."""
    body = msgspec.json.encode(_unhashed(link), order="sorted")
    return replace(link, hash=hashlib.sha256(body).hexdigest())


def is_intact(link: ChainLink) -> bool:
    """Whether its hash is the one of its figures."""
    return hashed(link).hash == link.hash


def encoded_links(links: Sequence[ChainLink]) -> bytes:
    """As files' metadata hold them."""
    return msgspec.json.encode(list(links))


def decoded_links(body: bytes) -> tuple[ChainLink, ...]:
    """Raises DataError for what are none, or of another version."""
    try:
        links = msgspec.json.decode(body, type=tuple[ChainLink, ...])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"not links of a ledger: {error}") from None
    for link in links:
        if not 1 <= link.version <= VERSION:
            raise DataError(f"of version {link.version}, and this program reads 1 to {VERSION}")
    return links


def _unhashed(link: ChainLink) -> dict[str, object]:
    figures = msgspec.to_builtins(link)
    del figures["hash"]
    return {str(key): value for key, value in figures.items()}
