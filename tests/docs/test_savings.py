"""docs/savings.md: a table for each run that it names, filled by tools/savings_table.py alone."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL, PAGE = ROOT / "tools" / "savings_table.py", ROOT / "docs" / "savings.md"
if not (TOOL.exists() and PAGE.exists()):
    pytest.skip("SAVINGS NOT TRIED: not part of this distribution", allow_module_level=True)


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("savings_table", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(mean: float) -> dict[str, Any]:
    return {kind: {"mean": mean, "low": None, "high": None} for kind in
            ("consequential", "attributional")}  # fmt: skip


def run(name: str) -> dict[str, Any]:
    causes = {cause: figures(0.1) for cause in
              ("packing", "where", "when", "waiting", "which_model",
               "scale_down")}  # fmt: skip
    split = {
        "total": figures(0.3),
        "packing_first": causes | {"steps": []},
        "packing_last": causes | {"packing": figures(0.02), "steps": []},
        "absent": {"waiting": "nothing may", "which_model": "no aliases in this scenario"},
        "equal_work": True,
        "tpot_ms_of_baseline": {"p50": 26.0, "p95": 30.0},
        "tpot_ms": {"p50": 42.0, "p95": None},
    }
    scenario = {
        "name": name, "seeds_of_split": [7, 8, 9], "duration_s": 3600.0,
        "start": "2022-05-14T07:00Z",
    }  # fmt: skip
    return {
        "mode": "requests",
        "scenario": scenario,
        "policies": {"carbon-first": {"saving_split": {"lf": split}}},
    }


def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> tuple[int, str]:
    page, summary = tmp_path / "savings.md", tmp_path / "summary.json"
    page.write_text("a\n<!-- savings mine -->\nold\n<!-- end -->\n<!-- savings b -->\nkept\n"
                    "<!-- end -->\n")  # fmt: skip
    summary.write_text(json.dumps(run(name)))
    table = tool()
    readme = tmp_path / "README.md"
    readme.write_text("<!-- split mine -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(table, "TARGET", page)
    monkeypatch.setattr(table, "README", readme)
    monkeypatch.setattr(sys, "argv", ["savings_table.py", str(summary)])
    return table.main(), page.read_text()


def test_a_run_fills_its_table_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = filled(tmp_path, monkeypatch, "mine")
    assert code == 0
    assert "`mine`: 1 h from 2022-05-14T07:00Z, mean of 3 seeds." in text
    assert "| lf | packing first | 30.0 % | 10.0 % |" in text
    assert "|  | packing last |  | 2.0 % |" in text and "| 10.0 % | - |" in text
    assert "old" not in text and "kept" in text
    shown = (tmp_path / "README.md").read_text()
    assert "What carbon-first saves, and what by (emulated; mean of 3 seeds" in shown
    assert shown.startswith("<!-- split mine -->\n```\n") and shown.endswith("```\n<!-- end -->\n")


def test_a_run_without_a_table_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = filled(tmp_path, monkeypatch, "unknown")
    assert (code, "old" in text) == (1, True)
    assert "no table for: unknown" in capsys.readouterr().err


def test_tables_are_of_scenarios_that_ship() -> None:
    names = {name for _, name, _ in tool().BLOCK.findall(PAGE.read_text("utf-8"))}
    shipped = {file.stem for file in (ROOT / "docs" / "scenarios").glob("*.yaml")}
    assert names <= shipped | {"demo"}
    assert {"demo", "us-six-grids-50", "europe", "global-100ms"} <= names
