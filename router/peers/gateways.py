"""One process among all gateways that share a store: what it tells them, and what it may use.

Its claims on places (`router.core.allotments`) hold as long as its row is sure to be there: a row
lives for ``ttl_s`` from when the store wrote it, which is no sooner than it was sent. Each row says
for how long: large fleets exchange rows more rarely (`router.peers.exchange_pace`). Two things
could make others overlook a claim that holds, and do not:

- *A late write.* A call that had no answer may be carried out later than the next one, and put back
  an older row. So whoever had no answer goes on under another name of its row (``incarnation``);
  of one process the latest row counts.
- *A store that lost rows*, flushed, restarted or failed over. Whoever misses a row before its time,
  or sees one go back, raises no claim for as long as any row lives: by then every other process
  has written its row again, or its claims have lapsed. Who comes new waits as long, unless
  somebody who has missed nobody (SETTLED) saw just those who are there. What is left are rows that
  a failover loses before any other process has read them: for as long as one exchange places may
  be had twice then.

Without a store a process has its part of each place by the last known number of processes
(`router.peers.members`), and what it may have at most where nothing else is left: no request fails
for it. While one call is late, or rows are missed, it goes no further than its share of what nobody
claims: others go by their claims.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from router.core import allotments as al
from router.core.board import Board
from router.peers.exchange_pace import longest_life_s
from router.peers.gateway_rows import (
    Defect,
    Flag,
    PeerRow,
    RowHead,
    digest_of,
    encode,
    read_rows,
)
from router.peers.known_rows import Floats, KnownRows
from router.peers.members import SeenMembers
from router.peers.rows import name_key
from router.peers.told_seats import ToldSeats

# Of a row's life, how long its claims hold: clocks drift, and a request may be on its way.
_HOLDS: Final = 0.85
# A row that has not changed for so much of its life has ended by itself.
_ENDED: Final = 0.7
# Without a store, what others were last known to have is forgotten within so long, s.
_FADES_S: Final = 3.0
# What is needed beyond a part of a place is had for so long, s.
_LIFTED_S: Final = 0.25
# Who stood still has no places for so long, s: time for an exchange or two, and but part of what a
# request waits for a place.
_LAPSED_S: Final = 0.1
# Calls in a row without an answer, after which the store is taken to be gone: one may be lost.
_GONE_AFTER: Final = 2
# Who leaves claims next to nothing that it does not list.
_NO_PART: Final = 4096


class PlaceStanding(StrEnum):
    """By what a process may use places. JOINING: by its part, until all others are known; SHARED:
    by claims; LAPSED: by none, until the store answers or fails, a moment at most; ALONE: by its
    part."""

    JOINING = "joining"
    SHARED = "shared"
    LAPSED = "lapsed"
    ALONE = "alone"


class PeerMessage(NamedTuple):
    """A row to exchange, and under which name. ``sent_at``: monotonic, s; ``ttl_s``: how long it
    has to live."""

    member: str
    row: bytes
    sent_at: float
    ttl_s: float


class PeerReading(NamedTuple):
    """What came of an exchange. ``doubted``: endpoints that another process has come to hold for
    out of service; ``defects``: why rows were not used."""

    doubted: Sequence[str]
    defects: Sequence[Defect]


class _Peer(NamedTuple):
    """``since``: when this beat was first seen."""

    head: RowHead
    since: float


class GatewayLoads:
    """Makes rows of the seats in force, and tells the seats what rows of others say. Does no I/O.

    Not safe for threads. ``need``: called where an exchange is worth the while before its time.
    """

    def __init__(
        self,
        identity: str,
        group: str,
        ttl_s: float,
        need: Callable[[], None] = lambda: None,
        seen: SeenMembers | None = None,
    ) -> None:
        """``identity``: of this process among all that ever were; ``group``: of the gateway whose
        worker it is; ``ttl_s``: how long the next row lives; ``seen``: is told how many are there,
        None where nobody else asks."""
        self.need = need
        self.seen = seen or SeenMembers()
        self.standing = PlaceStanding.JOINING
        self.members = 1
        # Times that it used places beyond its part, which in doubt others have as well.
        self.lifts = 0
        self.leaving = False
        self._identity = identity
        self.ttl_s = ttl_s
        # Of the row that was sent last, and the longest of any.
        self._sent_ttl_s = self._longest_s = ttl_s
        self._head = RowHead(name_key(identity), name_key(group), 0, 0, 0, 1, Flag(0))
        self._valid_until = -math.inf
        # When it came new, or back.
        self._new_at = math.nan
        # Claims may be raised from then on; NaN: nobody has answered yet.
        self._free_at = math.nan
        self._is_new = False
        # Calls in a row without an answer, each in time for one.
        self._failures = 0
        self._lifted_until = -math.inf
        self._lapsed_at = -math.inf
        self._lost_at = math.nan
        self._peers: dict[int, _Peer] = {}
        # Rows that are there and have ended: their process, incarnation and beat.
        self._ended: dict[int, tuple[int, int]] = {}
        self._noted = False
        self._marked: frozenset[tuple[int, int]] = frozenset()
        self._told = ToldSeats()
        # Of who was last missed before its time, while nobody may raise a claim.
        self._missed_claims: Floats = np.zeros(0)
        self._begin_accounts()

    def adopt(self, board: Board) -> None:
        """Tell of the seats of ``board`` from here on; those of the board before are free."""
        before, accounts = self._told, self._accounts
        self._told = ToldSeats(board)
        before.replaced_by(self._told)
        self._begin_accounts()
        for seat, e in self._told.places.items():
            if (was := before.places.get(seat)) is not None:
                cap = self._accounts[e, al.CAP]
                self._accounts[e] = accounts[was]
                self._accounts[e, al.CAP] = cap
                # Of a cap that was lowered no more may be confirmed than there is.
                self._accounts[e, al.CONFIRMED] = min(cap, accounts[was, al.CONFIRMED])
        self._allot()

    def message(self, now: float) -> PeerMessage:
        """The next row. Claims that it gives up are given up from here on. ``now``: monotonic."""
        told = self._told
        told.refresh()
        al.plan_claims(self._accounts, told.in_flight, told.turns, float(self.members))
        if self.leaving:
            self._accounts[:, al.CONFIRMED] = 0.0
            self._accounts[:, al.WRITTEN] = told.in_flight
        if self.standing is PlaceStanding.SHARED:
            self._allot()
        settled = self.standing is PlaceStanding.SHARED and now >= self._free_at
        flags = Flag.SETTLED if settled else Flag(0)
        if self.leaving:
            flags |= Flag.LEAVING
        parts = _NO_PART if self.leaving else al.parts_of(self.members)
        beat = self._head.beat + 1
        self._sent_ttl_s = self.ttl_s
        ttl_ms = math.ceil(self.ttl_s * 1e3)
        self._head = self._head._replace(beat=beat, parts=parts, flags=flags, ttl_ms=ttl_ms)
        entries = told.listed(self._accounts[:, al.WRITTEN], parts)
        member = f"{self._identity}.{self._head.incarnation}"
        return PeerMessage(member, encode(self._head, entries), now, self.ttl_s)

    def read(
        self, rows: Mapping[str, bytes], sent_at: float, now: float, decided_now: float
    ) -> PeerReading:
        """Take in the answer to the message that was sent at ``sent_at``. ``now``: monotonic, s;
        ``decided_now``: on the clock by which requests are decided."""
        if now >= sent_at + _HOLDS * self._sent_ttl_s:
            # It came too late to be worth anything.
            self.failed(sent_at, now)
            return PeerReading((), ())
        peers, defects = read_rows(rows, longest_life_s(rows))
        others = self._living([p for p in peers if p.head.process != self._head.process], now)
        back = self.standing in (PlaceStanding.LAPSED, PlaceStanding.ALONE)
        if back or now >= self._valid_until:
            # Its row may have ended meanwhile, and its places be others'.
            self._accounts[:, al.CONFIRMED] = 0.0
            self._free_at = math.nan
            self.standing = PlaceStanding.JOINING
            self.seen.missed()
        self._failures, self._lost_at = 0, math.nan
        self._valid_until = sent_at + _HOLDS * self._sent_ttl_s
        self._look_who_is_there(others, now)
        may_raise = now >= self._free_at
        sums = self._known.sums(others, self._head.group)
        # Of who is missed the claims hold on.
        before = np.maximum(self._missed_claims, self._accounts[:, al.CLAIMED])
        self._missed_claims = np.zeros(len(before)) if may_raise else before
        al.settle_claims(self._accounts, sums.told, sums.claims, may_raise)
        if may_raise and not self.leaving:
            self.standing = PlaceStanding.SHARED
        self._allot()
        self._told.tell(sums, decided_now)
        doubted = sorted({e for _, e in sums.marked - self._marked})
        self._marked = sums.marked
        return PeerReading([self._told.seats[e].name for e in doubted], defects)

    def failed(self, sent_at: float, now: float) -> None:
        """The message that was sent at ``sent_at`` had no answer, and nobody knows whether it was
        written. Of one that took too long this process itself stood still, and the store has yet
        to show that it fails."""
        in_time = now - sent_at < _HOLDS * self._sent_ttl_s
        self._failures = self._failures + 1 if in_time else 0
        self._head = self._head._replace(incarnation=self._head.incarnation + 1)
        if self._valid_until == -math.inf:
            # One call without an answer says nothing of a store that was never heard.
            self._valid_until = now + _HOLDS * self._sent_ttl_s
        elif now >= self._valid_until and self.standing is not PlaceStanding.ALONE:
            self._lapse(now)

    def fade(self, now: float) -> None:
        """Now and then without a store: forget what others were last known to have."""
        if self._lost_at == self._lost_at:
            left = max(0.0, 1.0 - (now - self._lost_at) / _FADES_S)
            self._told.fade(left)

    def look(self, now: float, refused: bool) -> None:
        """A request is about to be decided. ``refused``: it found no place."""
        self._noted = False
        if self._lifted_until != -math.inf and now >= self._lifted_until:
            self._lifted_until = -math.inf
            self._allot()
        if self.standing is PlaceStanding.SHARED:
            if now >= self._valid_until:
                self._lapse(now)
            elif refused and (self._failures or not now >= self._free_at):
                # No exchange will bring it more for now: who has just joined may have nothing.
                self._lift(now)
        elif refused and not self._just_lapsed(now):
            self._lift(now)
        if refused:
            self.need()

    def claim(self, endpoint: str) -> bool:
        """Whether this process may have one more request at an endpoint."""
        place = self._told.by_name.get(endpoint)
        if place is None:
            return True
        seat = self._told.seats[place]
        if seat.in_flight < seat.allotted:
            self.need()
            return True
        if not self._noted:
            # One request needs one place, however many endpoints it is refused at.
            self._noted = True
            self._accounts[place, al.WANTED] += 1.0
        self._told.has_asked(place)
        self.need()
        return False

    @property
    def claimed(self) -> int:
        """Places that are confirmed to this process, of all endpoints; 0 while none are."""
        if self.standing is not PlaceStanding.SHARED:
            return 0
        return int(self._accounts[:, al.CONFIRMED].sum())

    @property
    def has_its_part(self) -> bool:
        """Whether places are confirmed to it wherever requests leave a part for each. Who joins
        finds them claimed, by as many as were there before, until those have read its row."""
        left = self._accounts[:, al.CAP] - self._accounts[:, al.OTHERS]
        has = self._accounts[:, al.CONFIRMED] >= 1.0
        return bool((has | (left < al.parts_of(self.members))).all())

    def _begin_accounts(self) -> None:
        told = self._told
        self._accounts = np.zeros((len(told.caps), al.ACCOUNT))
        self._accounts[:, al.CAP] = told.caps
        self._missed_claims = np.zeros(len(told.caps))
        self._known = KnownRows(told.keys.tolist(), told.caps.tolist())
        self._marked = frozenset()

    def _living(self, peers: Sequence[PeerRow], now: float) -> Sequence[PeerRow]:
        """Without rows that have not changed for as long as they live, whatever the store holds
        them for: its clock may have stepped back, or somebody have put them there."""
        living, ended = [], {}
        for peer in peers:
            head = peer.head
            age, known = (head.incarnation, head.beat), self._peers.get(head.process)
            if known is not None and (known.head.incarnation, known.head.beat) == age:
                has_ended = now - known.since > head.ttl_ms / 1e3
            else:
                has_ended = self._ended.get(head.process) == age
            if has_ended:
                ended[head.process] = age
            else:
                living.append(peer)
        self._ended = ended
        return living

    def _look_who_is_there(self, others: Sequence[PeerRow], now: float) -> None:
        """Count them, and notice what is missed before its time."""
        there = {peer.head.process: peer.head for peer in others}
        heads = (*there.values(), *(peer.head for peer in self._peers.values()))
        longest_s = max((self._sent_ttl_s, *(head.ttl_ms / 1e3 for head in heads)))
        missed = False
        for process, before in self._peers.items():
            head = there.get(process)
            if head is None:
                ended = now - before.since >= _ENDED * before.head.ttl_ms / 1e3
                missed |= not (ended or Flag.LEAVING in before.head.flags)
            else:
                age, was = (head.incarnation, head.beat), before.head
                missed |= age < (was.incarnation, was.beat)
        if self._free_at != self._free_at:
            # Come new, or back.
            # Back, it knew of rows that may be gone.
            self._longest_s = max(self._longest_s, longest_s)
            self._free_at = now + self._longest_s
            self._is_new, self._new_at = True, now
        elif missed:
            self._free_at = now + longest_s
        elif self._is_new:
            self._free_at = max(self._free_at, self._new_at + longest_s)
        digest = digest_of((self._head.process, *there))
        if self._is_new:
            # Somebody who has missed nobody saw just who is there now.
            seen = (digest, digest ^ self._head.process)
            if any(Flag.SETTLED in h.flags and h.seen in seen for h in there.values()):
                self._free_at = now
            self._is_new = now < self._free_at
        self._head = self._head._replace(seen=digest)
        peers = {}
        for process, head in there.items():
            known = self._peers.get(process)
            same = known is not None and known.head.beat == head.beat
            peers[process] = known if known is not None and same else _Peer(head, now)
        self._peers = peers
        self._longest_s = longest_s
        self.members = 1 + len(there)
        self.seen.seen(self.members, now)

    def _be_alone(self, now: float) -> None:
        if self.standing is not PlaceStanding.ALONE:
            self.standing, self._lost_at = PlaceStanding.ALONE, now
            self._accounts[:, al.CONFIRMED] = 0.0
            self._told.lose()
            self._peers.clear()
            self._allot()

    def _lapse(self, now: float) -> None:
        """Its row has ended, as far as it can know: what it claimed may be others' now."""
        if self._failures:
            self._be_alone(now)
            return
        if self.standing is not PlaceStanding.LAPSED:
            self.standing, self._lapsed_at = PlaceStanding.LAPSED, now
        self._accounts[:, al.CONFIRMED] = 0.0
        self._allot()
        self.need()

    def _just_lapsed(self, now: float) -> bool:
        return self.standing is PlaceStanding.LAPSED and now < self._lapsed_at + _LAPSED_S

    def _lift(self, now: float) -> None:
        if self._lifted_until == -math.inf:
            self._lifted_until = now + _LIFTED_S
            self.lifts += 1
            self._allot()

    def _allot(self) -> None:
        """Tell the seats what this process may have."""
        accounts = self._accounts
        caps = accounts[:, al.CAP]
        asks = np.zeros(len(caps), bool)
        part = np.maximum(1.0, np.floor(caps / self.seen.count))
        if self.standing in (PlaceStanding.SHARED, PlaceStanding.LAPSED):
            allotted = accounts[:, al.CONFIRMED].copy()
            if self.standing is PlaceStanding.SHARED:
                asks = caps - accounts[:, al.CLAIMED] - allotted >= 1.0
        else:
            allotted = part
        if self._lifted_until != -math.inf:
            allotted = self._lifted(allotted, part)
        self._told.allot(allotted, asks)

    def _lifted(self, allotted: Floats, part: Floats) -> Floats:
        """Beyond ``allotted``: its share of what nobody claims, as long as others go by what it has
        read of them; who has nothing, having stood still or come new as the store fails, its part.
        Where there is no store, or not all are known yet, whatever nothing else can serve."""
        by_claims = self.standing in (PlaceStanding.SHARED, PlaceStanding.LAPSED)
        if not by_claims or self._failures >= _GONE_AFTER:
            return self._accounts[:, al.CAP].copy()
        if not allotted.any() and (self._failures or self.standing is PlaceStanding.LAPSED):
            return part
        return allotted + np.floor(np.maximum(0.0, self._unclaimed - allotted) / self.members)

    @property
    def _unclaimed(self) -> Floats:
        """What no other is known to claim."""
        claimed = np.maximum(self._accounts[:, al.CLAIMED], self._missed_claims)
        return np.maximum(0.0, self._accounts[:, al.CAP] - claimed)
