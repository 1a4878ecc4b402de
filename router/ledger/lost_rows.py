"""Rows that a month's receipts lack, by the numbers that their writers gave them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import duckdb

from router.errors import DataError
from router.ledger.links import ChainLink
from router.ledger.month import US_PER_S, Month
from router.ledger.tables import RECEIPTS

_MOST_TOLD: Final = 1000


class LostRows(NamedTuple):
    """Numbers ``first`` to ``last`` of a writer, which are in no file. ``since_us``, ``until_us``:
    ends of the rows before and after, microseconds since 1970. ``reason``: as the writer tells it
    (`router.ledger.links.GapReason`), "" where it does not."""

    writer: str
    first: int
    last: int
    since_us: int
    until_us: int
    reason: str = ""

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.last - self.first + 1


def lost_rows(connection: duckdb.DuckDBPyConnection, month: Month) -> list[LostRows]:
    """Of the view ``receipts``, with a day before and after the month, as hours of writers overlap.

    A thousand at most. Raises DataError for a number that is there twice, and for rows without
    one: they are of no ledger.
    """
    days = (
        f"date BETWEEN DATE '{month.first_day}' - INTERVAL 1 DAY "
        f"AND DATE '{month.last_day}' + INTERVAL 1 DAY"
    )
    writers = connection.execute(
        f"""
        SELECT writer FROM (
            SELECT writer, count(*) AS n, min(seq) AS low, max(seq) AS high,
                sum(seq::HUGEINT) AS total
            FROM receipts WHERE {days} GROUP BY writer
        ) WHERE writer IS NULL OR low IS NULL OR n <> high - low + 1
            OR total * 2 <> (low::HUGEINT + high) * n
        ORDER BY writer
        """
    ).fetchall()
    if any(writer is None for (writer,) in writers):
        raise DataError("files that no ledger wrote lie among its receipts: take them out")
    if not writers:
        return []
    odd = connection.execute(
        f"""
        SELECT writer, before + 1, seq - 1, since_us, until_us FROM (
            SELECT writer, seq, lag(seq) OVER w AS before, epoch_us(finished_at) AS until_us,
                epoch_us(lag(finished_at) OVER w) AS since_us
            FROM receipts WHERE {days} AND writer IN (SELECT unnest($writers))
            WINDOW w AS (PARTITION BY writer ORDER BY seq)
        ) WHERE seq <> before + 1 ORDER BY ALL LIMIT {_MOST_TOLD}
        """,
        {"writers": [writer for (writer,) in writers]},
    ).fetchall()
    found = [LostRows(*row) for row in odd]
    for one in found:
        if one.rows < 1:
            raise DataError(
                f"{one.writer} numbered two rows {one.last + 1}: two processes wrote under one "
                "name, or a file was copied; `carbon-router ledger verify` tells which"
            )
    first_us, end_us = month.span_us
    return [one for one in found if one.until_us >= first_us and one.since_us < end_us]


def told_gaps(links: Iterable[ChainLink], month: Month) -> list[LostRows]:
    """What writers themselves say is missing, of the month: also before their first row."""
    first_us, end_us = month.span_us
    found = [
        LostRows(
            link.writer, gap.first_seq, gap.last_seq, round(gap.since * US_PER_S),
            round(gap.until * US_PER_S), str(gap.reason),
        )
        for link in links
        for gap in link.gaps
        if link.table == RECEIPTS.name
    ]  # fmt: skip
    return [one for one in found if one.until_us >= first_us and one.since_us < end_us]


def with_reasons(missing: Iterable[LostRows], told: Iterable[LostRows]) -> list[LostRows]:
    """``missing`` numbers, those that are ``told`` with their reasons, each once, in order."""
    known = sorted(set(told))
    found = list(known)
    for one in missing:
        first = one.first
        for other in known:
            if other.writer != one.writer or other.last < first or other.first > one.last:
                continue
            if other.first > first:
                found.append(one._replace(first=first, last=other.first - 1))
            first = other.last + 1
        if first <= one.last:
            found.append(one._replace(first=first))
    return sorted(found)
