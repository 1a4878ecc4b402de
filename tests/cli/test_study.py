"""``simulate``, ``bound`` and ``schema`` from the command line."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from router.lab import calibration
from router.lab.replicate.run import READS_NOTHING
from router.lab.sim.bound.run import bound
from router.lab.sim.scenario.loading import load
from router.lab.sim.simulation import Simulation
from router.model import Policy
from tests.cli.command_line import run
from tests.lab.study.studies import short_scenario
from tests.long import LONG


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_scenario(tmp_path_factory.mktemp("scenario"), duration="10m")


def test_simulate_writes_and_prints_a_table(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ("--policy", "balanced", "--policy", "static-greenest", "--no-rows", "--jobs", "1")
    assert run("simulate", str(scenario), "--out", str(out), *arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    for name in (
        "balanced",
        "latency-first",
        "What static-greenest saves",
        "packing",
        "over bound",
        "emulated",
    ):
        assert name in captured.out
    assert str(out / "summary.json") in captured.out
    summary = json.loads((out / "summary.json").read_text())
    assert summary["asked"] == ["balanced", "static-greenest"]
    assert len(summary["policies"]) == 8
    assert (out / "report.html").is_file()


def test_simulate_prints_json(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--out", str(tmp_path), "--no-rows", "--json", "--seed", "3")
    assert run("simulate", str(scenario), *arguments) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "summary.json").read_text()
    assert json.loads(printed)["scenario"]["seed"] == 3


def test_a_broken_scenario_is_told_on_stderr_with_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = short_scenario(tmp_path, carbon={"file": "nowhere.csv"})
    assert run("simulate", str(file), "--out", str(tmp_path / "out")) in (1, 2)
    captured = capsys.readouterr()
    assert "nowhere.csv" in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err
    missing = tmp_path / "missing.yaml"
    assert run("simulate", str(missing), "--out", str(tmp_path / "out")) == 2
    assert "no such file" in capsys.readouterr().err


def test_bound_prints_a_table_and_json(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bound", str(scenario)) == 0
    out = capsys.readouterr().out
    assert "carbon-first" in out
    assert "estimated" in out
    assert run("bound", str(scenario), "--json", "--slot", "5m") == 0
    found = json.loads(capsys.readouterr().out)
    simulation = load(scenario).simulation
    expected = bound(simulation, simulation.policies[0], 300.0)
    (one,) = found["bounds"]
    assert found["kind"] == "estimated"
    assert one["gco2e_busy"] == expected.busy_g
    assert one["gco2e_fleet"] == expected.fleet_g
    assert len(one["slots"]) == 2


def test_bound_says_what_is_above_it_where_that_is_asked_for(
    scenario: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("bound", str(scenario), "--plans") == 0
    assert "plans, which are no bound: whole +" in " ".join(capfd.readouterr().out.split())
    assert run("bound", str(scenario), "--plans", "--json") == 0
    (one,) = json.loads(capfd.readouterr().out)["bounds"]
    assert one["plans"]["moments"] > 0
    assert run("bound", str(scenario), "--json") == 0
    (one,) = json.loads(capfd.readouterr().out)["bounds"]
    assert one["plans"] is None


def test_defer_wants_a_scenario_in_which_something_may_wait(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("defer", str(scenario)) == 2
    assert "nothing may wait" in capsys.readouterr().err


@pytest.mark.parametrize("slot", ["2h", "0s", "soon"])
def test_a_slot_that_is_none_is_refused(
    scenario: Path, slot: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bound", str(scenario), "--slot", slot) == 2
    assert "--slot" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "key"), [((), "workload"), (("config",), "endpoints"), (("policy",), "weights")]
)
def test_schemas_are_printed(
    arguments: tuple[str, ...], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("schema", *arguments) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"].endswith("2020-12/schema")
    assert key in schema["properties"]


def test_an_unknown_schema_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema", "fleet") == 2
    assert "one of scenario, config, policy" in capsys.readouterr().err


def test_compare_live_gets_the_scenario_and_the_exit_code(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str, Path, float, int]] = []

    def compared(
        simulation: Simulation, policy: Policy, out: Path, seconds: float, seed: int
    ) -> int:
        calls.append((simulation.name, policy.name, out, seconds, seed))
        return 3

    monkeypatch.setattr(calibration, "run", compared)
    arguments = ("--compare-live", "--seconds", "20", "--seed", "5", "--policy", "balanced")
    assert run("simulate", str(scenario), *arguments, "--out", str(tmp_path)) == 3
    assert calls == [("short", "balanced", tmp_path, 20.0, 5)]
    assert run("simulate", str(scenario), *arguments, "--policy", "latency-first") == 2


@LONG
def test_replicate_prints_what_runs_without_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CARBON_ROUTER_LITERATURE", raising=False)
    monkeypatch.chdir(tmp_path)
    # The same study both times.
    monkeypatch.setitem(READS_NOTHING, "hybrid", cache(READS_NOTHING["hybrid"]))
    assert run("replicate", "hybrid", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same"] == found["compared"] == 105
    assert run("replicate", "hybrid") == 0
    assert "121.5 = 121.5" in capsys.readouterr().out


def test_replicate_of_a_study_without_its_data_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("replicate", "casper", "--data", str(tmp_path / "gone")) == 2
    assert "--data" in capsys.readouterr().err
