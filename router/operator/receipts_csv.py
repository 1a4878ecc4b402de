"""Rows of a ledger as CSV, as callers get their own."""

from __future__ import annotations

from typing import BinaryIO, Final

from router.ledger.asking.csv_rows import csv_header
from router.ledger.asking.ledger import csv_chunks
from router.ledger.asking.pages import Cursor, PageQuestion, plan_page
from router.ledger.asking.row_places import Deadline, RowPlaces
from router.ledger.asking.settled import PriceLookup
from router.ledger.month import US_PER_S

_PAGE_ROWS: Final = 10_000


def write_receipts(
    ledger: str, owner: str | None, since: float, until: float, out: BinaryIO
) -> list[str]:
    """Those of ``owner`` as rows have it, None for all, from ``since`` until before ``until``, unix
    s; returns files that cannot be read, and why.

    Raises DataError where the ledger cannot be read, OSError.
    """
    places, lookup = RowPlaces([ledger]), PriceLookup(ledger)
    unread: list[str] = []
    after: Cursor | None = None
    out.write(csv_header())
    while True:
        question = PageQuestion(
            owner, round(since * US_PER_S), round(until * US_PER_S), _PAGE_ROWS, after
        )
        page = plan_page(places, question, Deadline(lambda: 0.0, 1.0))
        unread += [problem for problem in page.unread if problem not in unread]
        for chunk in csv_chunks(page, lookup):
            out.write(chunk)
        after = page.after
        if after is None:
            return unread
