"""Whether a ledger is what its writers wrote: no row changed, missing or there twice.

Each batch is held against its own hash, and that against the batch after it. What a writer itself
told to be missing is a gap, and no fault. What was cut off at the very end nobody can tell but who
wrote down a hash: ``expect``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from router.errors import DataError
from router.ledger.chain_files import LedgerFile, LedgerPlace, each_link
from router.ledger.columns import VERSION
from router.ledger.kept_journals import runs_of
from router.ledger.links import ChainLink, Gap, is_intact
from router.ledger.row_digest import row_digest
from router.ledger.sealed_files import FIRST, Head
from router.ledger.tables import LedgerTable
from router.units import HOUR_S


class LedgerFault(NamedTuple):
    """What is wrong, and where; ``file`` is "" where it is of no file."""

    file: str
    text: str


class WriterGap(NamedTuple):
    """Rows that their writer says are missing."""

    writer: str
    gap: Gap


class Verified(NamedTuple):
    """What was found. ``heads``: the newest batch of each writer; ``hashes``: of all of them."""

    files: int
    rows: int
    faults: tuple[LedgerFault, ...]
    gaps: tuple[WriterGap, ...]
    heads: dict[str, ChainLink]
    hashes: frozenset[str] = frozenset()


def verify(where: str | Path, table: LedgerTable, expect: str = "") -> Verified:
    """``expect``: the hash of a batch that has to be among them. Reads a file at a time.

    Raises DataError where the place cannot be read at all.
    """
    place = LedgerPlace(where)
    files = place.files(table)
    checkpoints = place.checkpoints(table)
    chains: dict[str, _Chain] = defaultdict(_Chain)
    for writer, head in checkpoints.items():
        chains[writer].begins = head
    faults: list[LedgerFault] = [LedgerFault(file.name, file.fault) for file in files if file.fault]
    for file in files:
        if not file.fault:
            faults += _file_faults(place, table, file, chains)
    for writer, chain in sorted(chains.items()):
        faults += chain.faults(writer)
    hashes = {link.hash for _, link, _ in each_link(files)} | {
        head.hash for head in checkpoints.values()
    }
    if expect and expect not in hashes:
        told = "is not there: what came after another copy of it was written down was cut off"
        faults.append(LedgerFault("", f"the batch with the hash {expect} {told}"))
    gaps = [
        WriterGap(writer, gap)
        for writer, chain in sorted(chains.items())
        for gap in sorted(chain.gaps, key=lambda gap: gap.first_seq)
    ]
    return Verified(
        len(files),
        sum(file.rows for file in files),
        tuple(faults),
        tuple(gaps),
        {writer: chain.links[max(chain.links)][0] for writer, chain in chains.items()
         if chain.links},
        frozenset(hashes),
    )  # fmt: skip


def _file_faults(
    place: LedgerPlace, table: LedgerTable, file: LedgerFile, chains: dict[str, _Chain]
) -> Iterator[LedgerFault]:
    try:
        with place.open(file.name) as parquet:
            rows = parquet.read()
    except (DataError, pa.ArrowException, OSError) as error:
        yield LedgerFault(file.name, f"cannot be read: {error}")
        return
    if sum(link.rows for link in file.links) != rows.num_rows:
        yield LedgerFault(file.name, f"{rows.num_rows} rows, and not as many as its batches say")
        return
    version = max((link.version for link in file.links), default=VERSION)
    wanted = table.columns_of(version)
    missing = [column.name for column in wanted if column.name not in rows.column_names]
    if missing:
        yield LedgerFault(file.name, f"without {', '.join(missing)}")
        return
    for _, link, begins in each_link([file]):
        part = rows.slice(begins, link.rows)
        what = f"batch {link.link} of {link.writer}"
        if link.table != table.name:
            yield LedgerFault(file.name, f"{what} is of {link.table}, not of {table.name}")
        elif not is_intact(link):
            yield LedgerFault(file.name, f"{what}: what it says of itself was changed")
        elif _digest(table, part, link.version) != link.digest:
            yield LedgerFault(file.name, f"{what}: a row was changed, or its order")
        else:
            yield from _misplaced(table, file, part)
        yield from chains[link.writer].take(link, file.name, _seqs(part))


def _digest(table: LedgerTable, rows: pa.Table, version: int) -> str:
    """ "" of rows whose columns hold what is none of theirs."""
    try:
        return row_digest(table, rows, version)
    except (pa.ArrowException, ValueError, TypeError):
        return ""


def _seqs(rows: pa.Table) -> Any:
    """Those that are numbers."""
    try:
        return rows.column("seq").cast(pa.int64()).drop_null().to_numpy()
    except (pa.ArrowException, ValueError):
        return np.empty(0, np.int64)


def _misplaced(table: LedgerTable, file: LedgerFile, rows: pa.Table) -> Iterator[LedgerFault]:
    us = rows.column(table.time).cast(pa.int64()).to_numpy()
    hours = us // round(HOUR_S * 1e6)
    wanted = (file.day.toordinal() - _EPOCH) * 24 + file.hour
    if not (hours == wanted).all():
        yield LedgerFault(file.name, "holds rows of another hour than its folder's")


_EPOCH = 719_163  # date(1970, 1, 1).toordinal()


class _Chain:
    """Of one writer."""

    def __init__(self) -> None:
        self.begins: Head = FIRST
        self.links: dict[int, tuple[ChainLink, str]] = {}
        self.gaps: list[Gap] = []
        self._runs: list[tuple[int, int]] = []

    def take(self, link: ChainLink, file: str, seqs: Any) -> Iterator[LedgerFault]:
        """One batch, as it was found."""
        before = self.links.get(link.link)
        if before is not None:
            same = before[0].hash == link.hash
            what = "is there twice" if same else "is there twice, with other rows"
            yield LedgerFault(file, f"batch {link.link} of {link.writer} {what}: see {before[1]}")
            return
        self.links[link.link] = (link, file)
        self.gaps += link.gaps
        self._runs += runs_of(seqs)

    def faults(self, writer: str) -> Iterator[LedgerFault]:
        """Of all of it."""
        yield from self._broken(writer)
        yield from self._seq_faults(writer)

    def _broken(self, writer: str) -> Iterator[LedgerFault]:
        told = {gap.link: gap.hash for gap in self.gaps if gap.link}
        previous: str | None = self.begins.hash
        last = self.begins.link
        for number in sorted(self.links):
            link, file = self.links[number]
            if number <= self.begins.link:
                yield LedgerFault(file, _was_pruned(number, writer))
                continue
            if number > last + 1:
                # Numbers are what a file says: there may be any many between two of them.
                between = {one for one in told if last < one < number}
                missing = number - last - 1 - len(between)
                if missing:
                    yield _batches_missing(writer, last + 1, number - 1, missing, file)
                previous = told.get(number - 1)
            if previous is not None and link.previous != previous:
                yield LedgerFault(
                    file, f"batch {number} of {writer} does not go on from the one before"
                )
            previous, last = link.hash, number

    def _seq_faults(self, writer: str) -> Iterator[LedgerFault]:
        through = max((link.through for link, _ in self.links.values()), default=0)
        known = [(gap.first_seq, gap.last_seq) for gap in self.gaps]
        if self.begins.last_seq:
            known.append((1, self.begins.last_seq))
        covered = 0
        for first, last in sorted([*self._runs, *known]):
            if first > covered + 1 and covered < through:
                yield _missing(writer, covered + 1, min(first - 1, through))
            covered = max(covered, last)
        if covered < through:
            yield _missing(writer, covered + 1, through)
        end = 0
        for first, last in sorted(self._runs):
            if first <= end:
                yield LedgerFault(
                    "", f"rows {first} to {min(end, last)} of {writer} are there twice"
                )
            end = max(end, last)


def _batches_missing(writer: str, first: int, last: int, count: int, file: str) -> LedgerFault:
    if first == last:
        text = f"batch {first} of {writer} is missing"
    else:
        text = f"of batches {first} to {last} of {writer} {count} are missing"
    return LedgerFault("", f"{text}, before {file}")


def _was_pruned(number: int, writer: str) -> str:
    return (
        f"batch {number} of {writer} is one that prune removed, by its checkpoint: of another "
        "ledger, or copied back, or prune was ended in the middle: then call it again"
    )


def _missing(writer: str, first: int, last: int) -> LedgerFault:
    return LedgerFault(
        "", f"rows {first} to {last} of {writer} are missing, and no gap tells of them"
    )
