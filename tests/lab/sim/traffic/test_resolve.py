import pytest

from router.lab.sim.scenario.loading import load
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
