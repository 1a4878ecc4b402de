"""Why a job is released or waits, in figures and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.deferral.outlook import DeferralOutlook
from router.core.deferral.slots import PlanSlots
from router.core.deferral.work import WaitingWork
from router.units import grams

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]
Flags = NDArray[np.bool_]

NOWHERE = -1


class WaitReason(StrEnum):
    """Why a job is released, or is not."""

    RELEASED_GREENEST = "released_greenest"
    RELEASED_URGENT = "released_urgent"
    WAITS_GREENER = "waits_greener"
    WAITS_ROOM = "waits_room"
    NO_ROOM = "no_room"
    EXPIRED = "expired"


class WaitExplanation(NamedTuple):
    """Forecasts, all of them. ``grams_now``: expected facility g if it ran now in the cleanest
    region that it may run in and that has room, or in the cleanest; ``grams_planned``: where it is
    planned, from ``planned_at`` (unix s) on, in ``region``. NaN and "" where that is unknown.
    ``latest_start``: unix s, when it is released whatever the grids do.
    """

    reason: WaitReason
    grams_now: float
    grams_planned: float
    planned_at: float
    region: str
    latest_start: float

    @property
    def text(self) -> str:
        """One line for people; hours from now are left to whoever knows the time."""
        gain = f"a request: {self.grams_planned:.3g} g expected there, {self.grams_now:.3g} g now"
        return {
            WaitReason.RELEASED_GREENEST: f"released: no better hour is expected in time ({gain})",
            WaitReason.RELEASED_URGENT: "released: no time left to wait",
            WaitReason.WAITS_GREENER: f"waits for a greener hour in {self.region} ({gain})",
            WaitReason.WAITS_ROOM: f"waits for room in {self.region} ({gain})",
            WaitReason.NO_ROOM: "no room is expected before its deadline; released at the latest",
            WaitReason.EXPIRED: "its deadline has passed",
        }[self.reason]


@dataclass(frozen=True, slots=True, eq=False)
class PlannedWork:
    """Where a plan puts each job, and by what. ``slot``, ``region``: (jobs,), `NOWHERE` where it
    has no place; ``g_per_kwh``: (jobs,), the price of that place in facility g for each kWh on a
    replica that is awake. ``latest``: (jobs,) unix s. ``model_of``: the outlook's code of each
    model of the work, `NOWHERE` where it knows none.
    """

    work: WaitingWork
    outlook: DeferralOutlook
    slots: PlanSlots
    latest: Floats
    urgent: Flags
    expired: Flags
    slot: Codes
    region: Codes
    g_per_kwh: Floats
    model_of: tuple[int, ...]

    @property
    def released(self) -> Flags:
        """Shape (jobs,)."""
        first: Flags = self.slot == 0
        return self.urgent | first

    def explain(self, row: int) -> WaitExplanation:
        """Of one job."""
        now_g_per_kwh = self._now(row)
        joules = float(self.work.joules[row])
        slot, region = int(self.slot[row]), int(self.region[row])
        placed = slot != NOWHERE
        planned = grams(joules, float(self.g_per_kwh[row])) if placed else math.nan
        at_once = grams(joules, now_g_per_kwh)
        return WaitExplanation(
            self._reason(row, planned < at_once),
            at_once,
            planned,
            float(self.slots.starts[slot]) if placed else math.nan,
            self.outlook.regions[region] if placed else "",
            float(self.latest[row]),
        )

    def _reason(self, row: int, gains: bool) -> WaitReason:
        if self.expired[row]:
            return WaitReason.EXPIRED
        if self.urgent[row]:
            return WaitReason.RELEASED_URGENT
        if self.slot[row] == NOWHERE:
            return WaitReason.NO_ROOM
        if self.slot[row] == 0:
            return WaitReason.RELEASED_GREENEST
        return WaitReason.WAITS_GREENER if gains else WaitReason.WAITS_ROOM

    def _now(self, row: int) -> float:
        """Expected facility g for each kWh if it ran at once; NaN where it may run nowhere."""
        outlook, model = self.outlook, self.model_of[self.work.model[row]]
        allowed = self.work.region_sets[self.work.region_set[row]]
        mine = np.array([not allowed or name in allowed for name in outlook.regions])
        mean = outlook.mean_g_per_kwh[:, 0]
        if model == NOWHERE or not mine.any():
            return math.nan
        awake = mine & (outlook.awake_places[model, :, 0] >= 1.0)
        asleep = mine & (outlook.asleep_places[model, :, 0] >= 1.0)
        found = [*mean[awake], *(mean * outlook.woken_ratio[model])[asleep]]
        return float(min(found or mean[mine]))
