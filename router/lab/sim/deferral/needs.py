"""What the plans of a scenario's waiting work need of replicas, by when each was made."""

from __future__ import annotations

from bisect import bisect_right

from router.core.deferral.needs import WaitingNeeds, place_needs
from router.core.deferral.planning import DeferralPlan


class PlannedNeeds:
    """Filled while a scenario is planned, in order of time; then asked by whoever scales its fleet:
    ``needs(now)``, unix s, of the latest plan by then."""

    def __init__(self) -> None:
        self._made_at: list[float] = []
        self._needs: list[WaitingNeeds] = []

    def note(self, now: float, plan: DeferralPlan) -> None:
        """A plan that was made ``now``, unix s."""
        self._made_at.append(now)
        self._needs.append(WaitingNeeds(place_needs(plan.planned)))

    def __call__(self, now: float) -> WaitingNeeds:
        at = bisect_right(self._made_at, now) - 1
        return self._needs[at] if at >= 0 else WaitingNeeds()
