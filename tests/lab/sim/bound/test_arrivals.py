import math

import numpy as np
import pytest

from router.lab.sim.bound.arrivals import ArrivalsBySlot
from router.lab.sim.bound.demand import LATER, REQUESTS, Grouping
from router.lab.sim.bound.presence import Presence
from router.lab.sim.bound.run import slot_edges
from router.lab.sim.simulation import Autoscaling
from tests.factories import policy
from tests.lab.sim.bound.cases import ask, fleet, simulation

pytest.importorskip("scipy")

POLICY = policy()
FLAT = {"Z-clean": [100.0, 100.0]}


def slots_of(requests, *, whole=True, slot_s=60.0, **changes):
    the_fleet = fleet({"clean": 1})
    of = simulation(requests, the_fleet, FLAT, POLICY, duration_s=600.0, **changes)
    grouping = Grouping("m", the_fleet, of.workload.names, POLICY, 0.01)
    presences = [Presence(grouping, of)] if whole else []
    arrivals = ArrivalsBySlot(of, [grouping], presences, slot_edges(of.start, 600.0, slot_s))
    return list(arrivals.slots()), arrivals


def test_what_arrives_is_counted_where_it_arrives_once():
    requests = [ask(float(at), n_out=1 + at) for at in range(0, 500, 7)]
    slots, arrivals = slots_of(requests, warm_up_s=100.0)
    counted = [one for one in requests if one.at_s >= 100.0]
    assert arrivals.requests == len(counted)
    total = sum(slot.amounts[0].early + slot.amounts[0].late for slot in slots).sum(axis=0)
    assert total[REQUESTS] == len(counted)
    assert total[LATER] == sum(one.output_tokens - 1 for one in counted)
    assert [slot.slot for slot in slots] == sorted({slot.slot for slot in slots})
    stays = [one for slot in slots for one in slot.amounts[0].stays]
    assert sum(len(one.from_s) for one in stays) == len(counted)
    assert not any(slot.amounts[0].stays for slot in slots_of(requests, whole=False)[0])


def test_who_may_stay_beyond_the_slot_is_late_and_known_to_later_slots():
    """The clock stands at a quarter past the hour: slots end with whole minutes."""
    slots, _ = slots_of([ask(10.0), ask(59.9), ask(70.0)])
    first, second = (slot.amounts[0] for slot in slots)
    assert (first.early[:, REQUESTS].sum(), first.late[:, REQUESTS].sum()) == (1, 1)
    assert first.late_from_s == 59.9 and first.clear_s == 0.0
    assert second.clear_s == first.last_s > 60.0
    assert second.late_from_s == math.inf


def test_who_does_not_count_may_be_there_all_the_same():
    (slot,), _ = slots_of([ask(10.0), ask(30.0)], warm_up_s=20.0)
    assert 10.0 < slot.amounts[0].clear_s < 30.0
    (woken,), _ = slots_of(
        [ask(10.0), ask(30.0)], warm_up_s=20.0, autoscaling=Autoscaling(60.0, 5.0, 1.0)
    )
    assert np.isclose(woken.amounts[0].clear_s, slot.amounts[0].clear_s + 5.0)
