"""No run of the compiled engine, under any policy, emits less than the bound."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.sim.bound.run import bound
from router.lab.sim.engine.run import simulate
from tests.lab.sim.bound.cases import cases

pytest.importorskip("scipy")


@given(cases(warm=True), st.sampled_from([3600.0, 20.0]), st.just(0.0) | st.floats(0.0, 50.0))
@settings(max_examples=60, deadline=None)
def test_no_run_of_the_engine_is_below_it(case, slot_s, warm_up_s):
    of, requests, chosen = case
    of = replace(of, warm_up_s=warm_up_s)
    requests = [request for request in requests if request.at_s >= warm_up_s]
    run = simulate(of, chosen)
    if not requests or run.completed < len(requests) or run.met < 1.0:
        return
    least = bound(of, chosen, slot_s, whole=True)
    slack = 1.0 + 1e-6
    assert least.requests == len(requests) and not least.impossible
    assert least.busy_g <= least.whole_busy_g * slack
    assert least.whole_busy_g <= run.fleet.busy_g * slack
    assert least.whole_busy_g <= math.fsum(run.by_region.gco2e) * slack
    if of.autoscaling is None:
        assert least.fleet_g <= least.whole_fleet_g * slack
        assert least.whole_fleet_g <= run.fleet.total_g * slack
    else:
        assert least.whole_busy_g <= run.fleet.total_g * slack
