"""What every process of all gateways learned, in what they share.

Each process writes its own, in parts that a store can hold: so nothing is locked, and nobody's is
replaced by another's. A room says who wrote what and when; who starts reads the newest of it, and
clears away what too many before it left.

MessagePack, version 2: a row of the room is [2, unix s, place, parts], a part [2, whether it is the
writer's own evidence, Learned].
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Final, NamedTuple, TypeVar

import msgspec

from router.contract import Clock, StateStore
from router.core.learned import Learned

# Of the rows and parts, and how they are meant: another number is another format, and passed over.
VERSION: Final = 2
# A fleet that stood still over a week goes on where it was.
KEEP_S: Final = 7 * 86_400.0
# More processes than these say nothing new.
MOST_PROCESSES: Final = 64
_MOST_PARTS: Final = 64
_MOST_PART_BYTES: Final = 1024 * 1024
_MOST_BYTES: Final = 64 * 2**20
# Entries of a part, some 250 bytes each.
_PART_ENTRIES: Final = 1000
_ROOM: Final = "learned"
# The least that a store knows.
_AT_ONCE_S: Final = 0.001

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


_NOTHING: Final = Learned()
# Who wrote nothing for so long never will.
_STARTING_S: Final = 600.0


class Kept(NamedTuple):
    """What one process knew ``age_s`` ago, in the ``place`` where it is: its ``own`` evidence, and
    what it had of ``others``; of so many bytes."""

    own: Learned
    others: Learned
    age_s: float
    place: str
    size: int


class _Row(NamedTuple):
    """Of the room. ``at``: unix s, by the writer's clock."""

    version: int
    at: float
    place: str
    parts: int


class LearnedStore:
    """One process's side. Every method raises StateStoreError when the store cannot be had."""

    def __init__(self, store: StateStore, identity: str, place: str, clock: Clock) -> None:
        """``identity``: unique to this process among all that ever were."""
        self._store = store
        self._identity = identity
        self._place = place
        self._clock = clock
        # How many parts of this process there are.
        self._written = 0

    async def write(self, own: Learned, others: Learned = _NOTHING) -> None:
        """Replace what this process has there: its own evidence, and what it has of others."""
        encoder = msgspec.msgpack.Encoder()
        parts = [(True, part) for part in _parts(own)]
        parts += [(False, part) for part in _parts(others)]
        parts = parts[:_MOST_PARTS]
        for number, (is_own, part) in enumerate(parts):
            # Thousands of tenants take a while.
            body = await asyncio.to_thread(encoder.encode, (VERSION, is_own, part))
            if len(body) <= _MOST_PART_BYTES:
                await self._store.put(_key(self._identity, number), body, KEEP_S, self._now())
        self._written = len(parts)
        await self._show()

    async def read(self, newer_than_s: float = math.inf) -> list[Kept]:
        """What the newest processes wrote in the last so many seconds, this one left out; what
        cannot be read is passed over.

        Clears away what is left of those that are too many.
        """
        rows = await self._show()
        rows.pop(self._identity, None)
        told = {member: _row(body) for member, body in rows.items()}
        wrote = {member: row for member, row in told.items() if row is not None and row.parts}
        newest = sorted(wrote, key=lambda member: (-wrote[member].at, member))
        found: list[Kept] = []
        left = _MOST_BYTES
        for member in newest[:MOST_PROCESSES]:
            row = wrote[member]
            age_s = max(self._now() - row.at, 0.0)
            if age_s > newer_than_s:
                continue
            kept = await self._of(member, row, age_s, left)
            left -= kept.size
            found.append(kept)
        for member, last in told.items():
            too_many = member in newest[MOST_PROCESSES:]
            if too_many or last is None or self._has_never_written(last):
                await self._clear(member, last.parts if last else 0)
        return found

    async def _of(self, member: str, row: _Row, age_s: float, most_bytes: int) -> Kept:
        """What one process wrote."""
        own = others = _NOTHING
        size = 0
        for number in range(row.parts):
            body = await self._store.get(_key(member, number), self._now())
            if body is None or size + len(body) > most_bytes:
                continue
            size += len(body)
            part = await asyncio.to_thread(_part, body)
            if part is None:
                continue
            is_own, learned = part
            if is_own:
                own = _joined(own, learned)
            else:
                others = _joined(others, learned)
        return Kept(own, others, age_s, row.place, size)

    def _has_never_written(self, row: _Row) -> bool:
        return not row.parts and self._now() - row.at > _STARTING_S

    async def _show(self) -> dict[str, bytes]:
        row = msgspec.msgpack.encode(_Row(VERSION, self._now(), self._place, self._written))
        rows = await self._store.exchange(_ROOM, self._identity, row, KEEP_S, self._now())
        return dict(rows)

    async def _clear(self, member: str, parts: int) -> None:
        for number in range(parts):
            await self._store.put(_key(member, number), b"", _AT_ONCE_S, self._now())
        await self._store.leave(_ROOM, member)

    def _now(self) -> float:
        return self._clock.now()


def _key(identity: str, number: int) -> str:
    return f"learned/{identity}/{number}"


def _row(body: bytes) -> _Row | None:
    row = _decoded(body, _Row)
    if row is None or row.version != VERSION or not 0 <= row.parts <= _MOST_PARTS:
        return None
    return row if abs(row.at) < 1e11 else None


def _part(body: bytes) -> tuple[bool, Learned] | None:
    decoded = _decoded(body, tuple[int, bool, msgspec.Raw])
    if decoded is None or decoded[0] != VERSION:
        return None
    learned = _decoded(bytes(decoded[2]), Learned)
    return None if learned is None else (decoded[1], learned)


def _decoded(body: bytes, kind: Callable[..., _T]) -> _T | None:
    try:
        decoded: _T = msgspec.msgpack.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        _log.debug("what was learned elsewhere cannot be read: %s", error)
        return None
    return decoded


def _joined(one: Learned, other: Learned) -> Learned:
    return Learned(
        **{
            field.name: getattr(one, field.name) + getattr(other, field.name)
            for field in fields(one)
        }
    )


def _parts(learned: Learned) -> Iterator[Learned]:
    """``learned`` in pieces. Tenants of late come first: there is room for so many parts only."""
    if 0 < sum(len(getattr(learned, field.name)) for field in fields(learned)) <= _PART_ENTRIES:
        yield learned
        return
    rest = replace(learned, latency=(), lengths=(), margins=())
    if rest != Learned():
        yield rest
    for latency in _pieces(learned.latency):
        yield Learned(latency=latency)
    for margins in _pieces(learned.margins):
        yield Learned(margins=margins)
    for lengths in _pieces(learned.lengths[::-1]):
        yield Learned(lengths=lengths[::-1])


def _pieces(entries: Sequence[_T]) -> Iterator[tuple[_T, ...]]:
    for first in range(0, len(entries), _PART_ENTRIES):
        yield tuple(entries[first : first + _PART_ENTRIES])
