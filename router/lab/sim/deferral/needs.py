"""What the plans of a scenario's waiting work need of replicas, by when each was made."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from router.core.deferral.needs import WaitingNeeds, place_needs
from router.core.deferral.planning import DeferralPlan
from router.core.deferral.work import WaitingWork

Floats = NDArray[np.float64]


class PlannedNeeds:
    """Filled while a scenario is planned, in order of time; then asked by whoever scales its fleet:
    ``needs(now)``, unix s, of the latest plan by then, and of what should be under way."""

    def __init__(self) -> None:
        self._made_at: list[float] = []
        self._needs: list[WaitingNeeds] = []
        # By model: when its jobs begin and when they should end, unix s, each rising.
        self._runs: dict[str, tuple[Floats, Floats]] = {}

    def note(self, now: float, plan: DeferralPlan) -> None:
        """A plan that was made ``now``, unix s."""
        self._made_at.append(now)
        self._needs.append(WaitingNeeds(place_needs(plan.planned)))

    def begin(self, work: WaitingWork, released: Floats) -> None:
        """``released`` (jobs,): when each of ``work`` begins, unix s."""
        for code, model in enumerate(work.models):
            mine = work.model == code
            begins = released[mine]
            self._runs[model] = np.sort(begins), np.sort(begins + work.run_s[mine])

    def __call__(self, now: float) -> WaitingNeeds:
        at = bisect_right(self._made_at, now) - 1
        if at < 0:
            return WaitingNeeds()
        under_way = {
            model: int(np.searchsorted(begins, now, "right") - np.searchsorted(ends, now, "right"))
            for model, (begins, ends) in self._runs.items()
        }
        return self._needs[at]._replace(under_way=under_way)
