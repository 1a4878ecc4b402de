from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from router.core.board import Board
from router.core.columns import build_snapshot
from router.core.explanation import Explanation, explain
from router.core.layout import Layout
from router.core.lengths import LengthModel
from router.model import Budget, Forecast, Intensity, Kind, Provenance, Request
from router.operator.check import Explained
from router.operator.show.explanation import (
    _MARK_MEANINGS,
    _MARKS,
    explained_json,
    render_explained,
)
from tests.config.samples import loaded
from tests.factories import SIGNAL

NOW = 1652486400.0 + 600.0


def forecast(zone: str, g_per_kwh: float, kind: Kind) -> Forecast:
    start = 1652486400.0
    slots = tuple(
        Intensity(
            g_per_kwh, g_per_kwh, g_per_kwh, SIGNAL, kind, "trace:grid.csv", start - 3600.0, 1e11
        )
        for _ in range(6)
    )
    return Forecast(zone, start, 3600.0, slots)


def explained(
    folder: Path, request: Request, changes: dict[str, Any] | None = None, *, know_east: bool = True
) -> Explanation:
    config = loaded(folder, changes)
    forecasts = {"US-CAL-CISO": forecast("US-CAL-CISO", 210.0, Kind.MEASURED)}
    if know_east:
        forecasts["US-MIDA-PJM"] = forecast("US-MIDA-PJM", 420.0, Kind.CLIMATOLOGY)
    layout = Layout(config.fleet)
    snapshot = build_snapshot(layout, config.policy, forecasts, {}, NOW, 7)
    board = Board(layout, config.settings.health, 1.645)
    lengths = LengthModel(config.fleet.priors, config.policy.quantile)
    expected = lengths.expect(request.model, "", request.input_tokens, request.max_output_tokens)
    return explain(request, snapshot, board, expected, NOW, random.Random(1), network_j=0.5)


def shown(explanation: Explanation) -> str:
    out = StringIO()
    Console(file=out, width=200).print(render_explained(Explained(explanation, {}, {})))
    return out.getvalue()


def rows(text: str) -> dict[str, str]:
    return {
        name: line for line in text.splitlines() for name in ("west-0", "east-0") if name in line
    }


def test_the_chosen_endpoint_leads_and_every_term_is_there(tmp_path: Path) -> None:
    explanation = explained(tmp_path, Request("llama-3.1-8b", origin="east"))
    text = shown(explanation)
    best, other = explanation.candidates
    assert best.endpoint == "west-0"
    assert "goes to west-0" in text
    assert "the nearest, east-0, would emit" in text
    assert "policy carbon-first: cost = 1 x gCO2e" in text
    assert "llama-3.1-8b from east, at 2022-05-14T00:10Z" in text
    assert "budgets at p95 (per token at p75): none" in text
    lines = [line for line in text.splitlines() if line.lstrip()[:1] in ("1", "2")]
    assert ["west-0" in lines[0], "east-0" in lines[1]] == [True, True]
    for part in ("US-CAL-CISO", "210", "measured, 1.2 h", "1.11"):
        assert part in lines[0]
    for part in ("0/512", "64", f"{best.ttft_ms:.0f}", f"{best.tpot_ms:.1f}", "chosen"):
        assert part in lines[0]
    assert "climatology" in lines[1]
    assert f"{other.e2e_ms:.0f}" in lines[1]


def test_figures_say_how_they_came_to_be(tmp_path: Path) -> None:
    text = shown(explained(tmp_path, Request("llama-3.1-8b", origin="east")))
    assert "'" in rows(text)["east-0"]
    assert "'" not in rows(text)["west-0"]
    assert "J': emulated endpoint, no real hardware" in text
    assert "average/lifecycle, from trace:grid.csv" in text


def test_a_delay_that_was_learned_has_a_column_and_none_has_none(tmp_path: Path) -> None:
    explanation = explained(tmp_path, Request("llama-3.1-8b", origin="east"))
    assert "delay" not in shown(explanation)
    west, east = explanation.candidates
    learned = replace(explanation, candidates=(west._replace(delay_ms=77.0), east))
    assert "77" in rows(shown(learned))["west-0"]
    assert "delay: what the path adds to the RTT, as learned" in shown(learned)


def test_an_excluded_candidate_has_its_reason_and_no_rank(tmp_path: Path) -> None:
    request = Request("llama-3.1-8b", origin="east", budget=Budget(ttft_ms=40.0, explicit=True))
    text = shown(explained(tmp_path, request))
    assert "goes to east-0" in text
    assert "it is the nearest, too" in text
    assert "ttft_budget" in rows(text)["west-0"]
    assert rows(text)["west-0"].lstrip().startswith("west-0")
    assert "budgets at p95 (per token at p75): TTFT 40 ms" in text


def test_a_refusal_is_shown_with_its_reason(tmp_path: Path) -> None:
    request = Request("llama-3.1-8b", origin="east", budget=Budget(ttft_ms=1.0, explicit=True))
    explanation = explained(tmp_path, request)
    assert explanation.decision is None
    text = shown(explanation)
    assert "refused (budget_impossible)" in text
    assert "chosen" not in text


def test_an_unknown_intensity_is_never_shown_as_a_number(tmp_path: Path) -> None:
    explanation = explained(tmp_path, Request("llama-3.1-8b", origin="east"), know_east=False)
    line = rows(shown(explanation))["east-0"]
    assert line.count("unknown") >= 3
    assert "carbon_unknown" in line


def test_json_holds_everything_and_nothing_that_json_cannot_say(tmp_path: Path) -> None:
    request = Request("llama-3.1-8b", origin="east", residency=frozenset({"us"}))
    explanation = explained(tmp_path, request, know_east=False)
    data = json.loads(explained_json(Explained(explanation, {}, {})), parse_constant=_no_constant)
    assert data["at"] == "2022-05-14T00:10Z"
    assert data["request"]["residency"] == ["us"]
    assert data["request"]["input_tokens"] is None
    assert data["budget"]["ttft_ms"] is None
    west, east = data["candidates"]
    assert west["intensity"]["kind"] == "measured"
    assert west["intensity"]["signal"] == {"basis": "average", "factors": "lifecycle"}
    assert west["gco2e"] == explanation.candidates[0].gco2e
    assert (east["intensity"], east["g_per_kwh"], east["gco2e"]) == (None, None, None)
    assert math.isnan(explanation.candidates[1].gco2e)
    assert data["decision"]["endpoint"]["name"] == "west-0"
    assert data["decision"]["run_g_per_kwh"] == 210.0


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def test_every_kind_of_profile_has_a_mark_with_a_meaning() -> None:
    kinds = {str(one) for one in Provenance} - {"profile"}
    assert set(_MARKS) == set(_MARK_MEANINGS) == kinds
    assert len(set(_MARKS.values())) == len(kinds)
