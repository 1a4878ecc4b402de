"""How one principal's limits are shared among processes: by claims, and claims by demand.

Of a limit each process always has its *floor*, so that whoever comes new is not refused until the
next round, and beside it what it *claims*. Rates (requests, tokens) are claimed as shares of the
limit, requests at once as places. What a process claims stands in a row that all others read, with
what was asked of it; it writes and reads in one step, as claims on places do
(`router.core.allotments`), and by the same argument: with ``c`` what is confirmed and ``w`` what a
row says,

- ``c`` is lowered before a row that claims less is written, so ``c <= w`` at all times;
- ``c`` is raised by an exchange alone: to ``w``, and to no more than the room less what the rows of
  all others claim.

So all ``c`` together never exceed the room, whatever each takes for its due. Who has claimed
nothing yet uses its even part, less what others claim as far as it knows. Nobody's claim is raised
for a principal before it has stood in one row and all rows were read once more: by then such users
have read it, or claim something themselves.

A process that tells nothing (it cannot reach the store, or is of an older version) has an even
part, and everybody else leaves it as much.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

REQUESTS, TOKENS, AT_ONCE = range(3)
KINDS: Final = 3
# Of each limit, what all floors have together.
RESERVE: Final = 1.0 / 8.0
# Processes have a place each without a claim where there are so many times as many.
_SPARE: Final = 4.0
# A share that is off by less stays: a bucket loses a little each time it shrinks.
_SLACK: Final = 1.0 / 64.0
# Principals that one process lists, the most demanding; others have what nobody claims, an even
# part at most.
MOST_LISTED: Final = 1024
# Who lists a principal may want something of it.
LEAST_DEMAND: Final = 1e-6

# ``demand``: of a rate the share of the limit that was asked for, at most 1; of requests at once
# the most, at most the limit. ``claim``: see above. A kind without a limit: 0.
LIMIT_ENTRY: Final = np.dtype([("key", "<u8"), ("demand", "<f4", 3), ("claim", "<f4", 3)])

Table = NDArray[np.float64]
LimitEntries = NDArray[np.void]


class LimitSharers(NamedTuple):
    """Among whom limits are shared: ``processes`` of which so many are ``silent``."""

    processes: int
    silent: int = 0


def floors(most: NDArray[np.float64], sharers: LimitSharers) -> Table:
    """What a process has of each limit without a claim; ``most``: requests at once, 0: any."""
    table = np.empty((len(most), KINDS))
    table[:, :AT_ONCE] = RESERVE / sharers.processes
    spare = most >= _SPARE * sharers.processes
    table[:, AT_ONCE] = np.maximum(spare, np.floor(RESERVE * most / sharers.processes))
    return table


def evens(most: NDArray[np.float64], processes: int) -> Table:
    """The parts that all have who know nothing of each other; of places one at least."""
    table = np.empty((len(most), KINDS))
    table[:, :AT_ONCE] = 1.0 / processes
    table[:, AT_ONCE] = np.maximum(np.minimum(most, 1.0), np.floor(most / processes))
    return table


def rooms(most: NDArray[np.float64], sharers: LimitSharers) -> Table:
    """What all claims together may come to."""
    floor, even = floors(most, sharers), evens(most, sharers.processes)
    telling = sharers.processes - sharers.silent
    whole = np.ones((len(most), KINDS))
    whole[:, AT_ONCE] = most
    room = whole - telling * floor - sharers.silent * even
    # Where places are fewer than processes nobody may be left without.
    return np.maximum(room, even - floor)


class OthersClaims:
    """What the rows of all other processes say, as of one exchange."""

    def __init__(self, entries: LimitEntries, processes: NDArray[np.uint64]) -> None:
        """``processes``: whose each entry is."""
        order = np.argsort(entries["key"], kind="stable")
        self._entries = entries[order]
        self._processes = processes[order]
        self._keys, first = np.unique(self._entries["key"], return_index=True)
        self._claims = np.zeros((0, KINDS))
        if len(first):
            self._claims = np.add.reduceat(self._entries["claim"].astype(float), first)

    def claims(self, keys: NDArray[np.uint64]) -> Table:
        """What all others claim together, a row for each of ``keys``."""
        found = np.zeros((len(keys), KINDS))
        if len(self._keys):
            at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            there = self._keys[at] == keys
            found[there] = self._claims[at[there]]
        return found

    def lists(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of ``keys`` anybody else has in use."""
        return np.isin(keys, self._keys)

    def dues(self, process: int, keys: NDArray[np.uint64], demand: Table, room: Table) -> Table:
        """The claims that ``process`` is due by demand; of ``keys``, which rise, as its row has
        them. All of a room is given to whoever asks, places as a whole: those left over by
        rounding to who has come nearest to one more."""
        place, entries, who = self._of(keys)
        own = np.maximum(demand.astype(np.float32).astype(float), LEAST_DEMAND)
        theirs = np.maximum(entries["demand"].astype(float), LEAST_DEMAND)
        total = own + _sums(place, theirs, len(keys))
        due = room * own / total
        places = due[:, AT_ONCE]
        own_rest = places - np.floor(places)
        their_places = room[place, AT_ONCE] * theirs[:, AT_ONCE] / total[place, AT_ONCE]
        rest = their_places - np.floor(their_places)
        ties = (rest == own_rest[place]) & (who < process)
        before = (rest > own_rest[place]) | ties
        counted = _sums(place, np.column_stack((np.floor(their_places), before)), len(keys))
        left = room[:, AT_ONCE] - np.floor(places) - counted[:, 0]
        whole = np.floor(places) + (counted[:, 1] < np.round(left))
        return np.column_stack((due[:, :AT_ONCE], whole))

    def _of(
        self, keys: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int64], LimitEntries, NDArray[np.uint64]]:
        """Entries of any of ``keys``: which of them, the entry, and whose it is."""
        if not len(keys):
            return np.empty(0, np.int64), self._entries[:0], self._processes[:0]
        at = np.minimum(np.searchsorted(keys, self._entries["key"]), len(keys) - 1)
        there = keys[at] == self._entries["key"]
        return at[there], self._entries[there], self._processes[there]


