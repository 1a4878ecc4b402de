"""The places that a plan needs, by model, region and time."""

import numpy as np
import pytest

from router.core.deferral.needs import WaitingNeeds, place_needs
from router.core.deferral.outlook import DeferralOutlook
from router.core.deferral.planning import plan_deferral
from router.core.deferral.work import WaitingJob, WaitingWork

START = 1_700_000_000.0 // 3600.0 * 3600.0
HOUR = 3600.0


def outlook(rows, awake, asleep):
    """Of one model; ``rows``: g/kWh by region and hour."""
    figures = np.array(rows, float)
    regions, slots = figures.shape
    room = np.ones((1, regions, slots))
    return DeferralOutlook(
        ("llama",), tuple("abc"[:regions]), START, HOUR, np.stack([figures] * 3),
        np.ones(regions), awake * room, asleep * room, (awake + asleep) / 2.0 * room,
        np.full((1, regions), 1.2),
    )  # fmt: skip


def jobs(count, run_s=90.0, model="llama", deadline=START + 4 * HOUR):
    return WaitingWork.of(WaitingJob(START, deadline, model, 10.0, run_s) for _ in range(count))


def test_work_needs_places_where_and_when_it_is_planned():
    # The second hour is greenest; of a quarter a place does ten jobs.
    plan = plan_deferral(jobs(30), outlook([[300, 100, 200, 250]], 0.0, 4.0), START)
    needs = WaitingNeeds(place_needs(plan.planned))
    assert set(needs.ahead) == {("llama", "a")}
    first = needs.ahead["llama", "a"]
    assert first[0].start == START + HOUR
    assert sum(one.places * (one.end - one.start) for one in first) == pytest.approx(30 * 90.0)
    assert needs.places("llama", "a", START, START + HOUR) == 0.0
    assert 0.0 < needs.places("llama", "a", START + HOUR - 5.0, START + HOUR + 5.0) <= 4.0
    assert needs.places("llama", "b", START, START + 4 * HOUR) == 0.0


def test_what_has_no_place_needs_none():
    none = plan_deferral(jobs(3, model="gone"), outlook([[300, 100]], 1.0, 1.0), START)
    assert place_needs(none.planned) == {}
    urgent = plan_deferral(jobs(3, deadline=START + 100.0), outlook([[300, 1]], 1.0, 1.0), START)
    assert place_needs(urgent.planned) == {}
