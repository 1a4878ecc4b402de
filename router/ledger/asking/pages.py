"""The rows of one owner over a period, a page at a time.

Rows come by hour, writer and number: an order that neither sealing nor `compact` changes, so that
whoever goes on after one misses none and has none twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from router.errors import DataError
from router.ledger.asking.row_places import (
    Deadline,
    RowFile,
    RowPlaces,
    is_equal,
    may_hold,
    plain_rows,
)
from router.ledger.month import US_PER_HOUR
from router.ledger.tables import RECEIPTS

_CURSOR: Final = re.compile(r"([0-9a-f]{1,8})\.([0-9a-f]{1,16})\.([A-Za-z0-9_.-]{0,128})", re.ASCII)
# Of an hour whose files come and go while they are read.
_TRIES: Final = 3
_KEYS: Final = ("writer", "seq", "tenant", RECEIPTS.time)


class Cursor(NamedTuple):
    """After which row to go on. ``hour``: since 1970; "" and 0: before its first."""

    hour: int
    writer: str = ""
    seq: int = 0

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises DataError for what is none."""
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise DataError(f"{text[:64]!r} is no place to go on from: take it from a page before")
        seq = min(int(found[2], 16), 2**63 - 1)
        return cls(int(found[1], 16), found[3], seq)

    def __str__(self) -> str:
        return f"{self.hour:x}.{self.seq:x}.{self.writer}"


class PageQuestion(NamedTuple):
    """``owner``: as it is kept, "" for rows without one, None for all; from ``since_us`` until
    before ``until_us``, microseconds since 1970; ``most``: rows."""

    owner: str | None
    since_us: int
    until_us: int
    most: int
    after: Cursor | None = None


class RowSlice(NamedTuple):
    """``places``: of rows in ``file``, rising, (n,)."""

    file: RowFile
    places: NDArray[np.int64]


class RowPage(NamedTuple):
    """``after``: to go on from, None where that is all; ``unread``: files without whose rows it is,
    for they cannot be read."""

    slices: tuple[RowSlice, ...]
    rows: int
    after: Cursor | None
    unread: tuple[str, ...]


class _Keys(NamedTuple):
    writers: NDArray[Any]
    seqs: NDArray[np.int64]
    files: NDArray[np.int64]
    places: NDArray[np.int64]


def plan_page(places: RowPlaces, question: PageQuestion, deadline: Deadline) -> RowPage:
    """Which rows the page has; of what is too much for it, or for the time, the first hours.

    At least one hour is looked through, however late it is. Raises DataError where a place cannot
    be read.
    """
    first, end = question.since_us // US_PER_HOUR, -(-question.until_us // US_PER_HOUR)
    after = question.after
    if after is not None:
        first = max(first, after.hour)
    slices: list[RowSlice] = []
    unread: list[str] = []
    room = question.most
    for number, hour in enumerate(places.hours(first, end)):
        if number and (room <= 0 or deadline.is_over):
            return RowPage(tuple(slices), question.most - room, Cursor(hour), tuple(unread))
        files, keys, broken = _hour(places, hour, question)
        unread += broken
        start = after if after is not None and after.hour == hour else Cursor(hour)
        chosen = _in_order(keys, start)
        slices += _slices(files, keys, chosen[:room])
        if len(chosen) > room:
            last = chosen[room - 1]
            cursor = Cursor(hour, str(keys.writers[last]), int(keys.seqs[last]))
            return RowPage(tuple(slices), question.most, cursor, tuple(unread))
        room -= len(chosen)
    return RowPage(tuple(slices), question.most - room, None, tuple(unread))


def read_slices(slices: Sequence[RowSlice]) -> Iterator[pa.Table]:
    """The rows, in order, in the columns of receipts as they are now, names as plain texts.

    Raises DataError where a file is not there any more, or cannot be read.
    """
    for one in slices:
        read = 0
        for at, batch in one.file.batches():
            ends = int(np.searchsorted(one.places, at + batch.num_rows))
            if ends > read:
                yield plain_rows(batch.take(pa.array(one.places[read:ends] - at)))
                read = ends
            if read == len(one.places):
                break
        if read < len(one.places):
            raise DataError(f"{one.file.name}: has fewer rows than before")


class _SealedMeanwhileError(Exception):
    pass


def _hour(
    places: RowPlaces, hour: int, question: PageQuestion
) -> tuple[list[RowFile], _Keys, list[str]]:
    """Its files, which of their rows are asked for, and why some of the files cannot be read."""
    for _ in range(_TRIES):
        files = places.files(hour)
        try:
            return files, *_keys_of(files, question)
        except _SealedMeanwhileError:
            continue
    raise DataError("the ledger changes faster than it can be read")


def _keys_of(files: Sequence[RowFile], question: PageQuestion) -> tuple[_Keys, list[str]]:
    found: list[tuple[NDArray[Any], ...]] = []
    unread: list[str] = []
    groups = may_hold("tenant", question.owner) if question.owner else None
    for number, file in enumerate(files):
        try:
            for at, batch in file.batches(_KEYS, groups):
                place = pc.indices_nonzero(_asked(batch, question))
                if len(place):
                    rows = batch.take(place)
                    writers = rows.column("writer").cast(pa.string())
                    found.append((
                        writers.to_numpy(zero_copy_only=False).astype(str),
                        rows.column("seq").to_numpy(),
                        np.full(rows.num_rows, number),
                        place.to_numpy().astype(np.int64) + at,
                    ))  # fmt: skip
        except DataError as error:
            if file.is_gone:
                # It is looked for again, where its rows are now.
                raise _SealedMeanwhileError from error
            unread.append(str(error))
    if not found:
        none = np.empty(0, np.int64)
        return _Keys(none.astype(str), none, none, none), unread
    return _Keys(*(np.concatenate(column) for column in zip(*found, strict=True))), unread


def _asked(batch: Any, question: PageQuestion) -> Any:
    time = batch.column(RECEIPTS.time).cast(pa.int64())
    mask = pc.and_(
        pc.greater_equal(time, question.since_us), pc.less(time, question.until_us)
    )  # fmt: skip
    if question.owner is None:
        return mask
    if not question.owner:
        return pc.and_(mask, pc.is_null(batch.column("tenant")))
    return pc.and_(mask, is_equal(batch, "tenant", question.owner))


def _in_order(keys: _Keys, after: Cursor) -> NDArray[np.int64]:
    """Which of ``keys`` come after that, each row once."""
    order = np.lexsort((keys.files, keys.seqs, keys.writers))
    writers, seqs = keys.writers[order], keys.seqs[order]
    new = np.ones(len(order), bool)
    new[1:] = (writers[1:] != writers[:-1]) | (seqs[1:] != seqs[:-1])
    later = (writers > after.writer) | ((writers == after.writer) & (seqs > after.seq))
    chosen: NDArray[np.int64] = order[new & later]
    return chosen


def _slices(files: Sequence[RowFile], keys: _Keys, chosen: NDArray[np.int64]) -> list[RowSlice]:
    if not len(chosen):
        return []
    file, place = keys.files[chosen], keys.places[chosen]
    cuts = np.flatnonzero((np.diff(file) != 0) | (np.diff(place) <= 0)) + 1
    return [
        RowSlice(files[int(keys.files[part[0]])], keys.places[part])
        for part in np.split(chosen, cuts)
    ]
