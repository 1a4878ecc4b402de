from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from router.operator.show.summary import render_summary
from tests.config.samples import loaded


def shown(folder: Path, changes: dict[str, Any] | None = None, *notes: str) -> str:
    out = StringIO()
    Console(file=out, width=200).print(render_summary(loaded(folder, changes), notes))
    return out.getvalue()


def line(text: str, part: str) -> str:
    (found,) = [line for line in text.splitlines() if part in line]
    return found


def test_regions_models_policy_and_sources_are_all_there(tmp_path: Path) -> None:
    text = shown(tmp_path)
    assert "config.yaml: valid" in text
    west = line(text, "US-CAL-CISO")
    for part in ("us-west", "1.11", "512", "2-64", "us"):
        assert part in west
    assert "none stated" in line(text, "US-MIDA-PJM")
    assert "policy: carbon-first (per_gco2e 1; pack within 0.2%)" in text
    assert "budgets: the caller's only" in text
    assert "drops when nothing is feasible: carbon, policy_latency" in text
    assert "carbon: average intensity, lifecycle factors, read every 60 s" in text
    assert "1. climatology" in text
    assert "2. static: annual means, those that ship with the package" in text
    assert "clock" not in text
    assert "note" not in text


def test_figures_say_how_they_came_to_be(tmp_path: Path) -> None:
    rows = [line for line in shown(tmp_path).splitlines() if "@" in line]
    kinds = [row.split("│")[3].strip() for row in rows]
    assert kinds == ["emulated", "emulated", "measured"]


def test_what_a_policy_demands_and_where_data_come_from(tmp_path: Path) -> None:
    (tmp_path / "grid.csv").write_text("datetime,X\n")
    changes = {
        "policy": {
            "weights": {"per_gco2e": 1, "per_e2e_ms": 0.1},
            "budget": {"ttft_ms": 300},
            "max_gco2e": 2,
            "max_g_per_kwh": 400,
            "quantile": 0.99,
            "ladder": [],
        },
        "clock": {"start": "2022-05-14T00:00Z", "speed": 1440},
        "carbon/sources": [
            {"kind": "trace", "file": "grid.csv", "lag_s": 3600},
            {"kind": "static", "g_per_kwh": {"DE": 400}},
        ],
    }
    text = shown(tmp_path, changes, "US-MIDA-PJM is known by annual mean only")
    assert "per_gco2e 1, per_e2e_ms 0.1" in text
    assert "TTFT 300 ms, 2 g a request, 400 g/kWh at p99" in text
    assert "nothing, refuse" in text
    assert "grid.csv: measured values, known 3600 s after each slot" in text
    assert "yours for DE and those that ship" in text
    assert "clock: replays carbon data from 2022-05-14T00:00Z at 1440x" in text
    assert "note: US-MIDA-PJM is known by annual mean only" in text


def test_a_note_is_shown_once(tmp_path: Path) -> None:
    assert shown(tmp_path, None, "twice", "twice").count("twice") == 1


def test_limits_on_where_requests_may_run_are_told(tmp_path: Path) -> None:
    changes = {
        "models/llama-3.1-8b/residency": ["us"],
        "tenants": {"acme": {"residency": ["us"]}},
    }
    told = line(shown(tmp_path, changes), "residency, held")
    assert "model llama-3.1-8b: us; tenant acme: us" in told
    assert "requests of other tenants, or of none, are refused" in told
    assert "residency, held" not in shown(tmp_path)
