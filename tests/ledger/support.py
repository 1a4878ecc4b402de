"""A ledger's writer for tests."""

from __future__ import annotations

import math
from collections import Counter

import duckdb
import pyarrow.parquet as pq

from router.ledger.reading import relation
from router.ledger.sealed_files import read_links
from router.ledger.table_writer import SealLimits, TableWriter
from router.ledger.tables import RECEIPTS
from router.ledger.writer_slot import WriterSlot
from tests.ledger.rows import SEVEN_S


class Writing:
    """One process' writer of receipts at ``root``; ``told``: rows by what became of them."""

    def __init__(self, root, slot="gw-0", unique="x", rows=10**6, age_s=3600.0, **spool) -> None:
        self.root = root
        self.told = Counter()
        self.slot = WriterSlot(root, slot, unique)
        self.writer = TableWriter(
            RECEIPTS, root, self.slot,
            SealLimits(rows, age_s, spool.get("spool_bytes", math.inf)),
            lambda outcome, count: self.told.update({outcome: count}),
            spool.get("spooled_bytes", lambda: 0.0),
        )  # fmt: skip
        self.writer.recover(SEVEN_S)
        self.writer.seal_due(SEVEN_S, 0.0)

    def record(self, rows, now=SEVEN_S) -> None:
        """As a process does: each row is numbered when it comes, and written a while later."""
        for _ in rows:
            self.writer.count.raised()
        self.writer.flush(rows, now)

    def seal(self, now=SEVEN_S) -> None:
        self.writer.seal_due(now, 0.0, every=True)

    def killed(self) -> None:
        """Its descriptors are closed, and nothing else happens any more."""
        for journal, _ in self.writer._open.values():
            journal.close()
        self.slot.close()


def files(root):
    """Every sealed file of receipts."""
    return sorted(root.glob("receipts/*/*/*.parquet"))


def links(root):
    """Of all of them, in order."""
    found = [link for path in files(root) for link in read_links(pq.ParquetFile(path))]
    return sorted(found, key=lambda link: link.link)


def seqs(root):
    """Of every row that is in a file, in order."""
    rows = relation(duckdb.connect(), root, RECEIPTS).project("seq").order("seq").fetchall()
    return [seq for (seq,) in rows]
