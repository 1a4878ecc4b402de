from __future__ import annotations

import json
from pathlib import Path

import pytest

from router.lab.study import command
from tests.lab.study.studies import short_scenario


def test_a_study_of_flows_has_the_same_keys_and_no_latency(tmp_path: Path) -> None:
    file = short_scenario(tmp_path, duration="20m")
    flows = command.simulate(file, folder=tmp_path / "flows", fluid=True, jobs=1)
    exact = command.simulate(file, folder=tmp_path / "exact", rows=False, jobs=1)
    found = json.loads((flows.folder / "summary.json").read_text())
    assert found["mode"] == "fluid"
    assert not list(tmp_path.rglob("*.parquet"))
    for name, one in found["policies"].items():
        other = exact.summary["policies"][name]
        assert set(one) == set(other)
        assert one["slo_attainment"] is None
        assert one["ttft_ms"] == {"p50": None, "p95": None, "p99": None}
        assert one["regret"]["valid"] is True
        assert one["gco2e_attributional"] == pytest.approx(other["gco2e_attributional"], rel=0.25)
    assert found["policies"]["carbon-first"]["saving_against"]["round-robin"]["equal_work"] is True
    page = (flows.folder / "report.html").read_text()
    assert "Everything here is estimated as flows" in page
    assert "Latency against budgets" not in page
    assert "How full the replicas were" not in page
    assert ">emulated<" not in page
