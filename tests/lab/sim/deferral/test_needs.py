"""What plans of waiting work need, as time goes by."""

import numpy as np
import pytest

from router.core.deferral.needs import WaitingNeeds
from router.core.deferral.planning import plan_deferral
from router.lab.sim.deferral.needs import PlannedNeeds
from router.lab.sim.deferral.releases import releases
from router.units import HOUR_S
from tests.core.deferral.made_up import NOW, job, outlook, work

GREENER_LATER = [[300.0, 300.0, 100.0, 300.0, 300.0, 300.0]]
# Eight jobs of five minutes: 40 min of work in a quarter of an hour's places.
EIGHT = work(*(job(5.0, run_s=300.0) for _ in range(8)))


def test_the_latest_plan_by_then_counts():
    needs = PlannedNeeds()
    assert needs(NOW) == WaitingNeeds()
    needs.note(NOW + 60.0, plan_deferral(EIGHT, outlook(np.array(GREENER_LATER)), NOW))
    assert needs(NOW) == WaitingNeeds()
    later = NOW + 2 * HOUR_S
    found = [needs(at).places(*site, later, later + HOUR_S)
             for at in (NOW + 60.0, NOW + 9000.0) for site in needs(at).ahead]  # fmt: skip
    # On the mean of a quarter of an hour.
    assert found == pytest.approx([8 * 300.0 / 900.0] * 2)


def test_what_is_under_way_is_what_has_begun_and_should_not_have_ended():
    needs = PlannedNeeds()
    seen = outlook(np.array(GREENER_LATER), awake=4.0)
    at = releases(EIGHT, lambda now: seen, NOW + HOUR_S, planned=needs.note)
    needs.begin(EIGHT, at)
    (model,) = EIGHT.models
    for now in (NOW - 1.0, float(at[0]), float(at[0]) + 301.0, float(at.max()) + 301.0):
        begun = int(((at <= now) & (at + 300.0 > now)).sum())
        assert needs(now).under_way.get(model, 0) == begun
    assert needs(float(at[0])).under_way[model] > 0
