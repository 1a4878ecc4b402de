"""The ledger as callers may ask it: one receipt by its id, those of a period a page at a time.

Off the event loop, bounded in time and in how many ask at once. Whose rows are told is decided by
whoever asks: here an owner is a name, kept as the operator has it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import pyarrow as pa

from router.contract import Clock
from router.core.decision_ids import made_by
from router.errors import DataError, ReceiptsUnreachableError
from router.ledger.asking.by_id import FoundRows, find_rows
from router.ledger.asking.csv_rows import csv_header, csv_rows
from router.ledger.asking.pages import Cursor, PageQuestion, RowPage, plan_page, read_slices
from router.ledger.asking.row_places import Deadline, RowPlaces
from router.ledger.asking.settled import PriceLookup, SettledFigures, hours_of, settled
from router.ledger.asking.threads import ReadingThreads
from router.ledger.month import US_PER_S
from router.ledger.settlement import Price, PriceKey
from router.units import HOUR_S

# Of one receipt, and of planning a page: the first hour of that is looked through in any case.
_FIND_S: Final = 3.0
_PLAN_S: Final = 3.0
# Files are sealed as they fill: what was planned is then to be read elsewhere.
_PLANS: Final = 3
# What a receipt was settled at is told beside it, if it takes no longer.
_PRICES_S: Final = 2.0
# Who waits is told to ask again after that, whatever the store does.
_WAIT_S: Final = 10.0
_CHUNK_ROWS: Final = 2048
# Of a page, before its head is sent: a page that is no longer is whole, or none.
_AHEAD_BYTES: Final = 1024 * 1024
# Whose prices are read at once, from the first that is wanted on.
_PRICED_HOURS: Final = 24
_AGAIN_S: Final = 1.0
_UNREAD: Final = "the ledger cannot be read: what is asked for may be there; ask again"
# Different problems, in the log.
_MOST_TOLD: Final = 1000
# Years of a clock.
_MOST_US: Final = 2**53

_Value = TypeVar("_Value")

_log = logging.getLogger(__name__)


class LedgerReceipt(NamedTuple):
    """``row``: that ended the request, by the names of its columns; ``lost_gco2e``: of the attempts
    before it, g; ``settled``: None where no settlement has priced its hours; ``settled_unread``:
    whether that cannot be told."""

    row: Mapping[str, Any]
    lost_gco2e: float
    settled: SettledFigures | None
    settled_unread: bool


class CsvPage:
    """``after``: what to go on from, "" where that is all; ``unread``: files without whose rows it
    is."""

    def __init__(
        self,
        page: RowPage,
        first: bytes,
        chunks: Iterator[bytes],
        threads: ReadingThreads,
        columns: bytes,
    ) -> None:
        """``first``: what was read of it already, b"" where it has no rows."""
        self.after = "" if page.after is None else str(page.after)
        self.unread = page.unread
        self.rows = page.rows
        self._first = first
        self._chunks = chunks
        self._threads = threads
        self._columns = columns

    async def chunks(self) -> AsyncIterator[bytes]:
        """The page, piece by piece, read as it is asked for.

        Raises DataError where a file went meanwhile, ReceiptsUnreachableError.
        """
        yield self._columns
        chunk: bytes | None = self._first
        while chunk:
            yield chunk
            chunk = await self._threads.run(lambda: next(self._chunks, None), _WAIT_S)


class AskedLedger:
    """Of one process. ``folder``, ``url``: of the ledger, None where it has no URL; ``kept``: how
    an owner's name is kept, None where none is."""

    def __init__(
        self,
        folder: str | Path,
        url: str | None,
        clock: Clock,
        kept: Callable[[str], str | None],
    ) -> None:
        self._here = RowPlaces([folder])
        self._there = None if url is None else RowPlaces([url])
        self._both = RowPlaces([folder] if url is None else [folder, url])
        # Settlements are written where files end up.
        self._prices = PriceLookup(str(folder if url is None else url))
        self._clock = clock
        self._kept = kept
        self._near = ReadingThreads()
        # A store that hangs holds up nothing that is here.
        self._far = self._near if url is None else ReadingThreads()
        self._told: set[str] = set()

    @property
    def tells_owners(self) -> bool:
        """Whether the ledger says whose rows are whose; without it nobody is told any."""
        return self._kept("a") is not None

    async def find(self, decision_id: str, owner: str) -> LedgerReceipt | None:
        """The receipt of a decision; None where there is none, or it is not that ``owner``'s.

        Raises ReceiptsUnreachableError where it may be there and could not be read.
        """
        made, wanted = made_by(decision_id), self._owner(owner)
        if made is None or made.hour is None or wanted is None:
            return None
        hour = made.hour
        found = await self._read(self._near, self._look(self._here, decision_id, hour))
        if self._there is not None and not found.are_all:
            try:
                work = self._look(self._there, decision_id, hour)
                found = found.joined(await self._read(self._far, work))
            except ReceiptsUnreachableError:
                # What is here is told whatever else may be there.
                found = found._replace(unread=True)
        row = found.last
        if row is None and found.unread:
            raise ReceiptsUnreachableError(
                f"{decision_id[:64]!r} was not found, and not all of the ledger could be read: it "
                "may be there",
                _AGAIN_S,
            )
        if row is None or (row["tenant"] or "") != wanted:
            return None
        return await self._priced(row, found)

    async def page(self, owner: str, since: float, until: float, after: str, most: int) -> CsvPage:
        """Rows of ``owner`` from ``since`` until before ``until``, unix s, ``most`` of them.

        Raises DataError for an ``after`` that no page told, ReceiptsUnreachableError where the
        ledger cannot be read.
        """
        wanted = self._owner(owner)
        if wanted is None:
            raise DataError("the ledger does not keep whose rows are whose")
        question = PageQuestion(
            wanted, _in_us(since), _in_us(until), most, Cursor.parse(after) if after else None
        )
        for left in reversed(range(_PLANS)):
            deadline = self._deadline(_PLAN_S)
            planned = await self._read(
                self._far, partial(plan_page, self._both, question, deadline)
            )
            chunks = csv_chunks(planned, self._prices)
            try:
                first = await self._far.run(partial(_read_ahead, chunks), _WAIT_S)
            except DataError as error:
                # A file was sealed, or made one with others, since it was planned to be read.
                if left:
                    continue
                self._tell((str(error),))
                raise ReceiptsUnreachableError(_UNREAD, _AGAIN_S) from None
            break
        self._tell(planned.unread)
        return CsvPage(planned, first, chunks, self._far, csv_header())

    def _owner(self, owner: str) -> str | None:
        """As rows have it; None where nobody's are told."""
        return self._kept(owner) if self.tells_owners else None

    def _look(self, places: RowPlaces, decision_id: str, hour: int) -> Callable[[], FoundRows]:
        now_hour, deadline = int(self._clock.now() // HOUR_S), self._deadline(_FIND_S)
        return lambda: find_rows(places, decision_id, hour, now_hour, deadline)

    async def _priced(self, row: Mapping[str, Any], found: FoundRows) -> LedgerReceipt:
        lost = sum(one["gco2e"] or 0.0 for one in found.rows if one is not row)
        hours = hours_of(row)
        try:
            prices = await self._far.run(
                lambda: self._prices.prices(min(hours), max(hours)), _PRICES_S
            )
        except (DataError, ReceiptsUnreachableError) as error:
            self._tell((str(error),))
            return LedgerReceipt(row, lost, None, True)
        return LedgerReceipt(row, lost, settled(row, prices), False)

    def _deadline(self, within_s: float) -> Deadline:
        return Deadline(self._clock.monotonic, self._clock.monotonic() + within_s)

    async def _read(self, threads: ReadingThreads, work: Callable[[], _Value]) -> _Value:
        try:
            return await threads.run(work, _WAIT_S)
        except DataError as error:
            self._tell((str(error),))
            raise ReceiptsUnreachableError(_UNREAD, _AGAIN_S) from None

    def _tell(self, problems: Sequence[str]) -> None:
        # Once: whoever asks again is no news.
        for problem in problems:
            if problem not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add(problem)
                _log.error("asking the ledger: %s", problem)


def csv_chunks(page: RowPage, lookup: PriceLookup) -> Iterator[bytes]:
    """The rows of ``page`` as CSV, without the names of columns. Raises DataError."""
    first, last = 1, 0
    prices: Mapping[PriceKey, Price] = {}

    def figures(row: Mapping[str, Any]) -> SettledFigures | None:
        return settled(row, prices)

    for rows in read_slices(page.slices):
        for at in range(0, rows.num_rows, _CHUNK_ROWS):
            part = rows.slice(at, _CHUNK_ROWS)
            begin, end = _hours_of_all(part)
            if begin < first or end > last:
                first, last = begin, max(end, begin + _PRICED_HOURS)
                prices = lookup.prices(first, last)
            yield csv_rows(part, figures)


def _read_ahead(chunks: Iterator[bytes]) -> bytes:
    ahead, size = [], 0
    for chunk in chunks:
        ahead.append(chunk)
        size += len(chunk)
        if size >= _AHEAD_BYTES:
            break
    return b"".join(ahead)


def _hours_of_all(rows: pa.Table) -> tuple[int, int]:
    """The first in which one of them ran, and the last."""
    hours = [
        hour
        for row in rows.select(["finished_at", "run_s"]).to_pylist()
        for hour in hours_of(row)
    ]  # fmt: skip
    return min(hours), max(hours)


def _in_us(unix_s: float) -> int:
    return min(max(round(unix_s * US_PER_S), 0), _MOST_US)
