"""What one name has left of a carbon budget on one UTC day, as one process keeps it.

Whole micrograms throughout, so that nothing is lost in sums. A request reserves the upper side of
what it is expected to emit before it leaves, and settles what it did emit after.

Gateways that share a store draw on one counter of the day there, by adding to it: what a process
added is its allotment, and what it needs no more it takes off again. So the sum of all allotments
is what nobody else may use, and no gateway has to ask before it lets a request in. What is not
spent of it comes back, so a second counter says what all have spent: it tells a caller whether the
day has room, and decides about nobody. The bounds:

- *A counter that can be reached.* Beyond its allotment a process goes by an advance, until it has
  drawn on: 1 / ADVANCES of the limit over all gateways, or one request where that is more.
- *A counter that cannot.* What nobody had drawn, as last known, is divided by the gateways. They go
  on by these parts for a while after it is back: it has yet to hear what others spent meanwhile.
- *Answers that were lost.* What is not known to have been counted may stand there twice, and what
  is not known to have been taken off may stand there still: less can be spent then, never more.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Final, NamedTuple

from router.units import DAY_S

# Of the limit, over all gateways, that may be spent ahead of the next draw.
ADVANCES: Final = 100
# A draw is for so long at the pace of late, and for so many requests.
_AHEAD_S: Final = 10.0
_AHEAD_REQUESTS: Final = 4
# Without a request for so long, what is not spent is given back.
_IDLE_S: Final = 30.0
# Of what nobody has drawn one gateway takes its share over this, so that the last of it is not
# with one alone.
_CAUTION: Final = 2
# How long a pace is remembered that is over.
_PACE_S: Final = 10.0
# Whole micrograms that were grams for a while are whole again.
_ROUNDING_UG: Final = 1e-6


class Fit(Enum):
    """Whether a request fits. WAITS: not just now, but the day has room: requests under way or
    other gateways hold it, or it is to be drawn."""

    FITS = "fits"
    WAITS = "waits"
    EXHAUSTED = "exhausted"


class Sharing(NamedTuple):
    """How a limit is shared. ``draws``: on a counter that can be reached, else it is divided;
    ``gateways``: among how many."""

    draws: bool
    gateways: int


# A process on its own: nobody else spends, or it is told what they do.
ALONE: Final = Sharing(False, 1)


def day_of(now: float) -> int:
    """The UTC day of unix seconds, counted from 1970."""
    return math.floor(now / DAY_S)


class DayAccount:
    """``key``: what the account is called everywhere; ``day``: as of `day_of`.

    ``limit_ug``: of the day, over all gateways; ``spent_ug``: settled here; ``reserved_ug``: by
    requests under way here. ``drawn_ug``: what this process may spend of the counter;
    ``counted_ug``: what the counter holds in its name; ``total_ug``: the counter as last known.
    ``told_ug``: of what was settled here, what the counter of what all have spent knows;
    ``spent_total_ug``: that counter as last known, None before it was.
    ``others_ug``: what workers beside this one have spent and reserved. ``is_named``: by the
    configuration, so that its counter is looked at although nobody asks.
    """

    __slots__ = (
        "_asked_at", "_asked_ug", "_largest_ug", "_least_ug", "_most_ug", "_pace_ug_per_s",
        "_paced_at", "_paced_ug", "_part_ug",
        "counted_ug", "day", "drawn_ug", "is_named", "key", "limit_ug", "looked_at", "others_ug",
        "reserved_ug", "restored_at", "retold_at", "spent_total_ug", "spent_ug", "told_ug",
        "total_ug",
    )  # fmt: skip

    def __init__(self, key: str, day: int, limit_ug: int, spent_ug: int = 0) -> None:
        """``spent_ug``: what is known to be spent, and that no counter knows."""
        self.key = key
        self.day = day
        self.limit_ug = limit_ug
        self.spent_ug = spent_ug
        self.reserved_ug = 0
        self.drawn_ug = 0
        self.counted_ug = 0
        self.total_ug = 0
        self.told_ug = 0
        self.spent_total_ug: int | None = None
        self.others_ug = 0
        self.is_named = False
        self.looked_at = -math.inf
        # When either counter was last found to have lost what it was told, and told again.
        self.restored_at = self.retold_at = -math.inf
        self._asked_at = -math.inf
        self._asked_ug = 0
        self._largest_ug = 0
        self._least_ug: float = math.inf
        self._pace_ug_per_s = 0.0
        self._paced_at = math.nan
        self._paced_ug = spent_ug
        self._part_ug = 0.0
        # What this process may use while it goes by its part.
        self._most_ug: int | None = None

    @property
    def used_ug(self) -> int:
        """Spent and reserved by this process."""
        return self.spent_ug + self.reserved_ug

    @property
    def undrawn_ug(self) -> int:
        """What nobody has drawn, or spent, of the limit, as last known."""
        # A counter below 0 is nobody's, and makes no limit larger.
        return max(0, self.limit_ug - max(0, self.total_ug) - self.others_ug)

    @property
    def left_ug(self) -> int:
        """What is left of the day over all gateways, as far as is known here: neither spent nor
        reserved here. Below 0 when it is overspent."""
        return self.limit_ug - self._spent_by_all_ug - self.reserved_ug

    @property
    def _spent_by_all_ug(self) -> int:
        if self.spent_total_ug is None:
            # Others' allotments stand for it.
            elsewhere_ug = self.total_ug - self.counted_ug
        else:
            elsewhere_ug = self.spent_total_ug - self.told_ug
        return max(0, elsewhere_ug) + self.others_ug + self.spent_ug

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way or counted that the next round would have to settle."""
        return not self.reserved_ug and self.counted_ug == self.spent_ug

    def is_quiet(self, now: float) -> bool:
        """Whether nobody has asked for a while, and nothing is under way; ``now``: monotonic, s."""
        return not self.reserved_ug and now - self._asked_at >= _IDLE_S

    def part_ug(self, gateways: int) -> int:
        """What this process may use where the counter cannot be asked: what it had drawn, and its
        part of what nobody had."""
        return self.drawn_ug + self.undrawn_ug // gateways

    def keep_to(self, part_ug: int) -> None:
        """Use no more than that until `share_again`, and draw nothing: what the counter says is not
        all that was spent. Where it is kept to a part already, that one holds."""
        if self._most_ug is None:
            self._most_ug = part_ug

    def share_again(self) -> None:
        """The counter has heard of everybody."""
        self._most_ug = None

    def fit(self, ask_ug: int, sharing: Sharing) -> Fit:
        """Whether a request that reserves ``ask_ug`` fits now."""
        if self._most_ug is not None:
            most_ug = min(self._most_ug, self.limit_ug)
            if self.used_ug + ask_ug <= most_ug:
                return Fit.FITS
            return Fit.WAITS if self.spent_ug + ask_ug <= most_ug else Fit.EXHAUSTED
        undrawn_ug = self.undrawn_ug
        beyond_ug = self.used_ug + ask_ug - self.drawn_ug
        room_ug = undrawn_ug if sharing.draws else undrawn_ug // sharing.gateways
        most_ug = room_ug
        if sharing.draws:
            advance_ug = self.limit_ug // (ADVANCES * sharing.gateways)
            if self.used_ug <= self.drawn_ug:
                # One that finds nothing drawn yet is let in, however large.
                advance_ug = max(advance_ug, ask_ug)
            most_ug = min(room_ug, advance_ug)
        if beyond_ug <= 0 or beyond_ug <= most_ug:
            return Fit.FITS
        if sharing.draws:
            has_room = ask_ug <= self.limit_ug - self._spent_by_all_ug
        else:
            has_room = beyond_ug - self.reserved_ug <= room_ug
        return Fit.WAITS if has_room else Fit.EXHAUSTED

    def room_ug(self, sharing: Sharing) -> int:
        """What may be reserved beside now: `fit` says FITS of no more. With nothing drawn yet it is
        for one request as large as any of late."""
        if self._most_ug is not None:
            return max(0, min(self._most_ug, self.limit_ug) - self.used_ug)
        undrawn_ug = self.undrawn_ug
        room_ug = undrawn_ug if sharing.draws else undrawn_ug // sharing.gateways
        if sharing.draws:
            advance_ug = self.limit_ug // (ADVANCES * sharing.gateways)
            if self.used_ug <= self.drawn_ug:
                advance_ug = max(advance_ug, self._largest_ug)
            room_ug = min(room_ug, advance_ug)
        return max(0, self.drawn_ug - self.used_ug + room_ug)

    def asked(self, ask_ug: int, now: float) -> None:
        """A request of ``ask_ug``, 0 where nothing is to be drawn for it, came at ``now``
        (monotonic, s), whether it fits or not."""
        self._asked_at = now
        self._asked_ug += ask_ug
        self._largest_ug = max(self._largest_ug, ask_ug)
        if ask_ug:
            self._least_ug = min(self._least_ug, ask_ug)

    def reserve(self, ask_ug: int) -> None:
        """A request is on its way."""
        self.reserved_ug += ask_ug

    def settle(self, ask_ug: int, spent_ug: float) -> None:
        """One that had reserved ``ask_ug`` has ended, and emitted ``spent_ug``: parts of a
        microgram count with the next one's."""
        self.reserved_ug -= ask_ug
        whole_ug = math.floor(spent_ug + self._part_ug + _ROUNDING_UG)
        self._part_ug += spent_ug - whole_ug
        self.spent_ug += whole_ug

    def plan(self, now: float, sharing: Sharing, last: bool = False) -> int:
        """Micrograms to add to the day's counter now, which `begin` and `counted` or `unanswered`
        have to be told of; below 0 to take off, 0 for nothing. ``now``: monotonic, s; ``last``: the
        process ends, or the day is over.
        """
        used_ug = self.used_ug
        if last:
            return used_ug - self.counted_ug
        self._take_pace(now)
        if self._most_ug is not None:
            # What was drawn before and is not used stays: it is in the part.
            return max(0, used_ug - self.counted_ug)
        if now - self._asked_at >= _IDLE_S:
            self._largest_ug = 0
            return used_ug - self.counted_ug
        burst_ug, self._asked_ug = max(_AHEAD_REQUESTS * self._largest_ug, self._asked_ug), 0
        least_ug, self._least_ug = self._least_ug, math.inf
        # At a pace that two moments close to each other made endless, all of it.
        ahead_ug = math.ceil(min(_AHEAD_S * self._pace_ug_per_s, self.limit_ug))
        wanted_ug = ahead_ug + burst_ug
        free_ug = self.drawn_ug - used_ug
        if 2 * free_ug >= wanted_ug and free_ug <= 2 * wanted_ug:
            return self.drawn_ug - self.counted_ug
        more_ug = wanted_ug - free_ug
        if more_ug > 0:
            share_ug = self.undrawn_ug // (_CAUTION * sharing.gateways)
            # Whatever is left, what was let in is counted.
            share_ug = min(max(share_ug, self._largest_ug), self.undrawn_ug)
            more_ug = min(more_ug, max(-free_ug, 0) + share_ug)
            if free_ug + more_ug < least_ug < math.inf:
                # Too little for any that came: whoever has the rest can let it in.
                return used_ug - self.counted_ug
        return self.drawn_ug + more_ug - self.counted_ug

    def _take_pace(self, now: float) -> None:
        elapsed_s = now - self._paced_at
        if elapsed_s > 0.0:
            pace = (self.spent_ug - self._paced_ug) / elapsed_s
            kept = self._pace_ug_per_s * math.exp(-elapsed_s / _PACE_S)
            self._pace_ug_per_s = max(pace, kept)
        self._paced_at, self._paced_ug = now, self.spent_ug

    def begin(self, amount_ug: int) -> None:
        """``amount_ug`` is about to be added to the counter: what is given back is used no more."""
        if amount_ug < 0:
            self.drawn_ug = self.counted_ug + amount_ug

    def counted(self, amount_ug: int, total_ug: int, now: float) -> int:
        """It was, and the counter came to ``total_ug``. Returns what to give back of it at once,
        as a further amount, because the limit does not allow it; else 0. ``now``: monotonic, s.
        """
        self.looked_at = now
        self.counted_ug += amount_ug
        self.total_ug = total_ug
        over_ug = max(0, total_ug - self.limit_ug)
        spare_ug = max(0, self.counted_ug - self.used_ug)
        back_ug = min(over_ug, spare_ug) if amount_ug > 0 else 0
        self.drawn_ug = self.counted_ug - back_ug
        return -back_ug

    def unanswered(self, amount_ug: int) -> None:
        """Nobody knows whether it was: so that no more is spent, not if it was added, and if it was
        taken off."""
        if amount_ug < 0:
            self.counted_ug += amount_ug
        self.drawn_ug = self.counted_ug

    def tell(self) -> int:
        """Micrograms to add now to the counter of what all have spent; taken for known at once: an
        answer that is lost must not make more of it than there was."""
        amount_ug = self.spent_ug - self.told_ug
        self.told_ug = self.spent_ug
        return amount_ug

    def told(self, amount_ug: int, total_ug: int) -> bool:
        """That counter came to ``total_ug`` with ``amount_ug``; whether it has lost what it was
        told before, which is to be told again then."""
        self.spent_total_ug = total_ug
        lost = total_ug < self.told_ug
        if lost:
            self.told_ug = amount_ug
        return lost

    def forgotten(self, held_ug: int = 0) -> None:
        """The counter lost what it held, but for ``held_ug``: the rest is to be counted anew."""
        self.counted_ug = held_ug
        self.total_ug = held_ug

    def emptied(self, since: float = -math.inf) -> None:
        """The store lost all that it knew, after ``since`` (monotonic, s): of this account, too,
        but for what was found out and told again meanwhile."""
        if self.restored_at <= since:
            self.forgotten()
        if self.retold_at <= since:
            self.told_ug = 0

    @property
    def was_forgotten(self) -> bool:
        """Whether the counter came to less than this process alone has added to it."""
        return self.total_ug < self.counted_ug
