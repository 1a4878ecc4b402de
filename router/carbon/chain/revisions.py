"""What is best known of each past slot: estimates are revised for days after the fact.

Decisions were taken on the first value; the books are settled on the last. Both are kept, for ten
days, bounded in slots.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeVar

from router.model import Intensity, Kind, require_same_signal
from router.units import HOUR_S

KEEP_S: Final = 10 * 24 * HOUR_S
# Ten days of five-minute values.
MAX_SLOTS: Final = 2880

_T = TypeVar("_T")
_TRUST: Final = {kind: place for place, kind in enumerate(Kind)}


class Revised(NamedTuple):
    """One past slot, which ends at ``best.observed_at``.

    ``first``: the value that was known first. ``best``: the one to settle on; its source's latest
    word. ``revised_at``: when ``best`` came to be known; equal to ``seen_at`` of the first value
    where nothing was revised. ``rank``: place of its source in the chain, 0 the first.
    """

    first: Intensity
    best: Intensity
    seen_at: float
    revised_at: float
    rank: int


class Settled(NamedTuple):
    """The mean over a span. ``kind``: the worst among its slots. ``sources``: in order of time.

    ``first_g_per_kwh``: the same mean of the values known first, which decisions were taken on.
    ``low``/``high``: mean of the slots' bounds, as wide as if their errors were all alike.
    """

    g_per_kwh: float
    low_g_per_kwh: float
    high_g_per_kwh: float
    first_g_per_kwh: float
    kind: Kind
    sources: tuple[str, ...]
    revised_at: float


class Revisions:
    """The past slots of every grid zone. Pure: ``now`` is an argument."""

    def __init__(self, keep_s: float = KEEP_S, max_slots: int = MAX_SLOTS) -> None:
        """Per grid zone, slots that ended in the last ``keep_s``, at most ``max_slots``."""
        self._keep_s = keep_s
        self._max_slots = max_slots
        self._zones: dict[str, dict[float, Revised]] = {}

    def take(self, grid_zone: str, value: Intensity, now: float, rank: int = 0) -> bool:
        """Take in what is said of a slot at ``now``; True when that is news.

        A source may revise its own value. Another source replaces it only by a better kind, or
        with the same kind when it stands before it in the chain. Raises MixedBasisError when its
        signal is not that of the zone's other slots.
        """
        slots = self._zones.setdefault(grid_zone, {})
        if slots:
            require_same_signal(next(iter(slots.values())).best, value)
        end = value.observed_at
        if end <= now - self._keep_s:
            return False
        known = slots.get(end)
        if known is None:
            slots[end] = Revised(value, value, now, now, rank)
            forget(slots, now, self._keep_s, self._max_slots)
            return True
        if value == known.best or not _replaces(value, rank, known):
            return False
        slots[end] = Revised(known.first, value, known.seen_at, now, rank)
        return True

    def forget_after(self, grid_zone: str, end: float) -> None:
        """Drop the slots that end later: they were taken in by a clock that was ahead."""
        slots = self._zones.get(grid_zone, {})
        for later in [stop for stop in slots if stop > end]:
            del slots[later]

    def slot(self, grid_zone: str, end: float) -> Revised | None:
        """The slot that ends at ``end``, None when nothing is known of it."""
        return self._zones.get(grid_zone, {}).get(end)

    def slots(self, grid_zone: str) -> Iterator[Revised]:
        """Every slot kept, oldest first."""
        slots = self._zones.get(grid_zone, {})
        return (slots[end] for end in sorted(slots))

    def newest(self, grid_zone: str) -> Intensity | None:
        """The best value of the newest slot, None when there is none."""
        slots = self._zones.get(grid_zone)
        return slots[max(slots)].best if slots else None

    def since(self, grid_zone: str, start: float) -> tuple[Intensity, ...]:
        """The best value of each slot that ended after ``start``, oldest first."""
        return tuple(s.best for s in self.slots(grid_zone) if s.best.observed_at > start)

    def during(self, start: float, end: float) -> Revisions:
        """A copy of what is known of the hours that these reach into, of every zone: to be read
        beside whoever goes on taking in."""
        found = Revisions(self._keep_s, self._max_slots)
        found._zones = {
            zone: {
                stop: slot
                for stop, slot in slots.items()
                if start - HOUR_S < stop <= end + HOUR_S
            }
            for zone, slots in self._zones.items()
        }  # fmt: skip
        return found

    def settled(self, grid_zone: str, start: float, end: float) -> Settled | None:
        """The mean from ``start`` to ``end``, weighted by time; None when any of it is missing."""
        if not start < end:
            return None
        total = [0.0, 0.0, 0.0, 0.0]
        used: list[Revised] = []
        at = start
        for slot, begin in self._spans(grid_zone, start, end):
            if begin > at:
                return None
            until = min(slot.best.observed_at, end)
            if until <= at:
                continue
            best, weight = slot.best, (until - at) / (end - start)
            figures = (best.g_per_kwh, best.low_g_per_kwh, best.high_g_per_kwh)
            for index, value in enumerate((*figures, slot.first.g_per_kwh)):
                total[index] += weight * value
            used.append(slot)
            at = until
        if at < end:
            return None
        mean, low, high, first = total
        return Settled(
            mean,
            low,
            high,
            first,
            kind=max((slot.best.kind for slot in used), key=_TRUST.__getitem__),
            sources=tuple(dict.fromkeys(slot.best.source for slot in used)),
            revised_at=max(slot.revised_at for slot in used),
        )

    def mean(self, grid_zone: str, start: float) -> Intensity | None:
        """The hour that starts at ``start`` as one observation; None unless all of it is known."""
        hour = self.settled(grid_zone, start, start + HOUR_S)
        slots = [slot.best for slot in self.slots(grid_zone) if slot.best.observed_at > start]
        if hour is None or not slots:
            return None
        return Intensity(
            g_per_kwh=hour.g_per_kwh,
            low_g_per_kwh=hour.low_g_per_kwh,
            high_g_per_kwh=hour.high_g_per_kwh,
            signal=slots[0].signal,
            kind=hour.kind,
            source=slots[0].source,
            observed_at=start + HOUR_S,
            expires_at=slots[0].expires_at,
        )

    def _spans(self, grid_zone: str, start: float, end: float) -> list[tuple[Revised, float]]:
        """The slots that reach into the span, oldest first, each with its own start."""
        slots = self._zones.get(grid_zone, {})
        step_s = self._steps(grid_zone, start, end)
        spans = [
            (slots[stop], stop - step_s[slots[stop].best.source])
            for stop in sorted(slots)
            if start < stop < end + HOUR_S
        ]
        return [(slot, begin) for slot, begin in spans if begin < end]

    def _steps(self, grid_zone: str, start: float, end: float) -> dict[str, float]:
        """Per source the length of its slots: the least distance between two of them nearby.

        A value does not carry the length of its slot. No more than an hour; an hour, too, for a
        source with a single slot.
        """
        last: dict[str, float] = {}
        steps: dict[str, float] = {}
        slots = self._zones.get(grid_zone, {})
        for stop in sorted(slots):
            if not start - 6 * HOUR_S < stop < end + 6 * HOUR_S:
                continue
            source = slots[stop].best.source
            gap = stop - last.get(source, -math.inf)
            steps[source] = min(steps.get(source, HOUR_S), gap)
            last[source] = stop
        return steps


def forget(
    slots: dict[float, _T], now: float, keep_s: float = KEEP_S, max_slots: int = MAX_SLOTS
) -> None:
    """Drop the slots, by their end, that ended over ``keep_s`` ago, and the oldest of too many."""
    # Nearly in order of time: what an old slot shields from sight is not old by much.
    if len(slots) <= max_slots and next(iter(slots)) > now - keep_s:
        return
    kept = sorted(end for end in slots if end > now - keep_s)[-max_slots:]
    for end in slots.keys() - set(kept):
        del slots[end]


def _replaces(value: Intensity, rank: int, known: Revised) -> bool:
    if value.source == known.best.source:
        return True
    return (_TRUST[value.kind], rank) < (_TRUST[known.best.kind], known.rank)
