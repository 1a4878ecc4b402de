"""Where the figures of a view come from, in words an operator can follow."""

from __future__ import annotations

from typing import NamedTuple

from router.carbon.chain.attempt import SourceAttempt
from router.model import Forecast, Kind


class Served(NamedTuple):
    """Consecutive hours of a view that one origin answers for.

    ``start``: unix seconds of the first. ``age_s``: how long ago it was known; ``stale``: for
    longer than its source takes to know better.
    """

    start: float
    hours: int
    source: str
    kind: Kind
    age_s: float
    stale: bool


class ZoneProvenance(NamedTuple):
    """Where one grid zone's figures come from, and who was asked on the way."""

    grid_zone: str
    served: tuple[Served, ...]
    attempts: tuple[SourceAttempt, ...]


def served(view: Forecast | None, now: float) -> tuple[Served, ...]:
    """The origins of a view's slots, consecutive equal ones as one; empty for no view."""
    found: list[Served] = []
    for ahead, slot in enumerate(view.slots if view else ()):
        origin = (slot.source, slot.kind, slot.age_s(now), slot.expires_at <= now)
        if found and found[-1][2:] == origin:
            found[-1] = found[-1]._replace(hours=found[-1].hours + 1)
        elif view is not None:
            found.append(Served(view.start + ahead * view.step_s, 1, *origin))
    return tuple(found)
