"""What a ledger knows of one moment: receipts that ended just before, decisions as they were taken,
and the snapshots that they were taken on.

Everything blocks, and is bounded in time: run it in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from router.contract import Clock
from router.core.decision_ids import made_by
from router.ledger.asking.row_places import Deadline, RowPlaces
from router.ledger.asking.window import WindowRows, read_window
from router.ledger.decisions.documents import KeptSnapshot
from router.ledger.decisions.files import decision_files
from router.ledger.decisions.newest import KeyedRow, NewestDecisions
from router.units import HOUR_S

# Of one moment, and of one decision.
_WITHIN_S: Final = 4.0
MOST_DECISIONS: Final = 64
# Whoever's they are, of which the newest say how endpoints were.
_MOST_OF_ALL: Final = 64
# How far back hours are listed.
LISTED_H: Final = 31 * 24


class LedgerMoment(NamedTuple):
    """``rows``: of who asks; ``decisions``: likewise, oldest first; ``others``: of anybody, oldest
    first, with ``snapshots`` of those that tell how a model's endpoints were, and of the newest.
    ``is_whole``: whether all could be read."""

    at: float
    rows: WindowRows
    decisions: tuple[KeyedRow, ...]
    others: tuple[KeyedRow, ...]
    snapshots: Mapping[str, KeptSnapshot]
    is_whole: bool


class FoundDecision(NamedTuple):
    """A kept decision on its own snapshot, None where that is not there; ``rows``: how its request
    ended, as far as that is known."""

    keyed: KeyedRow
    kept: KeptSnapshot | None
    rows: WindowRows


class LedgerMoments:
    """``folder``, ``url``: of the ledger, None where it has no URL; ``kept``: how an owner's name
    is kept, None where none is."""

    def __init__(
        self,
        folder: str | Path,
        url: str | None,
        clock: Clock,
        kept: Callable[[str], str | None],
    ) -> None:
        places: list[str | Path] = [folder] if url is None else [folder, url]
        self._rows = RowPlaces(places)
        self._decisions = [decision_files(place) for place in places]
        self._clock = clock
        self._kept = kept

    def owner(self, owner: str) -> str | None:
        """As rows have it; None where they do not say whose they are, or of nobody."""
        return self._kept(owner) or None

    def spans(self) -> list[tuple[float, float]]:
        """Of the last month, the hours with rows, as spans of unix s. Raises DataError."""
        now_hour = int(self._clock.now() // HOUR_S)
        hours = self._rows.hours(now_hour - LISTED_H, now_hour + 1)
        if not hours:
            return []
        begins = [hours[0], *(late for early, late in pairwise(hours) if late > early + 1)]
        ends = [*(early for early, late in pairwise(hours) if late > early + 1), hours[-1]]
        return [
            (first * HOUR_S, (last + 1) * HOUR_S) for first, last in zip(begins, ends, strict=True)
        ]

    def moment(self, at: float, window_s: float, owner: str | None) -> LedgerMoment:
        """At ``at``, unix s, with the rows of ``window_s`` before; ``owner``: as `owner` gives it,
        None for all. Raises DataError where a place cannot be read."""
        deadline = self._deadline()
        rows = read_window(self._rows, at - window_s, at, owner, deadline)
        newest = NewestDecisions(self._decisions, lambda: deadline.is_over)
        others = newest.before(at, _MOST_OF_ALL, None)
        mine = others if owner is None else newest.before(at, MOST_DECISIONS, owner)
        by_model = {one.row.seen.request.model: one.row for one in others}
        snapshots = newest.snapshots(by_model.values())
        return LedgerMoment(
            at, rows, tuple(mine), tuple(others), snapshots, rows.is_whole and not newest.unread
        )

    def decision(self, key: str, owner: str | None) -> FoundDecision | None:
        """By a key that a `LedgerMoment` told, or by its id. Raises DataError."""
        deadline = self._deadline()
        newest = NewestDecisions(self._decisions, lambda: deadline.is_over)
        found = newest.of_key(key)
        made = made_by(key)
        if not found and made is not None and made.hour is not None:
            found = newest.of_id(key, made.hour * HOUR_S)
        if owner is not None:
            found = [one for one in found if one.row.seen.request.tenant == owner]
        if not found:
            return None
        one = found[0]
        at = one.row.seen.at
        kept = newest.snapshots([one.row]).get(one.row.snapshot)
        rows = read_window(self._rows, at - 1.0, at + HOUR_S, owner, deadline)
        return FoundDecision(one, kept, rows)

    def _deadline(self) -> Deadline:
        return Deadline(self._clock.monotonic, self._clock.monotonic() + _WITHIN_S)
