"""How much of a model usually runs in a region at an hour of the day: learned from what ran there.

Of each site the peak of every whole hour is kept by hour of the day (UTC), working days apart from
weekends: a mean that leans on the last week. Two days say what is usual; before that nobody knows.
How today compares is told by the last whole hour, against what was usual for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from router.core.wake_times import Site
from router.units import HOUR_S

# By hour of the day, of working days and then of weekends.
SLOTS: Final = 48
_DAY_H: Final = 24
# Of days, in the mean of a slot; and so many are needed.
_MOST_DAYS: Final = 7
_LEAST_DAYS: Final = 2
# An hour counts that was seen but for so long at its begin, at its end and at a time between.
_UNSEEN_S: Final = 300.0
# How much more, or less, today may be than usual.
_MOST_LEVEL: Final = 2.0
# Of sites with names that callers do not make up; what is beyond that is a mistake.
MOST_SITES: Final = 4096
_MOST_PLACES: Final = 1e6
# 1970-01-01 was a Thursday.
_THURSDAY: Final = 3
_WORKING_DAYS: Final = 5


class UsualSlot(NamedTuple):
    """``places``: requests at once, at the peak of the hour; ``days``: that it is the mean of, at
    most a week."""

    places: float = 0.0
    days: int = 0


_UNSEEN: Final = UsualSlot()


class _Hour(NamedTuple):
    """One that is under way. ``first_at``, ``last_at``: when it was looked at, unix s."""

    number: int
    first_at: float
    last_at: float
    peak: float


class _Compared(NamedTuple):
    """A whole hour: its peak, and what was usual for it before, NaN where nobody knew."""

    number: int
    peak: float
    usual: float


class UsualLoads:
    """Of all sites. Pure: unix seconds are arguments."""

    def __init__(self) -> None:
        self._slots: dict[Site, list[UsualSlot]] = {}
        self._hours: dict[Site, _Hour] = {}
        # Of the last whole hour, by model and region.
        self._last: dict[str, dict[str, _Compared]] = {}

    def note(self, site: Site, places: float, now: float) -> bool:
        """So many requests ran there now. Whether an hour ended by that and was learned."""
        number = int(now // HOUR_S)
        hour = self._hours.get(site)
        if hour is not None and hour.number == number:
            # Of an hour with a gap, as where a machine stood still, the peak may not be known.
            first_at = now if now - hour.last_at > _UNSEEN_S else hour.first_at
            peak = max(hour.peak, places)
            self._hours[site] = _Hour(number, first_at, now, peak)
            return False
        if site not in self._slots and len(self._slots) >= MOST_SITES:
            return False
        self._hours[site] = _Hour(number, now, now, places)
        return hour is not None and hour.number < number and self._learn(site, hour)

    def places(self, site: Site, at: float) -> float:
        """That usually run there in the hour of ``at``, as today goes; NaN where that is not known
        yet."""
        usual = self._usual(site, int(at // HOUR_S))
        return usual * self._level(site[0], at) if usual == usual else usual

    def forget(self, site: Site) -> None:
        """It is none of the fleet's any more."""
        self._slots.pop(site, None)
        self._hours.pop(site, None)
        self._last.get(site[0], {}).pop(site[1], None)

    def taken(self) -> Mapping[Site, tuple[UsualSlot, ...]]:
        """What is worth keeping."""
        return {site: tuple(slots) for site, slots in self._slots.items()}

    def take_up(self, kept: Mapping[Site, Sequence[UsualSlot]]) -> None:
        """What another process learned, or this one before: where it is of more days than what is
        known here. What cannot be is left out."""
        for site, slots in kept.items():
            is_one_too_many = site not in self._slots and len(self._slots) >= MOST_SITES
            if is_one_too_many or len(slots) != SLOTS or not all(map(_can_be, slots)):
                continue
            own = self._slots.get(site, [_UNSEEN] * SLOTS)
            self._slots[site] = [
                theirs if theirs.days > mine.days else mine
                for mine, theirs in zip(own, slots, strict=True)
            ]

    def _usual(self, site: Site, number: int) -> float:
        slots = self._slots.get(site)
        found = _UNSEEN if slots is None else slots[_slot(number)]
        return found.places if found.days >= _LEAST_DAYS else math.nan

    def _level(self, model: str, at: float) -> float:
        """Of today against what is usual, over all regions of a model: work moves among them."""
        recent = [
            one
            for one in self._last.get(model, {}).values()
            if 0 <= int(at // HOUR_S) - one.number <= _DAY_H and one.usual == one.usual
        ]
        usual = math.fsum(one.usual for one in recent)
        if usual < 1.0:
            return 1.0
        ratio = math.fsum(one.peak for one in recent) / usual
        return min(max(ratio, 1.0 / _MOST_LEVEL), _MOST_LEVEL)

    def _learn(self, site: Site, hour: _Hour) -> bool:
        start = hour.number * HOUR_S
        whole = hour.first_at - start <= _UNSEEN_S and start + HOUR_S - hour.last_at <= _UNSEEN_S
        if not whole:
            return False
        slots = self._slots.setdefault(site, [_UNSEEN] * SLOTS)
        usual = self._usual(site, hour.number)
        self._last.setdefault(site[0], {})[site[1]] = _Compared(hour.number, hour.peak, usual)
        before = slots[_slot(hour.number)]
        days = min(before.days + 1, _MOST_DAYS)
        mean = before.places + (hour.peak - before.places) / days
        slots[_slot(hour.number)] = UsualSlot(mean, days)
        return True


def _slot(number: int) -> int:
    """Of an hour, counted since 1970."""
    day, hour = divmod(number, _DAY_H)
    is_working = (day + _THURSDAY) % 7 < _WORKING_DAYS
    return hour if is_working else _DAY_H + hour


def _can_be(slot: UsualSlot) -> bool:
    return 0 <= slot.days <= _MOST_DAYS and 0.0 <= slot.places <= _MOST_PLACES
