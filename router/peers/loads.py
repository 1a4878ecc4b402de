"""Requests in flight over all workers of a gateway: every seat knows what the others hold there.

A place is claimed by writing one's own count first and reading the others' after: of two workers
that want the last place at once, at least one sees the other, so a cap is never exceeded; both may
then give way. Nothing here waits or makes a system call.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.core.board import Board
from router.core.seat import Seat
from router.peers.rows import PARENT, ProcessRows, name_key

# What the others hold is read anew at most this often; claims look for themselves.
_REFRESH_S: Final = 0.001


class PeerLoads:
    """One worker's side: shows its own seats to the others, and theirs to its own.

    ``row``: this worker's. A seat beyond the size of the rows knows its own requests alone.
    """

    def __init__(self, rows: ProcessRows, row: int) -> None:
        self._rows = rows
        self._row = row
        self._others = [r for r in range(rows.size.workers + 1) if r not in (PARENT, row)]
        self._fence = threading.Lock()
        self._read_at = -math.inf
        self._seats: list[Seat] = []
        self._places: dict[str, int] = {}
        self._keys: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._told = (np.empty(0, np.int64), np.empty(0))
        # Of each other row, as of its list's version: where this worker's endpoints are in it.
        self._seen: dict[int, int] = {}
        self._where: dict[int, NDArray[np.int64]] = {}
        self._last: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    def adopt(self, board: Board) -> None:
        """Show the seats of ``board`` from here on; those of the board before are shown no more."""
        kept = set(board.seats.values())
        for seat in self._seats:
            if seat not in kept:
                seat.show_to(None)
                seat.set_peers(0)
        self._seats = list(board.seats.values())[: self._rows.size.endpoints]
        self._places = {seat.name: place for place, seat in enumerate(self._seats)}
        keys = [name_key(seat.name) for seat in self._seats]
        self._keys = np.array(keys, np.uint64)
        self._rows.list_endpoints(self._row, keys, [seat.in_flight for seat in self._seats])
        for place, seat in enumerate(self._seats):
            seat.show_to(self._show(place))
        self._seen.clear()
        self._where.clear()
        self._last.clear()
        # Unlike any count, so that every seat is told.
        self._told = (np.full(len(keys), -1, np.int64), np.full(len(keys), -1.0))
        self._read_all()

    def refresh(self, now: float, at_once: bool = False) -> None:
        """Read what the others hold, unless that was done within a millisecond; ``at_once``: even
        then. ``now``: monotonic, s."""
        if at_once or now - self._read_at >= _REFRESH_S:
            self._read_at = now
            self._read_all()

    def claim(self, endpoint: str, max_in_flight: int) -> bool:
        """Whether there is room for one more request at ``endpoint`` over all workers.

        When there is, the others see it as taken from now on: the caller takes the seat at once.
        When there is not, the seat knows what the others hold.
        """
        place = self._places.get(endpoint)
        if place is None:
            return True
        seat = self._seats[place]
        wanted = seat.in_flight + 1
        counts = self._rows.counts[self._row]
        others, cap = self._at(place)
        # Nothing is written for a place that is seen to be taken: it would look so to the others.
        if wanted + others <= max_in_flight:
            counts[place] = wanted
            with self._fence:
                # Taking a lock keeps the processor from reading the others' counts before ours
                # stands.
                pass
            others, cap = self._at(place)
            if wanted + others <= max_in_flight:
                return True
            counts[place] = seat.in_flight
        seat.set_peers(others, cap)
        self._told[0][place], self._told[1][place] = others, cap
        return False

    def _show(self, place: int) -> Callable[[int, float], None]:
        counts, caps = self._rows.counts[self._row], self._rows.caps[self._row]

        def show(in_flight: int, pace_cap_ms: float) -> None:
            counts[place] = in_flight
            caps[place] = 0.0 if pace_cap_ms == math.inf else pace_cap_ms

        return show

    def _at(self, place: int) -> tuple[int, float]:
        """(in flight, pace cap, ms) of the others at one endpoint, now."""
        total, cap = 0, math.inf
        for row in self._others:
            if self._follow(row):
                there = self._where[row][place]
                total += int(self._rows.counts[row, there])
                cap = min(cap, float(self._rows.caps[row, there]) or math.inf)
            elif row in self._last:
                counts, caps = self._last[row]
                total += int(counts[place])
                cap = min(cap, float(caps[place]))
        return total, cap

    def _read_all(self) -> None:
        total, cap = np.zeros(len(self._seats), np.int64), np.full(len(self._seats), np.inf)
        for row in self._others:
            version = self._follow(row)
            if version:
                where = self._where[row]
                counts, caps = self._rows.counts[row, where], self._rows.caps[row, where]
                if self._rows.version(row) == version:
                    self._last[row] = (counts, np.where(caps > 0.0, caps, np.inf))
            # A row whose list changes just now counts as it was.
            if row in self._last:
                total += self._last[row][0]
                np.minimum(cap, self._last[row][1], out=cap)
        changed = np.flatnonzero((total != self._told[0]) | (cap != self._told[1]))
        self._told = (total, cap)
        for place in changed.tolist():
            self._seats[place].set_peers(int(total[place]), float(cap[place]))

    def _follow(self, row: int) -> int:
        """The version of a row's list when `_where` is right for it; 0 when nothing is there to
        read, or it changes just now."""
        version = self._rows.version(row)
        if version == 0 or version % 2:
            return 0
        if self._seen.get(row) == version:
            return version
        theirs = self._rows.endpoints(row).copy()
        order = np.argsort(theirs)
        none = self._rows.size.endpoints
        where = np.full(len(self._keys), none, np.int64)
        if len(order):
            found = np.searchsorted(theirs, self._keys, sorter=order)
            found = order[np.minimum(found, len(order) - 1)]
            where = np.where(theirs[found] == self._keys, found, none)
        if self._rows.version(row) != version:
            return 0
        self._where[row], self._seen[row] = where, version
        return version
