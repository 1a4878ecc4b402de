"""Rows of other processes -> what they come to at this process's endpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.terms import MOST_STRETCH
from router.peers.gateway_rows import PER_MS, SUMS, Entries, Mark, PeerRow, joined

Floats = NDArray[np.float64]
# Of sums that wrap, the half: a step back is none forward.
_HALF: Final = 1 << 31


class PeerSums(NamedTuple):
    """Of all others, by endpoint (n,). ``in_flight``: of other gateways; ``told``: of every other
    process; ``claims``: places claimed; ``cap_ms``: least, inf for any; ``sums`` (5, n): in the
    order of `gateway_rows.SUMS`; ``sent_ms``, ``paced_ms``: since the reading before; ``marked``:
    (process, endpoint) pairs that hold it for out of service."""

    in_flight: Floats
    told: Floats
    claims: Floats
    cap_ms: Floats
    sums: Floats
    sent_ms: Floats
    paced_ms: Floats
    marked: frozenset[tuple[int, int]]


class KnownRows:
    """The endpoints of one process, by `name_key`, and what others had ever sent there."""

    def __init__(self, keys: Sequence[int], caps: Sequence[float]) -> None:
        """``caps``: ``max_in_flight`` of each."""
        self._n = len(keys)
        self._caps = np.array(caps, np.float64)
        unsorted = np.array(keys, np.uint64)
        self._order = np.argsort(unsorted)
        self._sorted = unsorted[self._order]
        # What each had sent, prompts and at the pace of answers, as of the last row that listed it:
        # (2, slots, n + 1), the last for endpoints that this process does not have.
        self._sent = np.zeros((2, 0, self._n + 1), np.uint32)
        self._slots: dict[int, int] = {}
        self._free: list[int] = []

    def sums(self, peers: Sequence[PeerRow], group: int) -> PeerSums:
        """What ``peers`` come to; ``group``: whose counts are known otherwise."""
        n = self._n
        lengths = [len(peer.entries) for peer in peers]
        entries = joined(peers)
        where = self._places(entries)
        known = where < n
        whose = np.repeat(np.arange(len(peers)), lengths)

        def total(weights: NDArray[np.float64]) -> Floats:
            return _summed(where, weights, n)

        in_flight = entries["in_flight"].astype(np.float64)
        foreign = np.array([peer.head.group != group for peer in peers], bool)
        cap_ms = np.full(n + 1, np.inf)
        capped = entries["cap_ms"] > 0.0
        np.minimum.at(cap_ms, where[capped], entries["cap_ms"][capped].astype(np.float64))
        sent_ms, paced_ms = self._news(peers, entries, where, whose)
        marked = np.flatnonzero((entries["mark"] != int(Mark.NONE)) & known)
        return PeerSums(
            total(in_flight * foreign[whose] if len(peers) else in_flight),
            total(in_flight),
            self._claims(peers, entries, where, whose),
            cap_ms[:n],
            np.array([total(entries[name].astype(np.float64)) for name in SUMS]),
            sent_ms,
            paced_ms,
            frozenset(
                (peers[w].head.process, e)
                for w, e in zip(whose[marked].tolist(), where[marked].tolist(), strict=True)
            ),
        )

    def _places(self, entries: Entries) -> NDArray[np.int64]:
        """Which endpoint each entry is of; n for one that this process does not have."""
        where = np.full(len(entries), self._n, np.int64)
        if self._n and len(entries):
            keys = entries["key"].astype(np.uint64)
            found = np.minimum(np.searchsorted(self._sorted, keys), self._n - 1)
            hits = self._sorted[found] == keys
            where[hits] = self._order[found[hits]]
        return where

    def _claims(
        self,
        peers: Sequence[PeerRow],
        entries: Entries,
        where: NDArray[np.int64],
        whose: NDArray[np.int64],
    ) -> Floats:
        claims = np.zeros(self._n)
        for parts, count in Counter(peer.head.parts for peer in peers).items():
            claims += count * np.floor(self._caps / parts)
        if not len(entries) or not self._n:
            return claims
        parts_of = np.array([peer.head.parts for peer in peers], np.float64)[whose]
        caps = np.append(self._caps, 0.0)[where]
        # No more is claimed than there is, and what is listed is not claimed by the head, too.
        listed = np.minimum(entries["claim"].astype(np.float64), caps) - np.floor(caps / parts_of)
        return claims + np.bincount(where, listed, self._n + 1)[: self._n]

    def _news(
        self,
        peers: Sequence[PeerRow],
        entries: Entries,
        where: NDArray[np.int64],
        whose: NDArray[np.int64],
    ) -> tuple[Floats, Floats]:
        """Milliseconds of prompts that were sent since the reading before."""
        slots = self._slots_of(peers)[whose]
        at = (slots, where)
        sent, paced = (
            _forward(entries[name] - self._sent[row][at])
            for row, name in enumerate(("sent", "paced"))
        )
        self._sent[0][at], self._sent[1][at] = entries["sent"], entries["paced"]
        # Of whoever is seen for the first time, too, no more is new than is in flight there.
        most = entries["prompts_ms"].astype(np.float64)
        paced = np.minimum(paced, MOST_STRETCH * most)
        n = self._n
        return (
            _summed(where, np.minimum(sent, most), n),
            _summed(where, paced, n),
        )

    def _slots_of(self, peers: Sequence[PeerRow]) -> NDArray[np.int64]:
        """Where in ``_sent`` each process is; those that have gone make room."""
        there = {peer.head.process for peer in peers}
        for process in self._slots.keys() - there:
            slot = self._slots.pop(process)
            self._sent[:, slot] = 0
            self._free.append(slot)
        for process in there - self._slots.keys():
            if not self._free:
                size = self._sent.shape[1]
                more = np.zeros((2, max(size, 4), self._n + 1), np.uint32)
                self._sent = np.concatenate([self._sent, more], axis=1)
                self._free = list(range(size, self._sent.shape[1]))
            self._slots[process] = self._free.pop()
        return np.array([self._slots[peer.head.process] for peer in peers], np.int64)


def _forward(steps: NDArray[np.uint32]) -> Floats:
    return np.where(steps < _HALF, steps / PER_MS, 0.0)


def _summed(where: NDArray[np.int64], weights: Floats, n: int) -> Floats:
    # Of nothing at all numpy makes whole numbers.
    return np.bincount(where, weights, n + 1)[:n].astype(np.float64)
