import numpy as np
import pytest

from router.core.deferral.slots import SLOT_S, plan_slots
from router.errors import DataError
from tests.core.deferral.made_up import NOW, outlook

HERE = outlook([[1.0, 2.0, 3.0]])


def test_slots_run_from_now_over_full_quarters_to_the_end():
    slots = plan_slots(HERE, NOW + 100.0)
    assert slots.starts[0] == NOW + 100.0
    assert slots.ends[0] == NOW + SLOT_S
    assert (np.diff(slots.ends) == SLOT_S).all()
    assert slots.ends[-1] == HERE.end
    assert slots.steps.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert slots.lengths_s.sum() == pytest.approx(HERE.end - NOW - 100.0)


def test_what_is_left_of_a_quarter_that_is_nearly_over_belongs_to_the_next():
    assert plan_slots(HERE, NOW + SLOT_S - 5.0).ends[0] == NOW + 2 * SLOT_S


def test_the_last_moments_of_an_outlook_are_one_slot():
    slots = plan_slots(HERE, HERE.end - 5.0)
    assert slots.ends.tolist() == [HERE.end]
    assert slots.steps.tolist() == [2]


def test_a_job_may_use_slots_that_end_before_it_has_to_start():
    slots = plan_slots(HERE, NOW)
    at = NOW + np.array([0.0, SLOT_S - 1.0, SLOT_S, 3 * SLOT_S + 1.0, 1e9])
    assert slots.usable(at).tolist() == [0, 0, 1, 3, len(slots)]


@pytest.mark.parametrize("now", [NOW - 1.0, HERE.end])
def test_an_outlook_without_the_present_is_refused(now):
    with pytest.raises(DataError, match="is not in"):
        plan_slots(HERE, now)
