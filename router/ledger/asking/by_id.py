"""The rows of one decision: the receipt of its request, and the attempts before that failed.

An id tells the hour in which it was made; rows lie by the hour in which an attempt ended, which is
that one or, of a long run, a later one. Within an hour a file says which ids it may hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pyarrow.compute as pc

from router.errors import DataError
from router.ledger.asking.row_places import (
    Deadline,
    RowFile,
    RowPlaces,
    is_equal,
    may_hold,
    plain_rows,
)
from router.model import RowOutcome

# No request runs for longer.
_MOST_HOURS: Final = 24
# More rows of one decision than endpoints are tried.
_MOST_ROWS: Final = 64


class FoundRows(NamedTuple):
    """``rows``: of one decision, by the names of their columns; ``unread``: whether a place where
    more of them may lie could not be read, or not in time."""

    rows: tuple[dict[str, Any], ...] = ()
    unread: bool = False

    @property
    def last(self) -> dict[str, Any] | None:
        """The row that ended the request; None where that is not there."""
        for row in self.rows:
            if row["outcome"] != RowOutcome.MOVED:
                return row
        return None

    @property
    def are_all(self) -> bool:
        """Whether there is a row of every attempt."""
        return self.last is not None and len(self.rows) >= self.last["attempt"]

    def joined(self, others: FoundRows) -> FoundRows:
        """These, and of ``others`` what is not among them."""
        rows = {(row["writer"], row["seq"]): row for row in (*others.rows, *self.rows)}
        return FoundRows(tuple(rows.values()), self.unread or others.unread)


def find_rows(
    places: RowPlaces, decision_id: str, hour: int, now_hour: int, deadline: Deadline
) -> FoundRows:
    """Of the decision of this id, made in ``hour``; hours are since 1970.

    Raises DataError where a place cannot be read.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    unread = False
    for one in _hours(places, hour, now_hour):
        for file in places.files(one):
            if deadline.is_over:
                return FoundRows(tuple(found.values()), True)
            try:
                for row in _rows_of(file, decision_id):
                    if len(found) < _MOST_ROWS:
                        found[row["writer"], row["seq"]] = row
            except DataError:
                unread = True
        rows = FoundRows(tuple(found.values()), unread)
        if rows.last is not None:
            return rows
    return FoundRows(tuple(found.values()), unread)


def _hours(places: RowPlaces, hour: int, now_hour: int) -> Iterator[int]:
    """The likely ones first, then those in which there are rows at all; one before, for a clock
    that was set back. Raises DataError where a place cannot be read."""
    if hour > now_hour + 1:
        return
    likely = (hour, hour + 1)
    yield from likely
    last = min(hour + _MOST_HOURS, now_hour + 1)
    yield from (one for one in places.hours(hour - 1, last + 1) if one not in likely)


def _rows_of(file: RowFile, decision_id: str) -> list[dict[str, Any]]:
    """Raises DataError for a file that cannot be read."""
    wanted = may_hold("decision_id", decision_id)
    places = [
        at + place
        for at, batch in file.batches(["decision_id"], wanted)
        for place in pc.indices_nonzero(is_equal(batch, "decision_id", decision_id)).to_pylist()
    ]
    if not places:
        return []
    rows: list[dict[str, Any]] = []
    for at, batch in file.batches(None, wanted):
        here = [place - at for place in places if at <= place < at + batch.num_rows]
        if here:
            rows += plain_rows(batch.take(here)).to_pylist()
        if len(rows) == len(places):
            break
    return rows
