"""Where a plan puts the work that waits: what is told of it, to whoever looks on."""

from __future__ import annotations

from typing import NamedTuple

from router.core.deferral.reasons import WaitReason


class PlannedJobs(NamedTuple):
    """Jobs of one batch and model that are planned alike; all of it is forecast.

    ``reason``: None where nothing is known to plan them by: they are released at once. Then, and
    where there is no place for them, ``region`` is "" and ``planned_at`` (unix s) NaN.
    ``grams_now``: of them all, if they ran at once in the cleanest region that has room;
    ``grams_planned``: where they are planned; NaN where that is not known.
    ``latest_start``: unix s, when they are released whatever the grids do.
    """

    batch_id: str
    model: str
    owner: str
    jobs: int
    reason: WaitReason | None
    region: str
    planned_at: float
    latest_start: float
    deadline: float
    grams_now: float
    grams_planned: float


class DeferredOutlook(NamedTuple):
    """Of all that waited at ``planned_at``, unix s. ``under_way``: (owner, jobs)."""

    planned_at: float
    jobs: tuple[PlannedJobs, ...]
    under_way: tuple[tuple[str, int], ...]
