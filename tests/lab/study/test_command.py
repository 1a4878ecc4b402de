"""End to end on a shipped scenario: files, their figures, their bytes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import yaml

from router.errors import ConfigError, TraceError
from router.lab.replay.records import mean_tpot_ms
from router.lab.study import command
from router.lab.study.command import Written
from router.lab.study.execute import TaskProgress
from router.lab.study.report.timelines import region_legend
from router.lab.study.summary import EQUAL_WORK
from tests.lab.study.studies import SCENARIOS, short_scenario

POLICIES = (
    "carbon-first", "latency-first", "latency-first-packed", "least-loaded", "round-robin",
    "static-greenest", "static-greenest-packed", "carbon-first-spread",
)  # fmt: skip
COLUMNS = [
    "request", "arrival_s", "origin", "model", "region", "endpoint", "start_s", "ttft_s", "end_s",
    "input_tokens", "output_tokens", "energy_j_attributional", "energy_j_marginal",
    "prompt_energy_j_attributional", "cached_tokens",
    "gco2e_attributional", "gco2e_marginal", "g_per_kwh", "budget_met", "shed_reason",
]  # fmt: skip


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_scenario(tmp_path_factory.mktemp("scenario"))


@pytest.fixture(scope="module")
def written(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return command.simulate(scenario, folder=tmp_path_factory.mktemp("out"), jobs=1)


@pytest.fixture(scope="module")
def summary(written: Written) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((written.folder / "summary.json").read_text())
    return found


def rows(written: Written, policy: str, name: str = "requests") -> dict[str, Any]:
    table = parquet.read_table(written.folder / policy / f"{name}.parquet")
    return {column: table[column].to_pandas().to_numpy() for column in table.column_names}


def nearest_rank(values: Any, q: float) -> float:
    return float(np.sort(values)[math.ceil(q * len(values)) - 1])


def test_baselines_run_beside_the_policy(summary: dict[str, Any]) -> None:
    assert tuple(sorted(summary["policies"])) == tuple(sorted(POLICIES))
    assert summary["asked"] == ["carbon-first"]
    assert sorted(summary["policies"]["carbon-first"]["saving_against"]) == sorted(POLICIES[1:])


def test_rows_have_the_promised_columns(written: Written) -> None:
    file = parquet.ParquetFile(written.folder / "carbon-first" / "requests.parquet")
    assert file.schema_arrow.names == COLUMNS
    minutes = parquet.ParquetFile(written.folder / "carbon-first" / "replicas.parquet")
    assert minutes.schema_arrow.names == [
        "minute_s", "endpoint", "model", "batch", "power_w", "active",
    ]  # fmt: skip
    assert minutes.metadata.num_rows == 40 * 4


@pytest.mark.parametrize("policy", POLICIES)
def test_the_summary_is_what_the_rows_add_up_to(
    written: Written, summary: dict[str, Any], policy: str
) -> None:
    found, one = rows(written, policy), summary["policies"][policy]
    answered = found["shed_reason"] == ""
    assert one["requests"] == len(answered) == len(set(found["request"].tolist()))
    assert one["requests"] > 10_000
    assert one["completed"] == answered.sum()
    assert one["requests"] == one["completed"] + one["shed"] + one["failed"]
    assert one["slo_attainment"] == pytest.approx(found["budget_met"].sum() / one["requests"])
    for figure in ("energy_j", "gco2e"):
        for kind in ("attributional", "marginal"):
            name = f"{figure}_{kind}"
            assert one[name] == pytest.approx(np.nansum(found[name]), rel=1e-9)
    e2e_ms = (found["end_s"] - found["arrival_s"])[answered] * 1e3
    ttft_ms, tokens = found["ttft_s"][answered] * 1e3, found["output_tokens"][answered]
    paced = zip(ttft_ms, e2e_ms, tokens, strict=True)
    tpot_ms = np.array([mean_tpot_ms(*one) for one in paced if one[2] >= 2])
    for name, values in (("ttft_ms", ttft_ms), ("e2e_ms", e2e_ms), ("tpot_ms", tpot_ms)):
        for key, q in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
            assert one[name][key] == pytest.approx(nearest_rank(values, q), rel=0.002)
    for region, figures in one["regions"].items():
        mine = answered & (found["region"] == region)
        assert figures["completed"] == mine.sum()
        assert figures["share"] == pytest.approx(mine.sum() / answered.sum())
        assert figures["gco2e_attributional"] == pytest.approx(
            found["gco2e_attributional"][mine].sum(), rel=1e-9, abs=1e-12
        )


def test_replicas_add_up_to_the_energy_of_the_fleet(
    written: Written, summary: dict[str, Any]
) -> None:
    found, one = rows(written, "latency-first", "replicas"), summary["policies"]["latency-first"]
    counted = found["minute_s"] >= 60.0
    facility_j = found["power_w"][counted].sum() * 60.0 * 1.1
    # What still ran when the scenario ended is in the account, not in its minutes.
    assert facility_j == pytest.approx(one["energy_j_consequential"], rel=0.01)
    assert ((found["active"] >= 0.0) & (found["active"] <= 1.0 + 1e-9)).all()


def test_savings_and_regrets_are_those_of_the_grams(summary: dict[str, Any]) -> None:
    policies = summary["policies"]
    product, other = policies["carbon-first"], policies["round-robin"]
    saved = product["saving_against"]["round-robin"]
    for kind in ("attributional", "consequential", "marginal"):
        name = f"gco2e_{kind}"
        assert saved[kind] == pytest.approx(1.0 - product[name] / other[name])
    assert saved["attributional"] > 0.2
    # Packed, more short answers are slowed beyond their budget by somebody's prompt.
    assert product["completed"] == other["completed"]
    attained = product["slo_attainment"] - other["slo_attainment"]
    assert saved["equal_work"] is (attained >= -EQUAL_WORK)
    for one in policies.values():
        for kind in ("attributional", "consequential"):
            limit = one["bound"][f"gco2e_{kind}"]
            assert 0.0 < limit <= one[f"gco2e_{kind}"]
            assert one["regret"][kind] == pytest.approx(one[f"gco2e_{kind}"] / limit - 1.0)


def test_it_says_what_it_was_made_from(written: Written, summary: dict[str, Any]) -> None:
    scenario = summary["scenario"]
    assert (scenario["seed"], scenario["start"]) == (7, "2022-05-14T19:30Z")
    assert [one["role"] for one in scenario["files"]] == ["scenario", "carbon.file", "rtt.file"]
    assert len(scenario["digest"]) == 64
    assert summary["demand"]["budgets"]["ttft_ms"] == [
        {"ms": 1500.0, "requests": summary["demand"]["requests"]}
    ]
    words = ("measured", "forecast", "estimated", "climatology", "emulated")
    for text in summary["kinds"].values():
        assert any(word in text for word in words), text


def test_the_same_seed_gives_the_same_bytes_whatever_the_processes(
    scenario: Path, written: Written, tmp_path: Path
) -> None:
    again = command.simulate(scenario, folder=tmp_path, jobs=2)
    files = sorted(p.relative_to(written.folder) for p in written.folder.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert len(files) == 2 + 2 * len(POLICIES)
    for file in files:
        assert (again.folder / file).read_bytes() == (written.folder / file).read_bytes(), file


def test_rows_change_no_figure_and_none_of_another_run_stay(
    scenario: Path, written: Written, tmp_path: Path
) -> None:
    stale = tmp_path / "carbon-first" / "requests.parquet"
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier run")
    shares: list[list[float]] = []
    told = TaskProgress(show=lambda now: shares.append(list(now)))
    command.simulate(scenario, folder=tmp_path, rows=False, jobs=1, progress=told)
    assert not list(tmp_path.rglob("*.parquet"))
    for name in (command.SUMMARY, command.REPORT):
        assert (tmp_path / name).read_bytes() == (written.folder / name).read_bytes()
    assert shares[-1] == [1.0] * (3 + len(POLICIES))


def test_another_seed_gives_other_requests(
    scenario: Path, written: Written, tmp_path: Path
) -> None:
    other = command.simulate(scenario, folder=tmp_path, rows=False, seed=8, jobs=1)
    assert other.summary["scenario"]["seed"] == 8
    assert other.summary["demand"] != written.summary["demand"]


def test_the_report_needs_nothing_else(written: Written) -> None:
    text = (written.folder / "report.html").read_text(encoding="utf-8")
    assert len(text) < 3_000_000
    for reference in ("http://", "https://", "src=", "@import", "url(", "<script"):
        assert reference not in text
    for word in (*POLICIES, "prefers-color-scheme:dark", "emulated", "US-CAL-CISO", "bound"):
        assert word in text
    assert text.count("<svg ") >= 9
    assert "nan" not in text.replace("nance", "")


def test_a_bad_request_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    requests = "arrival_s,origin,model,input_tokens,output_tokens\n1,us-west2,llama-3.1-70b,5,-3\n"
    (tmp_path / "requests.csv").write_text(requests)
    file = short_scenario(tmp_path, workload={"file": "requests.csv"})
    with pytest.raises(TraceError, match=r"row 2, column output_tokens"):
        command.simulate(file, folder=tmp_path / "out", jobs=1)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_broken_file_is_named_with_key_and_fix(tmp_path: Path) -> None:
    file = short_scenario(tmp_path, duratoin="1h", seed=-1)
    with pytest.raises(ConfigError) as caught:
        command.simulate(file, folder=tmp_path / "out")
    assert "did you mean 'duration'" in str(caught.value)
    assert "seed" in str(caught.value)


def test_every_figure_and_column_is_documented(summary: dict[str, Any]) -> None:
    page = (SCENARIOS.parent / "simulate.md").read_text(encoding="utf-8")
    one = summary["policies"]["carbon-first"]
    for key in (*one, *COLUMNS, "minute_s", "batch", "power_w", "active", "equal_work"):
        assert f"`{key}`" in page, key


def test_many_regions_are_shown_by_what_their_grids_emit(tmp_path: Path) -> None:
    file = short_scenario(tmp_path)
    data = yaml.safe_load(file.read_text())
    names = [f"{name}-{i}" for name in list(data["regions"]) for i in range(2)]
    data["regions"] = {name: data["regions"][name[:-2]] for name in names}
    data["rtt"]["columns"] = {name: data["rtt"]["columns"][name[:-2]] for name in names}
    data["endpoints"][0]["replicas"] = dict.fromkeys(names, 1)
    data["duration"] = "5m"
    file.write_text(yaml.safe_dump(data))
    done = command.simulate(file, folder=tmp_path / "out", rows=False, jobs=1)
    assert len(region_legend(done.study).names) == 7
    page = (tmp_path / "out" / "report.html").read_text()
    assert "350 to 500 g/kWh" in page
    assert 'class="area g4"' in page
    for name in names:
        assert f"<td>{name}</td>" in page


@pytest.mark.parametrize("arrival_s", [1.0, 200.0])
def test_a_single_request_is_a_study_even_when_it_is_not_counted(
    tmp_path: Path, arrival_s: float
) -> None:
    head = "arrival_s,origin,model,input_tokens,output_tokens"
    row = f"{arrival_s},us-west2,llama-3.1-70b,500,20"
    (tmp_path / "requests.csv").write_text(f"{head}\n{row}\n")
    file = short_scenario(tmp_path, workload={"file": "requests.csv"}, duration="5m")
    done = command.simulate(file, folder=tmp_path / "out", jobs=1)
    summary = json.loads((done.folder / "summary.json").read_text())
    counted = int(arrival_s > 60.0)
    one = summary["policies"]["carbon-first"]
    assert one["requests"] == one["completed"] == counted
    assert (one["slo_attainment"] is None) == (counted == 0)
    told = any("nothing to compare" in note for note in summary["notes"])
    assert told == (counted == 0)
    assert summary["demand"]["budgets"] == {"ttft_ms": [], "tpot_ms": [], "e2e_ms": []}
    assert [source["role"] for source in summary["scenario"]["files"]][-1] == "workload.file"
    assert "<svg" in (done.folder / "report.html").read_text()


def test_lost_requests_and_released_replicas_are_told(tmp_path: Path) -> None:
    file = short_scenario(
        tmp_path,
        duration="15m",
        failures=[{"region": "california", "start": "5m", "end": "10m", "noticed_after": "5s"}],
        autoscaling={"release_after": "30s", "wake": "10s", "wake_w": 800},
    )
    done = command.simulate(file, folder=tmp_path / "out", jobs=1)
    one = done.summary["policies"]["carbon-first"]
    found = rows(done, "carbon-first")
    assert one["failed"] == (found["shed_reason"] == "upstream_fault").sum() > 0
    assert one["requests"] == one["completed"] + one["shed"] + one["failed"]
    fleet = one["fleet"]
    assert one["gco2e_consequential"] == pytest.approx(
        fleet["busy_g"] + fleet["idle_g"] + fleet["wake_g"]
    )
    assert fleet["spared_g"] > 0.0 < fleet["wake_g"]
    assert fleet["kept_on_g"] == pytest.approx(
        fleet["busy_g"] + fleet["idle_g"] + fleet["spared_g"]
    )
    assert one["bound"]["gco2e_consequential"] == one["bound"]["gco2e_attributional"]
    text = (done.folder / "report.html").read_text()
    assert "lost with their replica" in text
    assert "fleet: waking up" in text
    assert "released after 30 s" in text


def test_a_caller_that_limits_its_answer_is_expected_to_get_no_longer_one(tmp_path: Path) -> None:
    """As live: only the limit tells that the answer will be short enough for the budget."""
    head = "arrival_s,origin,model,input_tokens,output_tokens,e2e_budget_ms,max_output_tokens"
    lines = [f"{at},us-west2,llama-3.1-70b,500,20,3000,{limit}" for at, limit in
             ((70, ""), (80, 60), (90, 1000))]  # fmt: skip
    (tmp_path / "requests.csv").write_text("\n".join([head, *lines]) + "\n")
    file = short_scenario(tmp_path, workload={"file": "requests.csv"}, duration="5m")
    done = command.simulate(file, folder=tmp_path / "out", jobs=1)
    table = rows(done, "carbon-first")
    order = np.argsort(table["request"])
    reasons = table["shed_reason"][order].tolist()
    assert reasons == ["budget_impossible", "", "budget_impossible"]
