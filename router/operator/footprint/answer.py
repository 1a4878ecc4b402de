"""Joules of one answer, prompt and answer apart, within the facility's boundary."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from router.model import Provenance
from router.operator.footprint.tables import (
    HOST_W_PER_GPU,
    ModelEnergy,
    ServingPoint,
    TaskEnergy,
)
from router.units import MS_PER_S

# Mean of the fleet averages of AWS (1.135), Azure (1.185) and Google Cloud (1.10) for 2024:
# router/data/cloud_regions.csv.
DEFAULT_PUE: Final = 1.14
DEFAULT_PUE_SOURCE: Final = "mean of the fleets of AWS, Azure and Google, 2024"
# What a longer context adds to a step is estimated. An answer counts as measured while that is no
# more than half of what was measured.
_ESTIMATED_PART: Final = 0.5


class AnswerEnergy(NamedTuple):
    """Joules of one answer at one load, or of one unit of another task.

    GPU energy of the prompt and of the answer, host energy of both, and ``facility_j``: all of it
    times PUE. ``batch`` NaN where there is none. ``provenance``: of the answer's GPU energy,
    estimated also where contexts are far from those measured; that of the prompt and of the host
    is always estimated.
    """

    load: str
    batch: float
    prompt_j: float
    answer_j: float
    host_j: float
    facility_j: float
    provenance: Provenance


def answer_energies(
    model: ModelEnergy, prompt_tokens: float, answer_tokens: float, pue: float
) -> tuple[AnswerEnergy, ...]:
    """One answer of ``answer_tokens`` to ``prompt_tokens``, at each load of the model's table."""
    return tuple(_at(model, point, prompt_tokens, answer_tokens, pue) for point in model.points)


def _at(
    model: ModelEnergy, point: ServingPoint, prompt: float, answer: float, pue: float
) -> AnswerEnergy:
    prompt_s = prompt_time_ms(model, prompt) / MS_PER_S
    # A step serves every sequence of the batch; this one brings its own cached tokens.
    more_cached = prompt + answer / 2.0 - model.cached_tokens
    measured_ms = point.step_ms / point.batch
    context_ms = model.ms_per_cached_token * more_cached
    own_ms = measured_ms + context_ms
    far = abs(context_ms) > _ESTIMATED_PART * measured_ms
    answer_s = answer * max(own_ms, 0.0) / MS_PER_S
    prompt_j, answer_j = model.prompt_w * prompt_s, point.step_w * answer_s
    host_j = model.host_w * (prompt_s + answer_s)
    return AnswerEnergy(
        load=point.load,
        batch=point.batch,
        prompt_j=prompt_j,
        answer_j=answer_j,
        host_j=host_j,
        facility_j=(prompt_j + answer_j + host_j) * pue,
        provenance=Provenance.ESTIMATED if far else point.provenance,
    )


def prompt_time_ms(model: ModelEnergy, tokens: float) -> float:
    """GPU time of one prompt, ms, in one piece."""
    return (
        model.prompt_ms_per_piece
        + model.prompt_ms_per_token * tokens
        + model.prompt_ms_per_token2 * tokens**2 / 2.0
    )


def task_energy(task: TaskEnergy, pue: float) -> AnswerEnergy:
    """One unit of another task; host energy is NaN where the figure has it inside."""
    host_j = HOST_W_PER_GPU * task.gpus * task.seconds if task.boundary == "gpu" else math.nan
    known_j = host_j if math.isfinite(host_j) else 0.0
    return AnswerEnergy(
        load=task.made,
        batch=math.nan,
        prompt_j=math.nan,
        answer_j=task.energy_j,
        host_j=host_j,
        facility_j=(task.energy_j + known_j) * pue,
        provenance=task.provenance,
    )
