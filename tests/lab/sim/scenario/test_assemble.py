import math

from router.lab.sim.scenario.assemble import BASELINES, baseline_policies
from router.lab.sim.scenario.loading import load
from tests.lab.sim.scenarios import DELETE, problems, scenario


def test_replicas_by_region(tmp_path):
    changes = {"endpoints/0/replicas": {"a": 2, "b": 1}, "endpoints/0/region": DELETE}
    found = load(scenario(tmp_path, changes)).simulation
    assert [(e.name, e.region) for e in found.fleet.endpoints] == [
        ("r-a-0", "a"), ("r-a-1", "a"), ("r-b-0", "b"), ("lone", "b"),
    ]  # fmt: skip


def test_policies_may_be_given_instead_of_the_files(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "own.yaml").write_text("weights: {per_gco2e: 1}\nbudget: {ttft_ms: 3000}\n")
    file = scenario(tmp_path)
    monkeypatch.chdir(elsewhere)
    found = load(file, ["own.yaml", "round-robin"]).simulation
    assert [p.name for p in found.policies] == ["own", "round-robin"]
    assert "--policy[0]" in problems(file, ["nothing.yaml"])
    # The baselines run under the same latency budget, and none of them twice.
    baselines = baseline_policies(found.policies, found.carbon_signal)
    assert {p.name for p in baselines} == set(BASELINES) - {"round-robin"}
    assert {p.budget for p in baselines} == {found.policies[0].budget}


def test_a_table_of_round_trip_times_may_lack_its_diagonal(tmp_path):
    (tmp_path / "rtt.csv").write_text("origin,a,b\na,,40\nb,41,\nc,7,\n")
    base = {
        "origins": DELETE,
        "workload/generate/origins": {"a": {}, "b": {}},
        "rtt": {"file": "rtt.csv", "origins": ["a", "b"]},
    }
    text = problems(scenario(tmp_path, base))["origins.a.rtt_ms"]
    assert text == (
        "no round-trip time to a; add it in ms; or let rtt.origins name the rows of rtt.csv that "
        "are wanted, and rtt.within_region_ms stand for a blank diagonal"
    )
    found = load(scenario(tmp_path, {**base, "rtt/within_region_ms": 1.5})).simulation
    assert found.fleet.rtt_ms == {"a": {"a": 1.5, "b": 40.0}, "b": {"a": 41.0, "b": 1.5}}
    near = {**base, "rtt/within_region_ms": 1.5, "rtt/reach_ms": 40}
    found = load(scenario(tmp_path, near)).simulation
    assert found.fleet.rtt_ms == {"a": {"a": 1.5, "b": 40.0}, "b": {"a": math.inf, "b": 1.5}}
    nobody = {**near, "rtt/reach_ms": 1}
    text = "1 ms reach no region from a; the nearest is 1.5"
    assert problems(scenario(tmp_path, nobody))["rtt.reach_ms"] == text
    named = {**base, "rtt/within_region_ms": 1.5, "rtt/origins": ["a", "b", "c"]}
    assert "no round-trip time to b" in problems(scenario(tmp_path, named))["origins.c.rtt_ms"]
