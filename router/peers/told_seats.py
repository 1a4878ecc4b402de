"""The seats of one process's board: what it tells others of them, and what they are told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from router.core.board import Board
from router.core.burden import Burdens
from router.core.gateway_load import NO_GATEWAY_LOAD, GatewayLoad
from router.core.health import State
from router.core.seat import Seat
from router.peers.gateway_rows import ENTRY, MAX_ENTRIES, PER_MS, Entries, Mark
from router.peers.known_rows import PeerSums
from router.peers.rows import name_key

_WRAP: Final = 1 << 32
# Of others: in flight, told, pace cap, and the sums of rows.
_NOTHING: Final = (0.0, 0.0, math.inf, 0.0, 0.0, 0.0, 0.0, 0.0)


class ToldSeats:
    """Seats by place, those beyond MAX_ENTRIES left out.

    ``keys``, ``caps`` (n,): by `name_key`, and ``max_in_flight``; ``in_flight``, ``turns`` (n,): of
    this process, as of the last `refresh`.
    """

    def __init__(self, board: Board | None = None) -> None:
        caps = {} if board is None else _caps_of(board)
        seats = [] if board is None else list(board.seats.values())[:MAX_ENTRIES]
        self.seats: Sequence[Seat] = seats
        self.places = {seat: e for e, seat in enumerate(seats)}
        self.by_name = {seat.name: e for e, seat in enumerate(seats)}
        n = len(seats)
        self.caps = np.array([caps[seat.name] for seat in seats], np.float64)
        self.keys = np.array([name_key(seat.name) for seat in seats], np.uint64)
        self.in_flight, self.turns = np.zeros(n), np.zeros(n)
        self._by_key = np.argsort(self.keys)
        self._entries = np.zeros(n, ENTRY)
        # Unlike any, so that every seat is told.
        self._loads: NDArray[np.float64] = np.full((n, len(_NOTHING)), np.nan)
        self._lost = self._loads
        self._allotted: NDArray[np.float64] = np.full(n, np.nan)
        self._asks = np.zeros(n, bool)
        self._changed = set(seats)
        for seat in seats:
            seat.tell_changes(self._changed.add)

    def replaced_by(self, others: ToldSeats) -> None:
        """``others`` are in force: whoever is not among them is as before all this."""
        for seat in self.seats:
            if seat not in others.places:
                seat.tell_changes(None)
                seat.allot(math.inf, asks=False)
                seat.set_gateways(NO_GATEWAY_LOAD)

    def refresh(self) -> None:
        """Look at the seats that have changed."""
        for seat in self._changed:
            self._look_at(seat)
        self._changed.clear()

    def listed(self, written: NDArray[np.float64], parts: int) -> Entries:
        """The entries of what a row has to list, keys rising. ``written`` (n,): places claimed;
        ``parts``: as of `gateway_rows.RowHead`."""
        self._entries["claim"] = written
        plain = written == np.floor(self.caps / parts)
        silent = plain & (self.in_flight == 0.0) & (self._entries["mark"] == 0)
        entries: Entries = self._entries[self._by_key[~silent[self._by_key]]]
        return entries

    def tell(self, sums: PeerSums, now: float) -> None:
        """What others have. ``now``: on the clock by which requests are decided."""
        loads = np.column_stack([sums.in_flight, sums.told, sums.cap_ms, sums.sums.T])
        news = (sums.sent_ms > 0.0) | (sums.paced_ms > 0.0)
        changed = np.flatnonzero((loads != self._loads).any(axis=1) | news)
        self._loads = loads
        for e in changed.tolist():
            sent_ms, paced_ms = float(sums.sent_ms[e]), float(sums.paced_ms[e])
            self.seats[e].set_gateways(_load_of(loads[e]), sent_ms, paced_ms, now)

    def lose(self) -> None:
        """Nothing more is heard of others: what they have now is what `fade` begins with."""
        self._lost = self._loads.copy()
        self._lost[np.isnan(self._loads).any(axis=1)] = _NOTHING

    def fade(self, left: float) -> None:
        """Of what others were last known to have, ``left`` is believed, 0 to 1."""
        faded = self._lost.copy()
        faded[:, :2] = np.floor(left * faded[:, :2])
        faded[:, 3:] *= left
        if left <= 0.0:
            faded[:] = _NOTHING
        changed = np.flatnonzero((faded != self._loads).any(axis=1))
        self._loads = faded
        for e in changed.tolist():
            self.seats[e].set_gateways(_load_of(faded[e]))

    def allot(self, allotted: NDArray[np.float64], asks: NDArray[np.bool_]) -> None:
        """What this process may have, and where it asks for more, as of `Seat.allot`; (n,)."""
        changed = np.flatnonzero((allotted != self._allotted) | (asks != self._asks))
        self._allotted, self._asks = allotted, asks
        for e in changed.tolist():
            self.seats[e].allot(float(allotted[e]), bool(asks[e]))

    def has_asked(self, e: int) -> None:
        """At one endpoint more was asked for: until there is an answer it is full."""
        self._asks[e] = False
        self.seats[e].allot(self.seats[e].allotted, asks=False)

    def _look_at(self, seat: Seat) -> None:
        e = self.places[seat]
        load = seat.own_load()
        self.in_flight[e], self.turns[e] = load.in_flight, load.turns
        out = seat.health.state is State.EJECTED
        self._entries[e] = (
            self.keys[e], load.in_flight, 0, 0.0 if load.pace_cap_ms == math.inf
            else load.pace_cap_ms, *load.burdens, load.prompts_ms, load.unread_ms,
            _wrapped(load.sent_ms), _wrapped(load.paced_ms), Mark.OUT if out else Mark.NONE,
        )  # fmt: skip


def _caps_of(board: Board) -> dict[str, int]:
    return {endpoint.name: endpoint.max_in_flight for endpoint in board.layout.fleet.endpoints}


def _wrapped(ms: float) -> int:
    return int(ms * PER_MS) % _WRAP


def _load_of(row: NDArray[Any]) -> GatewayLoad:
    in_flight, told, cap_ms, pace, pace2, cached, prompts_ms, unread_ms = row.tolist()
    burdens = Burdens(pace, pace2, cached)
    return GatewayLoad(int(in_flight), int(told), cap_ms, burdens, prompts_ms, unread_ms)
