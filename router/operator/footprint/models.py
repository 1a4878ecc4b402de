"""Finding the model that somebody asks about, or estimating one by its size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from router.config.problems import nearest
from router.errors import ConfigError
from router.model import Provenance
from router.operator.footprint.tables import (
    LOADS,
    ModelEnergy,
    TaskEnergy,
    shipped_models,
    shipped_tasks,
)

# Of the cards that a model was measured on, the first of these is meant where none is named.
GPUS: Final = ("H100", "B200", "A100-40GB")
ALL_GPUS: Final = "all"
_FEWEST: Final = 6


def find(name: str, gpu: str) -> tuple[ModelEnergy, ...] | TaskEnergy:
    """What is known of ``name``: on ``gpu``, on each with ``all``, on the first of GPUS with "".

    Raises ConfigError for an unknown name or one that was not measured on ``gpu``, with the fix.
    """
    gpu = _card(gpu)
    wanted = name.strip().lower().rpartition("/")[2]
    for task in shipped_tasks():
        if task.name == wanted:
            return task
    rows = [row for row in shipped_models() if row.model == wanted]
    if not rows:
        raise ConfigError("energy", [("MODEL", _unknown(name, wanted))])
    if gpu == ALL_GPUS:
        return tuple(sorted(rows, key=lambda row: GPUS.index(row.gpu)))
    on = gpu or next(card for card in GPUS if any(row.gpu == card for row in rows))
    chosen = tuple(row for row in rows if row.gpu == on)
    if not chosen:
        cards = ", ".join(row.gpu for row in rows)
        fix = f"{wanted} was measured on {cards}, not on {gpu}; name one of those, or estimate it"
        sizes = f"--params {rows[0].active_params_b:g} --total-params {rows[0].total_params_b:g}"
        raise ConfigError("energy", [("--gpu", f"{fix}: another name of your own with {sizes}")])
    return chosen


def estimate(name: str, active_b: float, total_b: float, gpu: str) -> ModelEnergy:
    """A model of ``active_b`` of ``total_b`` billion parameters, from those measured on ``gpu``.

    J per token at each load by least squares of its logarithm over those of active parameters and
    of total over active ones, on the newest set of that GPU; all else as the measured model nearest
    in size. Beyond the sizes that were measured how far off it is is not known, and it says so.
    Raises ConfigError for sizes that cannot be.
    """
    gpu = _card(gpu)
    if not (0.0 < active_b <= total_b < math.inf):
        fix = f"0 < --params <= --total-params, in billions; they are {active_b:g} and {total_b:g}"
        raise ConfigError("energy", [("--params", fix)])
    card = gpu if gpu and gpu != ALL_GPUS else GPUS[0]
    rows = [row for row in shipped_models() if row.gpu == card]
    newest = max(row.data_set for row in rows)
    rows = [row for row in rows if row.data_set == newest]
    like = min(rows, key=lambda row: _unlike(row, active_b, total_b))
    points, spreads = [], []
    for index, load in enumerate(LOADS):
        j_per_token, spread = _by_size(rows, index, active_b, total_b)
        point = like.points[index]
        step_ms = j_per_token * point.batch / point.step_w * 1000.0
        points.append(point._replace(load=load, step_ms=step_ms, provenance=Provenance.ESTIMATED))
        spreads.append(spread)
    work = active_b / like.active_params_b
    outside = _outside(rows, active_b, total_b)
    return replace(
        like,
        model=name,
        active_params_b=active_b,
        total_params_b=total_b,
        prompt_ms_per_token=like.prompt_ms_per_token * work,
        prompt_ms_per_token2=like.prompt_ms_per_token2 * work,
        points=tuple(points),
        source=f"by size, from {len(rows)} models measured on {card}; the rest as {like.model}"
        + outside,
        spread=math.nan if outside else max(spreads),
    )


def _outside(rows: Sequence[ModelEnergy], active_b: float, total_b: float) -> str:
    """Where the sizes lie beyond all that were measured, the words for it; else ""."""
    active = [row.active_params_b for row in rows]
    sparse = [row.total_params_b / row.active_params_b for row in rows]
    if min(active) <= active_b <= max(active) and total_b / active_b <= max(sparse):
        return ""
    return (
        f"; beyond those measured ({min(active):g} to {max(active):g} billion active, up to "
        f"{max(sparse):.0f} times as many in all): how far off is not known"
    )


def _unlike(row: ModelEnergy, active_b: float, total_b: float) -> float:
    sizes = (row.active_params_b / active_b, row.total_params_b / total_b)
    return sum(abs(math.log(ratio)) for ratio in sizes)


def _by_size(
    rows: Sequence[ModelEnergy], index: int, active_b: float, total_b: float
) -> tuple[float, float]:
    """J per token of one load, and the factor of one standard deviation around it."""
    sizes = np.array(
        [
            [1.0, math.log(r.active_params_b), math.log(r.total_params_b / r.active_params_b)]
            for r in rows
        ]
    )
    points = [row.points[index] for row in rows]
    joules = np.log([point.step_w * point.step_ms / 1000.0 / point.batch for point in points])
    terms, *_ = np.linalg.lstsq(sizes, joules, rcond=None)
    left = joules - sizes @ terms
    freedom = max(1, len(rows) - len(terms))
    spread = math.exp(math.sqrt(float(left @ left) / freedom))
    asked = np.array([1.0, math.log(active_b), math.log(total_b / active_b)])
    return math.exp(float(asked @ terms)), spread


def _card(gpu: str) -> str:
    for known in ("", ALL_GPUS, *GPUS):
        if gpu.lower() == known.lower():
            return known
    fix = f"{gpu!r} is not among {', '.join((*GPUS, ALL_GPUS))}"
    raise ConfigError("energy", [("--gpu", fix)])


def _unknown(name: str, wanted: str) -> str:
    names = sorted({row.model for row in shipped_models()} | {t.name for t in shipped_tasks()})
    begun = [known for known in names if known.startswith(wanted[:_FEWEST])]
    guess = nearest(wanted, names)
    hint = f"did you mean {guess!r}?" if guess else "carbon-router energy --list shows all"
    if begun and guess is None:
        hint = f"there are {', '.join(begun[:_FEWEST])}"
    size = "or give its size: --params ACTIVE [--total-params ALL], in billions"
    return f"{name!r} is not among the models measured; {hint}; {size}"
