from __future__ import annotations

import csv
import importlib
import math
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest

from router.errors import TraceError
from router.model import Provenance
from router.operator.footprint import tables
from router.operator.footprint.models import GPUS
from router.operator.footprint.tables import (
    LOADS,
    shipped_everyday,
    shipped_models,
    shipped_published,
    shipped_tasks,
)

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT.parent / "shared" / "data" / "gpu-energy"


def test_thirty_open_models_are_known_on_three_kinds_of_gpu() -> None:
    models = shipped_models()
    assert len({model.model for model in models}) >= 30
    assert {model.gpu for model in models} == set(GPUS)
    assert len({(model.model, model.gpu) for model in models}) == len(models)


@pytest.mark.parametrize("model", shipped_models(), ids=lambda m: f"{m.model}@{m.gpu}")
def test_a_model_costs_less_a_token_the_more_it_answers_at_once(model: tables.ModelEnergy) -> None:
    assert tuple(point.load for point in model.points) == LOADS
    joules = [point.step_w * point.step_ms / 1000.0 / point.batch for point in model.points]
    # A full batch may be hardly cheaper than the typical one, and is measured apart.
    assert joules[0] > joules[1] > 0.99 * joules[2] > 0.001
    assert model.points[0].batch == 1.0
    assert [point.provenance for point in model.points] == [
        Provenance.ESTIMATED,
        Provenance.MEASURED,
        Provenance.MEASURED,
    ]
    assert model.active_params_b <= model.total_params_b
    assert math.isnan(model.spread)
    assert model.host_w == 105.0 * model.gpus


def test_other_tasks_say_what_their_joules_hold() -> None:
    tasks = shipped_tasks()
    assert {"image", "video", "audio", "embedding", "classic"} == {task.kind for task in tasks}
    for task in tasks:
        assert task.boundary in ("gpu", "server"), task.name
        # Host energy needs the time that the GPUs were at work.
        assert math.isfinite(task.seconds) == (task.boundary == "gpu"), task.name
        assert task.source and task.energy_j > 0
    story = {task.name: task.energy_j for task in tasks}
    assert story["stable-diffusion-3-medium"] == 2282
    assert story["cogvideox"] == 3.4e6


def test_embeddings_follow_the_law_of_prompts() -> None:
    (llama,) = (m for m in shipped_models() if (m.model, m.gpu) == ("llama-3.1-8b", "H100"))
    sizes = {"qwen3-embedding-0.6b": 0.6, "bge-large-en-v1.5": 0.335, "e5-mistral-7b": 7.11}
    for task in shipped_tasks():
        if task.kind == "embedding":
            work = sizes[task.name] / llama.active_params_b
            joules = llama.prompt_ms_per_token * 512 * work / 1000.0 * llama.prompt_w
            assert task.energy_j == pytest.approx(joules, rel=0.02), task.name
            assert task.provenance is Provenance.ESTIMATED


def test_what_is_not_published_is_not_a_number() -> None:
    figures = {figure.name: figure for figure in shipped_published()}
    assert math.isnan(figures["Mistral Large 2"].energy_j)
    assert figures["Mistral Large 2"].co2_g == 1.14
    assert figures["Gemini, median text prompt"].energy_j == pytest.approx(0.24 * 3600)
    assert math.isnan(figures["ChatGPT"].co2_g)
    assert {thing.quantity for thing in shipped_everyday()} == {"joules", "grams"}


def test_a_row_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped_everyday.cache_clear()
    monkeypatch.setattr(tables.csv, "DictReader", broken)
    try:
        with pytest.raises(TraceError, match=r"energy_everyday.csv: row 2: unusable"):
            shipped_everyday()
    finally:
        shipped_everyday.cache_clear()


def broken(lines: list[str], strict: bool) -> csv.DictReader[str]:
    return real([lines[0], "a thing,joules,much,nobody"], strict=strict)


real = csv.DictReader


def tool(name: str) -> ModuleType:
    if not FOLDER.is_dir() or not (ROOT / "tools").is_dir():
        pytest.skip(f"the measured sets are not at {FOLDER}: models NOT recomputed")
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def test_the_models_are_what_the_sets_give() -> None:
    build = tool("build_energy_models")
    text = resources.files("router.data").joinpath("energy_models.csv").read_text("utf-8")
    assert build.build(FOLDER) == text


def test_measured_joules_a_token_are_met_again() -> None:
    serving_fit = tool("serving_fit")
    runs = serving_fit.read_runs(FOLDER / "mlenergy_v3_llm_h100_b200.csv", "lm-arena-chat")
    run = runs["llama-3.1-70b@4xh100"]
    (model,) = (m for m in shipped_models() if (m.model, m.gpu) == ("llama-3.1-70b", "H100"))
    prompt_j = (
        model.prompt_w
        / 1000.0
        * (224 * model.prompt_ms_per_token + 224**2 / 2 * model.prompt_ms_per_token2)
    )
    for point in model.points[1:]:
        at = int(abs(run.batch - point.batch).argmin())
        decode_j = point.step_w * point.step_ms / 1000.0 / point.batch
        whole_j = decode_j + prompt_j / run.answer_tokens[at]
        assert whole_j == pytest.approx(run.j_per_token[at], rel=0.01)
