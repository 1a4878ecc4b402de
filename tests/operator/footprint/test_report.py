from __future__ import annotations

import math

import pytest

from router.errors import ConfigError
from router.operator.footprint.report import EnergyQuestion, equal_batch, report


def test_the_two_places_of_the_story_stand_where_none_is_named() -> None:
    told = report(EnergyQuestion(("llama-3.1-8b", "flux.1-dev")))
    assert [place.zone for place in told.places] == ["US-CAL-CISO", "US-MIDA-PJM"]
    assert [one.unit for one in told.asked] == ["answer", "image"]
    model, image = told.asked
    assert model.grams(told.places[0]) < model.grams(told.places[1])
    assert model.grams(told.places[0]) == pytest.approx(
        model.usual.facility_j / 3.6e6 * told.places[0].g_per_kwh
    )
    assert image.usual.facility_j > 100 * model.usual.facility_j
    assert (model.title, image.title) == ("llama-3.1-8b, 1x H100", "flux.1-dev, 1x H100")


def test_published_figures_stand_beside_ours_of_the_same_model() -> None:
    told = report(EnergyQuestion(("qwen3-8b",)))
    by_name = {compared.figure.name: compared for compared in told.published}
    small = by_name["Llama 3.1 8B, MIT Technology Review"]
    alone, typical, full = small.ours
    assert full.facility_j <= typical.facility_j < small.figure.energy_j < alone.facility_j
    assert 2 < equal_batch(small) < typical.batch
    assert by_name["ChatGPT"].ours == ()
    assert math.isnan(equal_batch(by_name["ChatGPT"]))
    assert math.isnan(equal_batch(by_name["Mistral Large 2"]))


def test_a_published_length_is_ours_too() -> None:
    def of(name: str, answer_tokens: int) -> float:
        told = report(EnergyQuestion(("qwen3-8b",), answer_tokens=answer_tokens))
        (found,) = (one for one in told.published if one.figure.name == name)
        return found.ours[0].facility_j

    assert of("Mistral Large 2", 100) == of("Mistral Large 2", 400) == of("Mistral Large 2", 900)
    story = "Llama 3.1 8B, MIT Technology Review"
    assert of(story, 100) < of(story, 400)


def test_images_and_video_stand_beside_the_story_one_at_a_time() -> None:
    told = report(EnergyQuestion(("qwen3-8b",)))
    image, video = (
        one
        for one in told.published
        if one.figure.like in ("stable-diffusion-3.5-medium", "cogvideox1.5-5b")
    )
    assert (len(image.ours), len(video.ours)) == (1, 1)
    assert image.ours[0].facility_j == pytest.approx(image.figure.energy_j, rel=0.05)
    assert video.ours[0].facility_j < video.figure.energy_j
    assert math.isnan(equal_batch(image))


def test_own_figures_replace_the_defaults() -> None:
    told = report(EnergyQuestion(("qwen3-8b",), g_per_kwh=500.0, pue=1.5))
    assert [place.g_per_kwh for place in told.places] == [500.0]
    assert (told.pue, told.pue_source) == (1.5, "as given")
    both = report(EnergyQuestion(("qwen3-8b",), zones=("DE",), g_per_kwh=500.0))
    assert [place.label for place in both.places] == ["Germany", "your figure"]


def test_a_model_of_known_size_is_estimated() -> None:
    told = report(EnergyQuestion(("ours",), params_b=12.0, total_params_b=100.0, gpu="B200"))
    (one,) = told.asked
    assert one.title.startswith("ours, ") and one.title.endswith("B200")


@pytest.mark.parametrize(
    ("question", "option"),
    [
        (EnergyQuestion(()), "MODEL"),
        (EnergyQuestion(("qwen3-8b",), prompt_tokens=0), "--prompt"),
        (EnergyQuestion(("qwen3-8b",), answer_tokens=-5), "--answer"),
        (EnergyQuestion(("qwen3-8b",), answer_tokens=10**9), "--answer"),
        (EnergyQuestion(("qwen3-8b",), pue=0.9), "--pue"),
        (EnergyQuestion(("qwen3-8b",), pue=math.nan), "--pue"),
        (EnergyQuestion(("qwen3-8b",), pue=math.inf), "--pue"),
        (EnergyQuestion(("qwen3-8b",), g_per_kwh=math.nan), "--g-per-kwh"),
        (EnergyQuestion(("qwen3-8b",), g_per_kwh=math.inf), "--g-per-kwh"),
        (EnergyQuestion(("x",), params_b=math.nan), "--params"),
        (EnergyQuestion(("x",), params_b=9.0, total_params_b=math.inf), "--params"),
        (EnergyQuestion(("qwen3-8b",), total_params_b=9.0), "--total-params"),
        (EnergyQuestion(("x",), params_b=9.0, gpu="all"), "--gpu"),
    ],
)
def test_what_cannot_be_is_told_by_option(question: EnergyQuestion, option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        report(question)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        report(EnergyQuestion(("qwen3-8b",), prompt_tokens=0, answer_tokens=0))
    assert len(caught.value.problems) == 2
