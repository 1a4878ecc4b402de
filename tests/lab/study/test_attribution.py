"""Savings by cause, end to end: they add up, and nothing is credited that was not done."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from router.lab.study import command
from router.lab.study.attribution import SplitFigures, equal_work
from router.lab.study.causes import ChainOrder, SavingCause
from tests.lab.study.studies import short_scenario, waiting_scenario

KINDS = ("consequential", "attributional")


def studied(folder: Path, *policies: str, seeds: int = 1, **changes: Any) -> dict[str, Any]:
    file = short_scenario(folder, **{"duration": "12m", **changes})
    done = command.simulate(file, policies, folder=folder, rows=False, seeds=seeds, jobs=1)
    found: dict[str, Any] = json.loads((done.folder / command.SUMMARY).read_text())
    return found


def parts(split: dict[str, Any], order: str, kind: str) -> dict[str, Any]:
    return {cause: split[order][cause][kind] for cause in SavingCause}


def adds_up(summary: dict[str, Any]) -> None:
    for asked in summary["asked"]:
        one = summary["policies"][asked]
        for baseline, split in one["saving_split"].items():
            for kind in KINDS:
                total = split["total"][kind]["mean"]
                for order in ChainOrder:
                    means = [cause["mean"] for cause in parts(split, order, kind).values()]
                    assert math.fsum(means) == pytest.approx(total, abs=1e-12), (baseline, order)
                    steps = math.fsum(step[kind] for step in split[order]["steps"])
                    if len(summary["scenario"]["seeds_of_split"]) == 1:
                        assert steps == pytest.approx(total, abs=1e-12)
                if baseline in one["saving_against"] and total is not None:
                    said = one["saving_against"][baseline][f"{kind}_per_completed"]
                    if len(summary["scenario"]["seeds_of_split"]) == 1:
                        assert total == pytest.approx(said, abs=1e-12)


def test_causes_add_up_to_the_saving_in_either_order(tmp_path: Path) -> None:
    summary = studied(tmp_path, "carbon-first", "balanced")
    adds_up(summary)
    split = summary["policies"]["carbon-first"]["saving_split"]["latency-first"]
    assert split["total"]["consequential"] == {
        "mean": pytest.approx(split["total"]["consequential"]["mean"]), "low": None, "high": None,
    }  # fmt: skip
    assert split["absent"] == {
        "waiting": "nothing may wait in this scenario",
        "which_model": "no aliases in this scenario",
        "scale_down": "no autoscaling in this scenario",
    }
    (first, *_) = split["packing_first"]["steps"]
    assert (first["cause"], first["to"]) == ("packing", "latency-first-packed")
    # What packing costs those who read the answer stands beside what it saves.
    assert first["tpot_ms_after"]["p50"] > first["tpot_ms_before"]["p50"] > 0.0
    assert split["tpot_ms"] == {
        key: summary["policies"]["carbon-first"]["tpot_ms"][key] for key in ("p50", "p95")
    }
    assert summary["policies"]["round-robin"]["saving_split"] == {}


def test_several_seeds_give_an_interval_and_leave_the_other_figures(tmp_path: Path) -> None:
    one, three = studied(tmp_path / "1"), studied(tmp_path / "3", seeds=3)
    adds_up(three)
    assert three["scenario"]["seeds_of_split"] == [7, 8, 9]
    split = three["policies"]["carbon-first"]["saving_split"]["latency-first"]
    for kind in KINDS:
        total = split["total"][kind]
        assert total["low"] < total["mean"] < total["high"]
        packing = split["packing_first"]["packing"][kind]
        assert packing["low"] < packing["mean"] < packing["high"]
    for name, figures in one["policies"].items():
        same = {key: value for key, value in figures.items() if key != "saving_split"}
        assert same == {key: three["policies"][name][key] for key in same}


def test_processes_change_nothing(tmp_path: Path) -> None:
    file = short_scenario(tmp_path, duration="6m")
    texts = [
        (command.simulate(file, folder=tmp_path / str(jobs), rows=False, seeds=2, jobs=jobs).folder
         / command.SUMMARY).read_text() for jobs in (1, 2)
    ]  # fmt: skip
    assert texts[0] == texts[1]


def test_one_region_leaves_no_choice_of_place_or_hour(tmp_path: Path) -> None:
    fleet = short_scenario(tmp_path)
    endpoints = yaml.safe_load(fleet.read_text())["endpoints"]
    endpoints[0]["replicas"] = {"california": 3}
    summary = studied(tmp_path, endpoints=endpoints)
    adds_up(summary)
    for baseline in ("latency-first", "static-greenest"):
        split = summary["policies"]["carbon-first"]["saving_split"][baseline]
        for order in ChainOrder:
            for kind in KINDS:
                found = parts(split, order, kind)
                # Policies that go to one region may still learn its latency differently.
                assert found["where"]["mean"] == pytest.approx(0.0, abs=0.02)
                assert found["when"]["mean"] == pytest.approx(0.0, abs=1e-9)
        assert split["total"]["consequential"]["mean"] > 0.0


def test_nothing_to_do_saves_nothing_that_is_known(tmp_path: Path) -> None:
    head = "arrival_s,origin,model,input_tokens,output_tokens"
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "requests.csv").write_text(f"{head}\n1,us-west2,llama-3.1-70b,500,20\n")
    summary = studied(tmp_path, workload={"file": "requests.csv"}, duration="5m")
    split = summary["policies"]["carbon-first"]["saving_split"]["latency-first"]
    for kind in KINDS:
        assert split["total"][kind] == {"mean": None, "low": None, "high": None}
        for order in ChainOrder:
            assert all(one["mean"] is None for one in parts(split, order, kind).values())
    assert "nan" not in (tmp_path / command.REPORT).read_text().replace("nance", "")


def test_refused_requests_save_nothing(tmp_path: Path) -> None:
    """A policy that may only use the cleanest grid refuses what does not fit there."""
    strict = tmp_path / "strict.yaml"
    tmp_path.mkdir(exist_ok=True)
    strict.write_text(
        "name: strict\nweights: {per_gco2e: 1}\nmax_g_per_kwh: 330\nladder: []\nspread: pack\n"
    )
    workload = {
        "generate": {
            "preset": "chat", "load": 0.9,
            "origins": {"us-west2": {"share": 1, "utc_offset_h": -7}},
            "classes": [{"model": "llama-3.1-70b", "budget": {"ttft_ms": 1500, "tpot_ms": 80}}],
        }
    }  # fmt: skip
    summary = studied(tmp_path, str(strict), workload=workload)
    adds_up(summary)
    one = summary["policies"]["strict"]
    assert one["shed"] > 0.05 * one["requests"]
    split = one["saving_split"]["latency-first"]
    assert split["equal_work"] is False
    # In all it emitted less than it did for each answer.
    whole = one["saving_against"]["latency-first"]["consequential"]
    assert split["total"]["consequential"]["mean"] < whole


def test_scale_down_is_a_cause_where_replicas_are_released(tmp_path: Path) -> None:
    scaling = {"release_after": "30s", "wake": "10s", "wake_w": 800}
    summary = studied(tmp_path, autoscaling=scaling)
    adds_up(summary)
    splits = summary["policies"]["carbon-first"]["saving_split"]
    kept_on = splits["latency-first, idle replicas kept on"]
    assert "scale_down" not in kept_on["absent"]
    assert kept_on["packing_first"]["scale_down"]["consequential"]["mean"] > 0.02
    assert kept_on["packing_last"]["steps"][0]["cause"] == "scale_down"
    assert splits["latency-first"]["absent"]["scale_down"].startswith("the baseline releases")


@pytest.mark.parametrize(("met", "equal"), [(0.9991, True), (0.9989, False), (math.nan, True)])
def test_a_tenth_of_a_point_of_slo_is_equal_work(met: float, equal: bool) -> None:
    whole = SplitFigures(1.0, 1.0, 1.0, 1.0, 20.0, 30.0)
    assert equal_work(whole, whole._replace(met=met)) is equal
    assert equal_work(whole._replace(met=met), whole) is equal
    assert equal_work(whole, whole._replace(completed_share=0.99)) is False


def test_what_may_wait_waits_under_the_policy_that_was_asked_for_alone(tmp_path: Path) -> None:
    file = waiting_scenario(tmp_path, duration="30m", warm_up="2m")
    done = command.simulate(file, ["carbon-first"], folder=tmp_path, rows=True, jobs=1)
    summary = json.loads((done.folder / command.SUMMARY).read_text())
    adds_up(summary)
    asked = summary["policies"]["carbon-first"]
    assert 0 < summary["demand"]["may_wait"] < summary["demand"]["requests"] == asked["requests"]
    assert asked["completed"] > 0.99 * asked["requests"]
    # The bound is of work that may wait: neither who waits nor who does not gets below.
    assert all(one["regret"]["consequential"] > 0.0 for one in summary["policies"].values())
    splits = asked["saving_split"]
    alone = splits["carbon-first, at once"]
    assert "waiting" not in alone["absent"]
    for order in ChainOrder:
        (step,) = alone[order]["steps"]
        assert (step["cause"], step["from"], step["to"]) == (
            "waiting", "carbon-first, at once", "carbon-first",
        )  # fmt: skip
    last = splits["latency-first"]["packing_last"]["steps"]
    assert (last[0]["from"], last[0]["to"]) == ("latency-first", "latency-first, waiting")
    assert not any("no request is deferred" in note for note in summary["notes"])
    rows = pq.read_table(done.folder / "carbon-first" / "requests.parquet")
    assert len(set(rows["request"].to_pylist())) == asked["requests"]
