"""A provider's forecast and our own, weighted by how well each did lately.

At every hour both are noted at a few leads; when the hour they spoke of was observed, each one's
error counts. Per grid zone and lead band the weights are

    w_provider : w_own = error_own ** SHARPNESS : error_provider ** SHARPNESS

with exponentially weighted mean absolute errors. The band is what the combination itself missed by
so far: ln 10 times its mean absolute error, the 90 % interval of a Laplace error. Until there is
evidence the provider stands alone; beyond its horizon, the own forecast does. Only what was issued
before an observation is scored by it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from router.core.learned import MOST_LESSONS, SkillLearned
from router.model import Forecast, Intensity, Kind, require_same_signal
from router.units import HOUR_S

# A slot that ends `lead` hours after the hour of issue; each stands for the leads up to it.
LEADS_H: Final = (1, 3, 6, 12, 24, 48, 96)
# Of 1, 2 and 4 the best, or level with it, at every lead on three grids (published day-ahead
# forecasts of DACF, hourly origins, three months of 2021). Mean absolute percentage error with 4 at
# 1 / 3 / 6 / 12 / 18 h, and the publisher's:
#   CISO 3.1 / 5.5 / 6.9 / 8.9 / 10.4, 6.7 / 6.7 / 7.2 / 8.5 / 10.0
#   ERCO 1.6 / 3.7 / 5.0 / 4.4 / 3.2, 5.0 / 5.3 / 5.4 / 4.4 / 3.2
#   DE   4.2 / 7.0 / 9.0 / 9.9 / 7.8, 9.1 / 9.0 / 9.5 / 9.7 / 7.6
SHARPNESS: Final = 4.0
# Errors seen before the own forecast has a say: a day, so that every hour of it was met once.
EVIDENCE: Final = 24
# Errors remembered: a week, against weather that lasts for days.
MEMORY: Final = 168
# What was said of an hour that nobody reports is forgotten after this.
_GIVE_UP_S: Final = 48 * HOUR_S
# Hours that were met, which are told one by one: of each lead the newest.
MET_HOURS: Final = 24
# Of what was learned elsewhere: no grid emits that much.
_MOST_G: Final = 1e5

Slots = Sequence[Intensity | None]


class _Said(NamedTuple):
    """What was forecast for one hour at one lead, g/kWh."""

    published: float
    own: float
    mixed: float


class MetHour(NamedTuple):
    """An hour that was forecast at some lead and then observed; ``start``: unix s, the rest g/kWh.
    ``used``: what decisions went by."""

    start: float
    published: float
    own: float
    used: float
    observed: float


@dataclass(slots=True)
class Skill:
    """Mean absolute errors at one lead of one grid zone, g/kWh; ``seen``: how many were met."""

    seen: int = 0
    published_g: float = 0.0
    own_g: float = 0.0
    mixed_g: float = 0.0

    def score(self, said: _Said, g_per_kwh: float) -> None:
        """One more hour was observed."""
        self.seen += 1
        part = 1.0 / min(self.seen, MEMORY)
        self.published_g += part * (abs(said.published - g_per_kwh) - self.published_g)
        self.own_g += part * (abs(said.own - g_per_kwh) - self.own_g)
        self.mixed_g += part * (abs(said.mixed - g_per_kwh) - self.mixed_g)

    @property
    def weight(self) -> float:
        """The provider's weight; 1 without evidence."""
        published, own = self.published_g**SHARPNESS, self.own_g**SHARPNESS
        total = published + own
        return own / total if self.seen >= EVIDENCE and total > 0.0 else 1.0


@dataclass(slots=True)
class _Zone:
    issued_at: float = -math.inf
    skill: tuple[Skill, ...] = field(default_factory=lambda: tuple(Skill() for _ in LEADS_H))
    # (start of the hour, place in LEADS_H) -> what was said; at most sum(LEADS_H) entries.
    said: dict[tuple[float, int], _Said] = field(default_factory=dict)
    met: tuple[deque[MetHour], ...] = field(
        default_factory=lambda: tuple(deque[MetHour](maxlen=MET_HOURS) for _ in LEADS_H)
    )


