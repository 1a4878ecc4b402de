import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.lab.replay.physics import Physics
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
    (profile,) = {served.profile for one in found.fleet.endpoints for served in one.models}
    # Of 128 that decode together, each with its prompt and half of its answer cached; and as many
    # prompts are read while one is there.
    tpot_ms = profile.tpot_ms(128, 128 * (1000 + 100 / 2))
    each_s = (100 * tpot_ms + 128 * profile.prompt_ms(1000)) / 1e3
    assert requests == pytest.approx(0.5 * 3 * 128 / each_s * 1800, rel=0.01)


def kind(model="m", share=1.0, n_in=100, n_out=50):
    return RequestKind(
        model, share, constant_lengths(n_in), constant_lengths(n_out), Budget(), (("", 1.0),),
        frozenset(), math.inf,
    )  # fmt: skip


def test_a_request_holds_its_slot_for_its_tokens_and_everybodys_prompts():
    profile = f.token_profile(
        tpot_ms_per_cached_token=1e-3, prefill_ms_per_piece=2.0, prefill_ms_per_token2=1e-4
    )
    iteration_s = 0.006 + 8 * 0.0001 + 8 * (100 + 50 / 2) * 1e-6
    prompt_s = 0.002 + 100 * 0.05e-3 + 100 * 100 / 2 * 1e-7
    found_s = residence_s(Physics.of(profile), 100.0, 50.0, 8)
    assert found_s == pytest.approx(50 * iteration_s + 8 * prompt_s)
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
