"""What waits: who is told of which of it, and that its sums are those of the plan."""

import math

from router.console.deferred import deferred_document
from router.console.scene import EVERYTHING, Scope
from router.core.deferral.reasons import WaitReason
from router.deferral.planned import DeferredOutlook, PlannedJobs

HOUR_S = 3600.0
NOW = 1_700_000_000.0 // HOUR_S * HOUR_S + 60.0


def jobs(owner, count, reason, region="", hours=math.nan, now_g=math.nan, planned_g=math.nan):
    planned_at = NOW + hours * HOUR_S
    return PlannedJobs(
        f"batch_{owner}", "m", owner, count, reason, region, planned_at, NOW + 8 * HOUR_S,
        NOW + 9 * HOUR_S, now_g, planned_g,
    )  # fmt: skip


OUTLOOK = DeferredOutlook(
    NOW,
    (
        jobs("acme", 30, WaitReason.WAITS_GREENER, "north", 2.0, 9.0, 4.0),
        jobs("acme", 5, WaitReason.WAITS_GREENER, "north", 2.5, 1.5, 1.0),
        jobs("acme", 2, WaitReason.NO_ROOM, now_g=0.6),
        jobs("rival", 7, WaitReason.RELEASED_GREENEST, "west", 0.0, 2.0, 2.0),
        jobs("rival", 1, None),
    ),
    (("acme", 3), ("rival", 4)),
)


def test_an_operator_is_told_of_all():
    told = deferred_document(OUTLOOK, EVERYTHING)
    assert (told["waiting"], told["under_way"], told["batches"]) == (45, 7, 2)
    start = NOW - 60.0
    assert told["cells"] == [
        [start, "west", 7], [start + 2 * HOUR_S, "north", 35],
    ]  # fmt: skip
    assert [one["jobs"] for one in told["next"]] == [7, 30, 5]
    assert [(one["jobs"], one["reason"]) for one in told["at_risk"]] == [(2, "no_room")]
    assert told["saving"] == {"jobs": 42, "now_g": 12.5, "planned_g": 7.0}


def test_a_tenant_is_told_of_its_own():
    told = deferred_document(OUTLOOK, Scope("acme"))
    assert (told["waiting"], told["under_way"], told["batches"]) == (37, 3, 1)
    assert "rival" not in str(told) and "west" not in str(told)
    nobody = deferred_document(OUTLOOK, Scope("nobody"))
    assert (nobody["waiting"], nobody["saving"]) == (0, None)


def test_of_nothing_that_waits_nothing_is_said():
    told = deferred_document(None, EVERYTHING)
    assert told["planned_at"] is told["saving"] is None and told["waiting"] == 0
