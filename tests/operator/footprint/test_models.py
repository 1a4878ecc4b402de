from __future__ import annotations

import math

import pytest

from router.errors import ConfigError
from router.model import Provenance
from router.operator.footprint.models import GPUS, estimate, find
from router.operator.footprint.tables import ModelEnergy, TaskEnergy, shipped_models


def test_a_model_is_found_on_the_first_gpu_that_knows_it() -> None:
    (model,) = found("meta-llama/Llama-3.1-8B")
    assert (model.model, model.gpu) == ("llama-3.1-8b", "H100")
    (newer,) = found("llama-3.1-8b", "b200")
    assert newer.gpu == "B200"
    (only,) = found("deepseek-v3.1")
    assert only.gpu == "B200"
    assert [model.gpu for model in found("llama-3.1-8b", "all")] == list(GPUS)


def found(name: str, gpu: str = "") -> tuple[ModelEnergy, ...]:
    rows = find(name, gpu)
    assert not isinstance(rows, TaskEnergy)
    return rows


def test_other_tasks_are_found_by_name() -> None:
    task = find("FLUX.1-dev", "")
    assert isinstance(task, TaskEnergy)
    assert task.unit == "image"


@pytest.mark.parametrize(
    ("name", "gpu", "words"),
    [
        ("lama-3.1-8b", "", ("MODEL", "did you mean 'llama-3.1-8b'?", "--params")),
        ("zzz", "", ("MODEL", "--list", "--params")),
        ("llama-3.1-8b", "T4", ("--gpu", "'T4'", "H100, B200, A100-40GB")),
        ("deepseek-v3.1", "H100", ("--gpu", "B200", "--params 37 --total-params 671")),
    ],
)
def test_what_is_not_known_says_where_and_how_to_fix(
    name: str, gpu: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        find(name, gpu)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_an_estimate_is_flagged_and_near_what_was_measured() -> None:
    off = []
    for model in shipped_models():
        if model.gpu != "H100" or model.data_set != "mlenergy-v3":
            continue
        made = estimate("x", model.active_params_b, model.total_params_b, "H100")
        assert all(point.provenance is Provenance.ESTIMATED for point in made.points)
        assert 1.0 < made.spread < 3.0
        joules, measured = (
            m.points[1].step_w * m.points[1].step_ms / m.points[1].batch for m in (made, model)
        )
        off.append(abs(math.log(joules / measured)) <= math.log(made.spread))
    # The spread is one standard deviation of the widest load.
    assert sum(off) / len(off) >= 0.6


def test_bigger_estimates_cost_more_and_sparse_ones_more_than_dense_ones_as_active() -> None:
    def typical_j(active: float, total: float) -> float:
        point = estimate("x", active, total, "H100").points[1]
        return point.step_w * point.step_ms / point.batch

    assert typical_j(3, 3) < typical_j(8, 8) < typical_j(70, 70) < typical_j(405, 405)
    assert typical_j(8, 8) < typical_j(8, 100)
    small, big = (estimate("x", size, size, "H100") for size in (8, 16))
    small_j, big_j = (made.prompt_w * made.prompt_ms_per_token for made in (small, big))
    assert big_j == pytest.approx(2 * small_j, rel=0.01)


@pytest.mark.parametrize(("active", "total"), [(0, 1), (-3, 8), (8, 7), (1, math.inf)])
def test_sizes_that_cannot_be_are_refused(active: float, total: float) -> None:
    with pytest.raises(ConfigError, match="--params"):
        estimate("x", active, total, "H100")


@pytest.mark.parametrize(("active_b", "total_b"), [(1e6, 1e6), (1e-3, 1e-3), (8.0, 8_000.0)])
def test_beyond_all_sizes_that_were_measured_no_factor_is_claimed(
    active_b: float, total_b: float
) -> None:
    made = estimate("x", active_b, total_b, "H100")
    assert math.isnan(made.spread) and "how far off is not known" in made.source
    inside = estimate("x", 8.0, 8.0, "H100")
    assert inside.spread > 1.0 and "not known" not in inside.source
