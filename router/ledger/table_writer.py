"""Rows of one table on their way to sealed files: numbered, put on the disk, sealed by the hour.

Rows that come in order of time, more or less, go into a journal of their hour. A journal is sealed
once its hour is over, or it is full or old. Nothing here waits or starts a thread: whoever calls
says what time it is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from router.errors import DataError
from router.ledger.journal import Journal, read_journal
from router.ledger.kept_journals import KeptJournals, runs_of
from router.ledger.links import ChainLink, Gap, GapReason, is_intact
from router.ledger.receipt_cells import Cells
from router.ledger.sealed_files import (
    Head,
    file_name,
    next_link,
    partition,
    read_links,
    write_parquet,
)
from router.ledger.tables import LedgerTable, arrow_table
from router.ledger.writer_slot import WriterSlot
from router.units import HOUR_S

JOURNAL_SUFFIX: Final = ".journal"
# Rows of an hour may still come when it is over: what ends is told a moment later.
_GRACE_S: Final = 60.0
# Of a clock that jumps: the oldest is sealed before its time.
_MOST_OPEN: Final = 6
_SEAL_AGAIN_S: Final = 30.0
_US_PER_HOUR: Final = round(HOUR_S * 1e6)

_log = logging.getLogger(__name__)


class SealLimits(NamedTuple):
    """A journal is sealed when it has so many ``rows``, or is so old; ``spool_bytes``: of sealed
    files that lie here and are to go elsewhere, at most."""

    rows: int
    age_s: float
    spool_bytes: float = math.inf


class _Open(NamedTuple):
    journal: Journal
    opened_at: float


class TableWriter:
    """Of one table, in the slot of one process. ``on_rows``: told of rows that are ``written`` to
    the disk, and of those that are not: ``dropped`` here, or ``lost`` by a process before this.

    Never raises for a disk that is full or broken: rows wait in ``pending`` until it is not.
    """

    def __init__(
        self,
        table: LedgerTable,
        root: Path,
        slot: WriterSlot,
        limits: SealLimits,
        on_rows: Callable[[str, int], None],
        spooled_bytes: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Raises DataError and OSError for a slot that cannot be read."""
        self.table = table
        self.pending: list[Cells] = []
        self.count = slot.count(table.name)
        self._root = root
        self._slot = slot
        self._limits = limits
        self._on_rows = on_rows
        self._spooled_bytes = spooled_bytes
        self._open: dict[int, _Open] = {}
        self._left: list[Path] = []
        self._journals = KeptJournals()
        self._takes = slot.takes
        self._head, self._gaps = slot.standing(table.name)
        self._last_seq = self._head.last_seq
        # Not told as gaps yet: rows that were numbered, and are not written, and why.
        self._missing: dict[GapReason, int] = {}
        self._at = math.nan
        self._failing = False
        self._seal_again_at = -math.inf

    @property
    def head(self) -> Head:
        """Where the chain stands."""
        return self._head

    def recover(self, now: float) -> None:
        """Find what a process before this left, which `seal_due` seals, and what it lost. Call it
        once, first."""
        self._left = sorted(self._slot.folder.glob(f"{self.table.name}-*{JOURNAL_SUFFIX}"))
        written_at: list[float] = []
        for path in self._left:
            found = read_journal(path, self.table)
            self._journals.begun(path, path.stat().st_mtime)
            for first, last in runs_of(found.rows.column("seq").to_numpy()):
                self._journals.wrote(path, first, last)
            if found.rows.num_rows:
                self._last_seq = max(self._last_seq, _last_seq(found.rows))
                written_at.append(path.stat().st_mtime)
            if found.cut_bytes:
                _log.warning("a journal of the ledger ends in %d bytes cut short", found.cut_bytes)
        # What was lost came after the last that is there.
        self._at = min(written_at, default=self._slot.stood_at(self.table.name))
        self._at = min(self._at, now)
        numbered = self.count.value
        if numbered > self._last_seq:
            lost = numbered - self._last_seq
            try:
                self._note(GapReason.KILLED, lost, now)
            except OSError as error:
                self._failed(error)
            self._on_rows("lost", lost)
            _log.error(
                "rows of the ledger were lost with the process before this one",
                extra={"table": self.table.name, "rows": lost, "writer": self._slot.writer},
            )
        self.count.value = self._last_seq
        self._at = now

    def flush(self, rows: Sequence[Cells], now: float, **missing: int) -> None:
        """Bring ``rows`` to the disk, and number them. ``missing``: rows that were numbered and
        are not among them, by the value of a `GapReason`."""
        self.pending += rows
        for reason, count in missing.items():
            if count:
                self._missing[GapReason(reason)] = self._missing.get(GapReason(reason), 0) + count
                self._on_rows("dropped", count)
        try:
            self._look_for_removed(now)
            while self.pending:
                self._append(now)
            for reason in list(self._missing):
                self._note(reason, self._missing.pop(reason), now)
            self._at = now
        except OSError as error:
            self._failed(error)
        else:
            self._failing = False

    def seal_due(self, now: float, ticks: float, every: bool = False) -> None:
        """Seal what is due at ``now`` (unix s) and ``ticks`` (monotonic s), or all of it."""
        for hour, (journal, opened_at) in list(self._open.items()):
            over = now >= (hour + 1) * HOUR_S + _GRACE_S
            full = journal.rows >= self._limits.rows
            if every or over or full or ticks - opened_at >= self._limits.age_s:
                self._shut(hour)
        if every or ticks >= self._seal_again_at:
            self._seal_left(now, ticks)

    def opened(self, ticks: float) -> None:
        """Journals opened since the last call are from ``ticks`` (monotonic s)."""
        for hour, (journal, opened_at) in self._open.items():
            if opened_at != opened_at:
                self._open[hour] = _Open(journal, ticks)

    def _append(self, now: float) -> None:
        """The pending rows of the first one's hour. Raises OSError, and changes nothing."""
        place = self.table.time_cell
        hour = self.pending[0][place] // _US_PER_HOUR
        batch = [row for row in self.pending if row[place] // _US_PER_HOUR == hour]
        try:
            rows = arrow_table(self.table, self._slot.writer, self._last_seq + 1, batch)
        except (pa.ArrowException, OverflowError, ValueError, TypeError):
            batch = self._sound(batch, hour)
            rows = arrow_table(self.table, self._slot.writer, self._last_seq + 1, batch)
        if batch:
            journal = self._journal(hour)
            journal.append(rows)
            self._journals.wrote(journal.path, self._last_seq + 1, self._last_seq + len(batch))
            self._last_seq += len(batch)
            self._on_rows("written", len(batch))
        self.pending = [row for row in self.pending if row[place] // _US_PER_HOUR != hour]

    def _sound(self, batch: Sequence[Cells], hour: int) -> list[Cells]:
        sound = []
        for row in batch:
            try:
                arrow_table(self.table, self._slot.writer, 1, [row])
            except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
                _log.error("a row of the ledger cannot be written: %s", error)
            else:
                sound.append(row)
        bad = len(batch) - len(sound)
        self._missing[GapReason.UNWRITABLE] = self._missing.get(GapReason.UNWRITABLE, 0) + bad
        self._on_rows("dropped", bad)
        # Whether the others are written or wait, these do not come again.
        place = self.table.time_cell
        others = [row for row in self.pending if row[place] // _US_PER_HOUR != hour]
        self.pending = [*sound, *others]
        return sound

    def _journal(self, hour: int) -> Journal:
        if hour not in self._open:
            if len(self._open) >= _MOST_OPEN:
                self._shut(min(self._open))
            name = f"{self.table.name}-{self._last_seq + 1:012d}{JOURNAL_SUFFIX}"
            self._open[hour] = _Open(Journal(self._slot.folder / name, self.table), math.nan)
            self._journals.begun(self._slot.folder / name, self._at)
        return self._open[hour].journal

    def _shut(self, hour: int) -> None:
        journal = self._open.pop(hour).journal
        journal.close()
        self._left.append(journal.path)

    def _seal_left(self, now: float, ticks: float) -> None:
        try:
            self._look_for_removed(now)
            while self._left:
                self._seal(self._left[0], now)
                self._journals.done(self._left.pop(0))
        except (OSError, DataError) as error:
            # All of it is read and hashed again.
            self._seal_again_at = ticks + _SEAL_AGAIN_S
            self._failed(error)

    def _look_for_removed(self, now: float) -> None:
        """What somebody removed is told as gaps, and is no reason not to go on. Raises OSError."""
        self._slot.renew()
        gone = self._journals.removed(now)
        if gone:
            for hour, (journal, _) in list(self._open.items()):
                if journal.path in gone:
                    del self._open[hour]
                    journal.close()
            self._left = [path for path in self._left if path not in gone]
            gaps = [gap for found in gone.values() for gap in found]
            self._gaps = (*self._gaps, *gaps)
            lost = sum(gap.last_seq - gap.first_seq + 1 for gap in gaps)
            self._on_rows("lost", lost)
            _log.error(
                "journals of the ledger were removed, and their rows with them",
                extra={"table": self.table.name, "rows": lost, "writer": self._slot.writer},
            )
        if gone or self._takes != self._slot.takes:
            self.count = self._slot.count(self.table.name)
            self._stand()
            self._takes = self._slot.takes

    def _stand(self) -> None:
        head = self._head._replace(last_seq=self._last_seq)
        self._slot.stand(self.table.name, head, self._gaps)

    def _seal(self, path: Path, now: float) -> None:
        """Raises OSError and DataError; then the journal stays."""
        rows = read_journal(path, self.table).rows
        if rows.num_rows:
            link = self._written(rows, next_link(
                self.table, rows, self._slot.writer, self._head, self._gaps, self._through(path)
            ), now)  # fmt: skip
            self._head = Head(link.link, link.hash, self._last_seq)
            self._slot.stand(self.table.name, self._head, self._gaps)
            _log.info(
                "ledger sealed",
                extra={
                    "table": link.table, "writer": link.writer, "link": link.link,
                    "rows": link.rows, "head": link.hash,
                },
            )  # fmt: skip
        path.unlink()

    def _through(self, path: Path) -> int:
        """With the journal at ``path`` every number up to that is sealed."""
        others = [journal.path for journal, _ in self._open.values()] + self._left
        first = [int(other.stem.rpartition("-")[2]) for other in others if other != path]
        return min(first, default=self._last_seq + 1) - 1

    def _written(self, rows: pa.Table, link: ChainLink, now: float) -> ChainLink:
        """The link of what is in a file now; ``_gaps`` are those that it does not tell."""
        hour_s = rows.column(self.table.time)[0].value / 1e6
        path = self._root / partition(self.table, hour_s) / file_name(link.writer, link.first_seq)
        if path.exists():
            there = _link_of(path)
            same = (there.link, there.previous, there.digest) == (
                link.link, link.previous, link.digest
            )  # fmt: skip
            if not same or not is_intact(there):
                raise DataError(f"{path}: another file is there: nothing is overwritten")
            # The process before this one was ended between the file and the note of it.
            self._gaps = tuple(gap for gap in self._gaps if gap not in there.gaps)
            return there
        if self._spooled_bytes() >= self._limits.spool_bytes:
            self._on_rows("dropped", link.rows)
            _log.error(
                "a file of the ledger is dropped: the store takes none, and the spool is full",
                extra={"table": link.table, "rows": link.rows, "link": link.link},
            )
            since = rows.column(self.table.time)[0].value / 1e6
            self._gaps = (
                *self._gaps,
                Gap(
                    GapReason.SPOOL_FULL, link.first_seq, link.last_seq, since, now,
                    link.link, link.hash,
                ),
            )  # fmt: skip
            return link
        write_parquet(self.table, rows, (link,), path)
        self._gaps = ()
        return link

    def _note(self, reason: GapReason, rows: int, now: float) -> None:
        """The next ``rows`` numbers are of rows that are missing. Raises OSError."""
        gap = Gap(reason, self._last_seq + 1, self._last_seq + rows, self._at, now)
        self._last_seq += rows
        self._gaps = (*self._gaps, gap)
        self._stand()

    def _failed(self, error: Exception) -> None:
        # Once, until it succeeds again.
        if not self._failing:
            _log.error("the ledger in %s is not written: %s", self._root, error)
        self._failing = True


def _last_seq(rows: pa.Table) -> int:
    return int(rows.column("seq").to_numpy().max())


def _link_of(path: Path) -> ChainLink:
    try:
        with pq.ParquetFile(path) as file:
            return read_links(file)[0]
    except (pa.ArrowException, IndexError) as error:
        raise DataError(f"{path}: not a file of a ledger: {error}") from None