class Combiner:
    """Remembers what was forecast, scores it, and weighs. Pure; bounded per grid zone."""

    def __init__(self) -> None:
        self._zones: dict[str, _Zone] = {}

    def learned(self, signal: str) -> tuple[SkillLearned, ...]:
        """The errors met so far, to be kept. ``signal``: of what was forecast."""
        return tuple(
            SkillLearned(
                signal,
                name,
                tuple((s.seen, s.published_g, s.own_g, s.mixed_g) for s in zone.skill),
            )
            for name, zone in self._zones.items()
            if any(skill.seen for skill in zone.skill)
        )

    def restore(self, learned: Iterable[SkillLearned]) -> None:
        """Go on from errors that were met before, where more were than here."""
        for one in learned:
            zone = self._zones.setdefault(one.grid_zone, _Zone())
            if sum(skill.seen for skill in zone.skill) < sum(errors[0] for errors in one.errors):
                zone.skill = tuple(Skill(*errors) for errors in one.errors)

    def due(self, grid_zone: str, start: float) -> bool:
        """Whether nothing was noted yet in the hour that starts at ``start``."""
        zone = self._zones.get(grid_zone)
        return zone is None or start > zone.issued_at

    def issue(
        self, grid_zone: str, published: Slots, own: Slots, start: float, now: float
    ) -> None:  # fmt: skip
        """Note what both say at ``now`` of the hours from ``start`` on, once an hour.

        Raises MixedBasisError when they differ in signal.
        """
        if not self.due(grid_zone, start):
            return
        zone = self._zones.setdefault(grid_zone, _Zone())
        zone.issued_at = start
        mixed = self.combine(grid_zone, published, own, now)
        for place, lead_h in enumerate(LEADS_H):
            ahead = lead_h - 1
            theirs, ours, both = _at(published, ahead), _at(own, ahead), _at(mixed, ahead)
            if theirs is not None and ours is not None and both is not None:
                said = _Said(theirs.g_per_kwh, ours.g_per_kwh, both.g_per_kwh)
                zone.said[start + ahead * HOUR_S, place] = said

    def awaiting(self, grid_zone: str, now: float) -> list[float]:
        """Starts of the hours that ended by ``now`` and were forecast but not yet scored."""
        zone = self._zones.get(grid_zone)
        if zone is None:
            return []
        for hour, place in [key for key in zone.said if key[0] < now - _GIVE_UP_S]:
            del zone.said[hour, place]
        return sorted({hour for hour, _ in zone.said if hour + HOUR_S <= now})

    def forget_after(self, now: float) -> None:
        """Drop what was noted by a clock that was ahead."""
        for zone in self._zones.values():
            if zone.issued_at > now:
                zone.issued_at = -math.inf
                zone.said.clear()

    def score(self, grid_zone: str, hour: float, g_per_kwh: float) -> None:
        """The hour that starts at ``hour`` was observed."""
        zone = self._zones.get(grid_zone)
        if zone is None:
            return
        for place, skill in enumerate(zone.skill):
            said = zone.said.pop((hour, place), None)
            if said is not None:
                skill.score(said, g_per_kwh)
                zone.met[place].append(MetHour(hour, *said, g_per_kwh))

    def met(self, grid_zone: str) -> dict[int, tuple[MetHour, ...]]:
        """By lead, h: the newest hours that were met since the process began, oldest first."""
        zone = self._zones.get(grid_zone, _Zone())
        return {lead_h: tuple(hours) for lead_h, hours in zip(LEADS_H, zone.met, strict=True)}

    def skill(self, grid_zone: str, lead_h: int) -> Skill:
        """Errors at the lead band of ``lead_h`` >= 1 hours."""
        zone = self._zones.get(grid_zone)
        return Skill() if zone is None else zone.skill[_band(lead_h - 1)]

    def combine(
        self, grid_zone: str, published: Slots, own: Slots, now: float
    ) -> list[Intensity | None]:
        """Hourly slots from the current hour on; what is stale at ``now`` does not count.

        As long as the longer of the two. Raises MixedBasisError when they differ in signal.
        """
        zone = self._zones.get(grid_zone)
        found: list[Intensity | None] = []
        for ahead in range(max(len(published), len(own))):
            theirs, ours = _at(published, ahead), _at(own, ahead)
            if theirs is None or ours is None:
                found.append(ours if theirs is None else theirs)
                continue
            require_same_signal(theirs, ours)
            skill = Skill() if zone is None else zone.skill[_band(ahead)]
            known = skill.seen >= EVIDENCE and ours.expires_at > now
            found.append(_mix(theirs, ours, skill) if known else theirs)
        return found


def _mix(theirs: Intensity, ours: Intensity, skill: Skill) -> Intensity:
    weight = skill.weight
    value = weight * theirs.g_per_kwh + (1.0 - weight) * ours.g_per_kwh
    half = math.log(10.0) * skill.mixed_g
    return Intensity(
        g_per_kwh=value,
        low_g_per_kwh=max(0.0, value - half),
        high_g_per_kwh=value + half,
        signal=theirs.signal,
        kind=Kind.FORECAST,
        source=f"{theirs.source}+own ({weight:.1f}/{1.0 - weight:.1f})",
        observed_at=min(theirs.observed_at, ours.observed_at),
        expires_at=min(theirs.expires_at, ours.expires_at),
    )


def own_slots(forecast: Forecast | None, start: float) -> Sequence[Intensity]:
    """An hourly forecast as slots from ``start``; empty when it starts elsewhere."""
    return forecast.slots if forecast is not None and forecast.start == start else ()


def _band(ahead: int) -> int:
    return min(bisect_left(LEADS_H, ahead + 1), len(LEADS_H) - 1)


def restorable_skills(
    learned: Iterable[SkillLearned], signal: str, grid_zones: Iterable[str]
) -> tuple[SkillLearned, ...]:
    """Of what was learned before or elsewhere, what can be, of those ``grid_zones``."""
    zones = frozenset(grid_zones)
    return tuple(
        one
        for one in learned
        if one.signal == signal
        and one.grid_zone in zones
        and len(one.errors) == len(LEADS_H)
        and all(
            0 <= errors[0] <= MOST_LESSONS and all(0.0 <= grams <= _MOST_G for grams in errors[1:])
            for errors in one.errors
        )
    )


def _at(slots: Slots, ahead: int) -> Intensity | None:
    return slots[ahead] if 0 <= ahead < len(slots) else None
