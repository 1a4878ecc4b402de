from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from router.operator.footprint.report import EnergyQuestion, report
from router.operator.show.energy import (
    energy_json,
    names_json,
    plot_energy,
    render_energy,
    render_names,
)


def text(question: EnergyQuestion) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_energy(report(question)))
    return console.export_text()


def test_the_table_says_what_is_measured_what_estimated_and_where() -> None:
    shown = text(EnergyQuestion(("llama-3.1-8b", "hunyuanvideo")))
    for part in (
        "One answer of 300 tokens to a prompt of 500",
        "PUE 1.14",
        "measured",
        "estimated",
        "prompt and host: estimated everywhere",
        "California US-CAL-CISO",
        "West Virginia (PJM)",
        "cleanest hour",
        "MWh a day",
        "Llama 3.1 405B, MIT Technology Review",
        "6,706",
        "0.03 market-based",
        "1.14 location-based",
        "Why they differ:",
    ):
        assert part in shown, part


def test_a_figure_that_is_not_known_is_a_dash() -> None:
    shown = text(EnergyQuestion(("stable-diffusion-3-medium",)))
    assert shown.startswith("One of each")
    line = next(row for row in shown.splitlines() if row.startswith("stable-diffusion-3-medium "))
    assert line.count(" - ") == 3 and "2,282" in line
    assert "nan" not in shown
    (published,) = (row for row in shown.splitlines() if row.startswith("CogVideoX, MIT"))
    assert "3,400,000" in published and "441,656" in published


def test_json_holds_numbers_or_null() -> None:
    told = report(EnergyQuestion(("llama-3.1-8b", "cogvideox"), zones=("JP",)))
    plain = json.loads(energy_json(told))
    model, video = plain["asked"]
    assert model["title"] == "llama-3.1-8b, 1x H100"
    assert model["energies"][1]["provenance"] == "measured"
    assert model["grams"]["Japan"] > 0
    assert video["energies"][0]["host_j"] is None
    assert plain["published"][0]["equal_batch"] > 1
    assert plain["published"][2]["equal_batch"] is None  # An image.


def test_the_chart_is_drawn_with_and_without_hours(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="LOUD: matplotlib is not installed")
    path = tmp_path / "energy.png"
    plot_energy(report(EnergyQuestion(("llama-3.1-8b",), zones=("DE", "JP"))), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_all_names_are_listed() -> None:
    plain = json.loads(names_json())
    assert len({row["model"] for row in plain["models"]}) >= 30
    assert {row["kind"] for row in plain["tasks"]} >= {"image", "video", "audio", "embedding"}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_names())
    shown = console.export_text()
    assert "mixtral-8x22b-v0.1" in shown and "1x A100-40GB" in shown and "hunyuanvideo" in shown
