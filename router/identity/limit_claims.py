"""This process's claims on the limits of the principals that use it, round by round.

A round is a row that is written and the rows of all others that are read, which
`router.app.limit_sharing` makes; what to claim, and why all together never claim too much:
`router.core.limit_parts`.
Requests wait for none of it: they use the part that the last round left.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.limit_parts import (
    AT_ONCE,
    KINDS,
    LIMIT_ENTRY,
    MOST_LISTED,
    NO_OTHERS,
    REQUESTS,
    TOKENS,
    LimitEntries,
    LimitSharers,
    OthersClaims,
    Table,
    confirm_parts,
    evens,
    floors,
    plan_parts,
    rooms,
    unclaimed,
)
from router.identity.principal_counts import LimitPart, PrincipalCounts


class _Listed(NamedTuple):
    """What the last row says; a row each in all of them. ``epoch``: when it was made."""

    counts: Sequence[PrincipalCounts]
    keys: NDArray[np.uint64]
    most: NDArray[np.float64]
    written: Table
    epoch: int


_NOTHING: Final = _Listed((), np.empty(0, np.uint64), np.empty(0), np.empty((0, KINDS)), 0)


class LimitClaims:
    """Of one process. ``round``: answered exchanges, ever."""

    def __init__(
        self, process: int, key_of: Callable[[str], int], sharers: Callable[[], int]
    ) -> None:
        """``process``: of all that ever were; ``key_of``: 64 bits that stand for a principal's name
        everywhere; ``sharers``: how many processes there are, whether they tell anything or not."""
        self.process = process
        self.round = 0
        self._key_of = key_of
        self._sharers = sharers
        # Until then what was confirmed holds, monotonic s.
        self._valid_until = -math.inf
        self._others = NO_OTHERS
        self._among = LimitSharers(1)
        self._listed = _NOTHING

    def epoch(self, now: float) -> int:
        """By what parts go: a round, or less than 0 without one, by how many share."""
        return self.round if now < self._valid_until else -max(1, self._sharers())

    def renew(self, counts: PrincipalCounts, epoch: int, now: float) -> None:
        """A part for who has claimed nothing in this epoch."""
        most = np.array((_most(counts),))
        if epoch < 0:
            floor = floors(most, LimitSharers(-epoch))
            claim = evens(most, -epoch) - floor
        else:
            floor, even = floors(most, self._among), evens(most, self._among.processes)
            counts.key = counts.key or self._key_of(counts.name)
            keys = np.array((counts.key,), np.uint64)
            claims = self._others.claims(keys)
            claim = unclaimed(even, floor, rooms(most, self._among), claims)
        counts.shown = False
        _adopt((counts,), floor, claim, epoch, now)

    def message(self, in_use: Iterable[PrincipalCounts], now: float) -> LimitEntries:
        """The next row's entries. Claims that it gives up are given up from here on."""
        epoch = self.epoch(now)
        demands = {}
        for counts in in_use:
            if counts.epoch != epoch:
                self.renew(counts, epoch, now)
            counts.key = counts.key or self._key_of(counts.name)
            demands[counts.key] = (counts, counts.demand(now))
        chosen = list(demands.items())
        if len(chosen) > MOST_LISTED:
            chosen = heapq.nlargest(MOST_LISTED, chosen, key=lambda one: sum(one[1][1]))
        rows = sorted(chosen, key=lambda one: one[0])
        listed = [counts for _, (counts, _) in rows]
        keys = np.array([key for key, _ in rows], np.uint64)
        demand = np.array([told for _, (_, told) in rows]).reshape(-1, KINDS)
        most = np.array([_most(counts) for counts in listed])
        among = LimitSharers(-epoch) if epoch < 0 else self._among
        floor = floors(most, among)
        confirmed = np.array([counts.claim for counts in listed]).reshape(-1, KINDS)
        due = self._others.dues(self.process, keys, demand, rooms(most, among))
        if epoch < 0:
            # Nothing is known of others: what is used now is what is told.
            due = confirmed
        at_once = np.array([counts.at_once for counts in listed], float)
        kept, written = plan_parts(
            confirmed, due, np.maximum(0.0, at_once - floor[:, AT_ONCE]) * (most > 0.0)
        )
        (given_up,) = np.nonzero((kept < confirmed).any(axis=1))
        _adopt([listed[i] for i in given_up], floor[given_up], kept[given_up], epoch, now)
        self._listed = _Listed(listed, keys, most, written, epoch)
        entries = np.zeros(len(listed), LIMIT_ENTRY)
        entries["key"], entries["demand"], entries["claim"] = keys, demand, written
        return entries

    def read(
        self,
        entries: LimitEntries,
        processes: NDArray[np.uint64],
        telling: int,
        valid_until: float,
        now: float,
    ) -> None:
        """Take in what all others tell: ``entries``, whose each is, and how many rows there are,
        this one's among them. ``valid_until``: monotonic, s."""
        held = self.epoch(now) == self._listed.epoch
        self._among = LimitSharers(n := max(self._sharers(), telling), n - telling)
        self._others = OthersClaims(entries, processes)
        self._valid_until = valid_until
        self.round += 1
        listed, keys, most, written, _ = self._listed
        claimed = np.array([counts.claim for counts in listed]).reshape(-1, KINDS)
        shown = np.array([counts.shown and held for counts in listed], bool)
        room = rooms(most, self._among)
        claim = confirm_parts(
            np.minimum(claimed, written), written, room, self._others.claims(keys), shown
        )
        # Others list whom they have used until their buckets are full again.
        alone = ~self._others.lists(keys)
        for counts, is_alone in zip(listed, alone, strict=True):
            counts.is_new &= bool(is_alone)
            counts.shown = True
        _adopt(listed, floors(most, self._among), claim, self.epoch(now), now)


def _most(counts: PrincipalCounts) -> float:
    most = counts.limits.max_concurrent
    return most if most < math.inf else 0.0


def _adopt(
    listed: Sequence[PrincipalCounts], floor: Table, claim: Table, epoch: int, now: float
) -> None:
    parts = (floor + claim).tolist()
    for counts, kept, part in zip(listed, claim.tolist(), parts, strict=True):
        counts.claim = tuple(kept)
        at_once = part[AT_ONCE] if _most(counts) else math.inf
        counts.adopt(LimitPart(part[REQUESTS], part[TOKENS], at_once), epoch, now)
