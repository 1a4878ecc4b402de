"""Work that waits as the console shows it: where and when it is planned, what is at risk, and what
waiting is expected to save against running at once. All of it is forecast."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from router.console.scene import Scope
from router.core.deferral.reasons import WaitReason
from router.deferral.planned import DeferredOutlook, PlannedJobs
from router.telemetry.view import Json
from router.units import HOUR_S
from router.unknown_figures import or_none

# Soonest first.
_MOST_NEXT: Final = 8
_MOST_AT_RISK: Final = 20
# Cells of regions by hours, the soonest first.
_MOST_CELLS: Final = 600
_RISKS: Final = (WaitReason.EXPIRED, WaitReason.NO_ROOM, WaitReason.RELEASED_URGENT)


def deferred_document(outlook: DeferredOutlook | None, scope: Scope) -> dict[str, Json]:
    """What of it the scope may see; of nothing that waits, zeros."""
    if outlook is None:
        return {"planned_at": None, "waiting": 0, "under_way": 0, "batches": 0, "cells": [],
                "next": [], "at_risk": [], "saving": None}  # fmt: skip
    jobs = [one for one in outlook.jobs if scope.is_all or one.owner == scope.owner]
    return {
        "planned_at": outlook.planned_at,
        "waiting": sum(one.jobs for one in jobs),
        "under_way": sum(
            count for owner, count in outlook.under_way if scope.is_all or owner == scope.owner
        ),
        "batches": len({one.batch_id for one in jobs}),
        "cells": _cells(jobs),
        "next": [_row(one) for one in _soonest(jobs)[:_MOST_NEXT]],
        "at_risk": [_row(one) for one in _at_risk(jobs)[:_MOST_AT_RISK]],
        "saving": _saving(jobs),
    }


def _cells(jobs: Iterable[PlannedJobs]) -> Json:
    """[start of the hour, region, jobs] of what has a place."""
    cells: dict[tuple[float, str], int] = {}
    for one in jobs:
        if one.region:
            hour = math.floor(one.planned_at / HOUR_S) * HOUR_S
            cells[hour, one.region] = cells.get((hour, one.region), 0) + one.jobs
    return [[hour, region, count] for (hour, region), count in sorted(cells.items())[:_MOST_CELLS]]


def _soonest(jobs: Iterable[PlannedJobs]) -> list[PlannedJobs]:
    placed = [one for one in jobs if one.region]
    return sorted(placed, key=lambda one: (one.planned_at, one.deadline, one.batch_id))


def _at_risk(jobs: Iterable[PlannedJobs]) -> list[PlannedJobs]:
    """Without a place before their deadline, or with no time left to wait."""
    return sorted((one for one in jobs if one.reason in _RISKS), key=lambda one: one.deadline)


def _row(one: PlannedJobs) -> Json:
    return {
        "batch": one.batch_id,
        "model": one.model,
        "tenant": one.owner,
        "jobs": one.jobs,
        "reason": None if one.reason is None else one.reason.value,
        "region": one.region,
        "planned_at": or_none(one.planned_at),
        "latest_start": or_none(one.latest_start),
        "deadline": one.deadline,
        "now_g": or_none(one.grams_now),
        "planned_g": or_none(one.grams_planned),
    }


def _saving(jobs: Sequence[PlannedJobs]) -> Json:
    """Of the jobs of which both are known; None of none."""
    known = [
        one
        for one in jobs
        if math.isfinite(one.grams_now) and math.isfinite(one.grams_planned)
    ]  # fmt: skip
    if not known:
        return None
    return {
        "jobs": sum(one.jobs for one in known),
        "now_g": math.fsum(one.grams_now for one in known),
        "planned_g": math.fsum(one.grams_planned for one in known),
    }
