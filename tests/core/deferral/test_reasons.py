import numpy as np
import pytest

from router.core.deferral.planning import plan_deferral
from router.core.deferral.reasons import WaitReason
from tests.core.deferral.made_up import NOW, job, outlook, work


def why(jobs, seen, row=0):
    return plan_deferral(work(*jobs), seen, NOW).explain(row)


def test_grams_now_are_those_of_the_cleanest_region_with_room():
    room = np.zeros((1, 2, 3))
    room[0, 1] = 5.0
    seen = outlook([[100.0] * 3, [400.0, 400.0, 200.0]], awake_places=room, least_places=room)
    told = why([job(3)], seen)
    assert told.grams_now == pytest.approx(400.0)
    assert told.grams_planned == pytest.approx(200.0)
    assert told.region == "r1"
    gain = "(a request: 200 g expected there, 400 g now)"
    assert told.text.startswith(f"waits for a greener hour in r1 {gain}")


def test_woken_replicas_count_at_their_ratio_and_where_no_room_is_the_cleanest_stands():
    asleep = outlook([[100.0] * 3], awake=0.0, asleep=5.0, ratio=2.0)
    assert why([job(3)], asleep).grams_now == pytest.approx(200.0)
    none = why([job(3)], outlook([[100.0] * 3], awake=0.0))
    assert none.grams_now == pytest.approx(100.0)
    assert np.isnan(none.grams_planned)
    assert none.text.startswith("no room is expected")


def test_who_waits_without_a_gain_waits_for_room():
    seen = outlook([[100.0] * 3], awake=1.0)
    told = why([job(2.5, run_s=800.0), job(2.6, run_s=800.0), job(2.7, run_s=800.0)], seen, 2)
    assert told.reason is WaitReason.WAITS_ROOM
    assert told.text.startswith("waits for room in r0")


@pytest.mark.parametrize(
    ("hours", "reason", "text"),
    [
        (-1.0, WaitReason.EXPIRED, "its deadline has passed"),
        (0.1, WaitReason.RELEASED_URGENT, "released: no time left to wait"),
        (3.0, WaitReason.RELEASED_GREENEST, "released: no better hour is expected in time"),
    ],
)
def test_every_reason_has_words(hours, reason, text):
    told = why([job(hours)], outlook([[100.0] * 3]))
    assert told.reason is reason
    assert told.text.startswith(text)