def _sums(place: NDArray[np.int64], values: Table, count: int) -> Table:
    """Of the ``values`` of each of ``count`` places."""
    return np.column_stack([np.bincount(place, column, count) for column in values.T])


NO_OTHERS: Final = OthersClaims(np.empty(0, LIMIT_ENTRY), np.empty(0, np.uint64))


def unclaimed(even: Table, floor: Table, room: Table, claims: Table) -> Table:
    """What a process may use beyond its floor that has claimed nothing: no more than an even part,
    and nothing that others claim."""
    return np.maximum(0.0, np.minimum(even - floor, room - claims))


def plan_parts(confirmed: Table, due: Table, in_use: NDArray[np.float64]) -> tuple[Table, Table]:
    """(confirmed, written): what a process keeps from here on, and what its next row claims.
    ``in_use``: places beyond its floor that it cannot give up yet."""
    wanted = due.copy()
    rates, were = wanted[:, :AT_ONCE], confirmed[:, :AT_ONCE]
    near = np.abs(rates - were) < _SLACK
    rates[near] = were[near]
    written = wanted.copy()
    written[:, AT_ONCE] = np.maximum(wanted[:, AT_ONCE], in_use)
    # As a row holds it, rounded up.
    told = np.nextafter(written.astype(np.float32), np.float32(np.inf)).astype(float)
    told[:, AT_ONCE] = written[:, AT_ONCE]
    told[written == 0.0] = 0.0
    return np.minimum(confirmed, wanted), told


def confirm_parts(
    confirmed: Table, written: Table, room: Table, claims: Table, shown: NDArray[np.bool_]
) -> Table:
    """What is confirmed by the exchange of a row that claims ``written``, with what the others'
    rows ``claims``; raised only where the row before was ``shown`` as well."""
    raised = np.maximum(confirmed, np.minimum(written, room - claims))
    return np.where(shown[:, None], raised, confirmed)
