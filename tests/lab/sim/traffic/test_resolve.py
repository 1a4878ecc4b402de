import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.lab.replay.replica import Physics
from router.lab.sim.scenario.loading import load
from router.lab.sim.traffic.generate import RequestKind
from router.lab.sim.traffic.resolve import capacity_rps, residence_s
from router.lab.sim.traffic.tables import constant_lengths
from router.model import Budget
from tests import factories as f
from tests.lab.sim.scenarios import DELETE, scenario


def test_load_is_a_share_of_what_the_fleet_can_serve(tmp_path):
    changes = {
        "workload/generate/mean_rps": DELETE, "workload/generate/load": 0.5,
        "workload/generate/day": "flat", "workload/generate/burstiness": {"cv": 0.0},
        "workload/generate/week": [1] * 7, "duration": "30m",
        "workload/generate/classes": [{"model": "m", "input_tokens": 1000, "output_tokens": 100}],
    }  # fmt: skip
    found = load(scenario(tmp_path, changes)).simulation
    requests = sum(len(chunk) for chunk in found.workload.chunks())
    residence_s = 0.0215 + 0.0844 + 100 * (0.01747 + 0.0001307 * 128)
    assert requests == pytest.approx(0.5 * 3 * 128 / residence_s * 1800, rel=0.01)


def kind(model="m", share=1.0, n_in=100, n_out=50):
    return RequestKind(
        model, share, constant_lengths(n_in), constant_lengths(n_out), Budget(), (("", 1.0),),
        frozenset(), math.inf,
    )  # fmt: skip


def test_a_request_holds_its_slot_for_its_prompt_and_its_tokens():
    tokens = Physics.of(f.token_profile())
    assert residence_s(tokens, 100.0, 50.0, 8) == pytest.approx(0.010 + 0.005 + 50 * 0.0068)
    task = Physics.of(f.task_profile())
    assert residence_s(task, 100.0, 50.0, 4) == pytest.approx(0.8 + 3 * 0.1)


@given(st.integers(1, 6), st.integers(1, 300), st.integers(1, 4))
def test_capacity_is_that_of_full_replicas(count, max_in_flight, times):
    """Of the smaller of what a gateway lets in and what a replica runs; as many times as many."""
    profile = f.token_profile(max_batch=64)

    def capacity(replicas):
        served = f.served(profile, "m")
        made = f.replicas({"west": replicas}, served, max_in_flight=max_in_flight)
        return capacity_rps(f.fleet(*made), (kind(),))

    batch = min(64, max_in_flight)
    full = batch / residence_s(Physics.of(profile), 100.0, 50.0, batch)
    assert capacity(count) == pytest.approx(count * full)
    assert capacity(times * count) == pytest.approx(times * capacity(count))


def test_the_model_that_fills_first_decides():
    profile = f.token_profile()
    one, three = f.served(profile, "few"), f.served(profile, "many")
    fleet = f.fleet(f.endpoint("a", "west", one), *f.replicas({"east": 3}, three))
    alone = capacity_rps(fleet, (kind("few"),))
    assert capacity_rps(fleet, (kind("few", 1.0), kind("many", 3.0))) == pytest.approx(4 * alone)
    assert capacity_rps(fleet, (kind("few", 1.0), kind("many", 1.0))) == pytest.approx(2 * alone)
    assert capacity_rps(fleet, (kind("few", 1.0), kind("many", 9.0))) < 4 * alone
