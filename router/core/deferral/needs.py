"""The places that a plan of waiting work needs: of each model and region, from when to when."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from router.core.deferral.reasons import NOWHERE, PlannedWork


class PlaceNeed(NamedTuple):
    """``places``: requests at once, on the mean of ``start`` .. ``end`` (unix s)."""

    start: float
    end: float
    places: float


def place_needs(planned: PlannedWork) -> dict[tuple[str, str], tuple[PlaceNeed, ...]]:
    """By model and region, rising in time; slots without work are left out. What has no place in
    the plan, being urgent or without room, needs none that is known."""
    rows = np.flatnonzero((planned.slot != NOWHERE) & (planned.region != NOWHERE))
    work, slots, regions = planned.work, planned.slots, planned.outlook.regions
    shape = len(work.models), len(regions), len(slots)
    seconds = np.zeros(shape)
    at = work.model[rows], planned.region[rows], planned.slot[rows]
    np.add.at(seconds, at, work.run_s[rows] * work.places[rows])
    places = seconds / slots.lengths_s
    found: dict[tuple[str, str], tuple[PlaceNeed, ...]] = {}
    for m, r in zip(*np.nonzero(seconds.any(axis=2)), strict=True):
        found[work.models[m], regions[r]] = tuple(
            PlaceNeed(float(slots.starts[s]), float(slots.ends[s]), float(places[m, r, s]))
            for s in np.flatnonzero(places[m, r])
        )
    return found


class WaitingNeeds(NamedTuple):
    """Of all deferred work. ``ahead``: of `place_needs`; ``under_way``: requests by model;
    ``share``: of an endpoint's places that it may have."""

    ahead: Mapping[tuple[str, str], tuple[PlaceNeed, ...]] = MappingProxyType({})
    under_way: Mapping[str, int] = MappingProxyType({})
    share: float = 1.0

    def places(self, model: str, region: str, start: float, end: float) -> float:
        """The most that are needed at any moment of ``start`` .. ``end``, unix s."""
        needs = self.ahead.get((model, region), ())
        return max(
            (one.places for one in needs if one.start < end and one.end > start), default=0.0
        )
