from __future__ import annotations

import math

import pytest

from router.operator.footprint.answer import answer_energies, prompt_time_ms, task_energy
from router.operator.footprint.models import find
from router.operator.footprint.tables import ModelEnergy, TaskEnergy


def model(name: str) -> ModelEnergy:
    found = find(name, "H100")
    assert not isinstance(found, TaskEnergy)
    return found[0]


def task(name: str) -> TaskEnergy:
    found = find(name, "")
    assert isinstance(found, TaskEnergy)
    return found


def test_prompt_and_answer_are_apart_and_the_facility_holds_all() -> None:
    for cost in answer_energies(model("llama-3.1-70b"), 1000, 300, 1.2):
        gpu_j = cost.prompt_j + cost.answer_j
        assert cost.facility_j == pytest.approx((gpu_j + cost.host_j) * 1.2)
        # About 0.22 J a prompt token, whatever the load.
        assert cost.prompt_j == pytest.approx(235, rel=0.05)


def test_load_decides_what_an_answer_costs() -> None:
    alone, typical, full = answer_energies(model("llama-3.1-8b"), 100, 300, 1.0)
    assert alone.answer_j > 20 * typical.answer_j > 20 * full.answer_j
    assert alone.prompt_j == typical.prompt_j == full.prompt_j


def test_a_long_prompt_is_more_than_linear_and_makes_answers_dearer() -> None:
    dense = model("llama-3.1-8b")
    assert prompt_time_ms(dense, 20_000) > 2.2 * prompt_time_ms(dense, 10_000)
    short, long = (answer_energies(dense, n, 300, 1.0)[1] for n in (100, 20_000))
    assert long.answer_j > 3 * short.answer_j


def test_contexts_far_from_those_measured_are_estimated() -> None:
    usual = answer_energies(model("llama-3.1-8b"), 500, 300, 1.0)
    assert [str(cost.provenance) for cost in usual] == ["estimated", "measured", "measured"]
    far = answer_energies(model("llama-3.1-8b"), 100_000, 300, 1.0)
    assert {str(cost.provenance) for cost in far} == {"estimated"}


def test_a_tiny_answer_never_costs_less_than_nothing() -> None:
    thinking = model("gpt-oss-20b")
    assert all(cost.answer_j >= 0.0 for cost in answer_energies(thinking, 1, 1, 1.0))


def test_a_server_figure_has_its_host_inside() -> None:
    image = task_energy(task("flux.1-dev"), 1.1)
    assert image.host_j == pytest.approx(105 * 11.64)
    assert image.facility_j == pytest.approx((7948.6 + image.host_j) * 1.1)
    story = task_energy(task("stable-diffusion-3-medium"), 1.1)
    assert math.isnan(story.host_j) and math.isnan(story.prompt_j)
    assert story.facility_j == pytest.approx(2282 * 1.1)
