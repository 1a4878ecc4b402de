"""The shipped tables of `carbon-router energy`: models, other tasks, everyday things, what others
published. Their columns and sources: ``router/data/README.md``.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, NamedTuple, TypeVar

from router.errors import TraceError
from router.model import Provenance

Row = TypeVar("Row")

# CPU and DRAM beside one GPU while it works: nine runs drew 199 to 212 W beside two.
HOST_W_PER_GPU: Final = 105.0
LOADS: Final = ("alone", "typical", "full")


class ServingPoint(NamedTuple):
    """A replica that decodes ``batch`` sequences of the table's usual length at once, no prompts.

    ``step_ms``: one token of each of them; ``step_w``: GPU power meanwhile.
    """

    load: str
    batch: float
    step_ms: float
    step_w: float
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class ModelEnergy:
    """A model on one GPU group: what decoding and reading prompts take.

    ``cached_tokens``: what each sequence of the points had cached; each more adds
    ``ms_per_cached_token`` to a step. A prompt of n tokens takes ``prompt_ms_per_piece`` +
    ``prompt_ms_per_token`` n + ``prompt_ms_per_token2`` n^2 / 2 at ``prompt_w``, estimated.
    ``spread``: the factor within which two thirds of such estimates lie; NaN where measured.
    """

    model: str
    gpu: str
    gpus: int
    precision: str
    active_params_b: float
    total_params_b: float
    cached_tokens: float
    ms_per_cached_token: float
    prompt_ms_per_piece: float
    prompt_ms_per_token: float
    prompt_ms_per_token2: float
    prompt_w: float
    points: tuple[ServingPoint, ...]
    data_set: str
    source: str
    spread: float = math.nan

    @property
    def host_w(self) -> float:
        """CPU and DRAM while it works, W; estimated."""
        return HOST_W_PER_GPU * self.gpus


@dataclass(frozen=True, slots=True)
class TaskEnergy:
    """A model that is asked for something else than text: ``energy_j`` a ``unit``.

    ``boundary``: ``gpu``, or ``server`` where CPU and DRAM are in ``energy_j``. ``seconds`` of
    ``gpus`` GPUs a unit; NaN where the boundary is ``server``.
    """

    name: str
    kind: str
    unit: str
    made: str
    gpu: str
    gpus: float
    energy_j: float
    seconds: float
    boundary: str
    provenance: Provenance
    source: str


class EverydayThing(NamedTuple):
    """``value`` joules, or grams, of one of them."""

    thing: str
    quantity: str
    value: float
    source: str


class PublishedFigure(NamedTuple):
    """What somebody published of one answer; NaN where they did not. ``like``: our name of it."""

    name: str
    like: str
    what: str
    answer_tokens: float
    energy_j: float
    co2_g: float
    basis: str
    boundary: str
    known: str
    source: str


@cache
def shipped_models() -> tuple[ModelEnergy, ...]:
    """Every model on every kind of GPU, by name and then GPU. Raises TraceError."""
    return tuple(_read("energy_models.csv", _model))


@cache
def shipped_tasks() -> tuple[TaskEnergy, ...]:
    """Images, video, audio, embeddings and classic tasks. Raises TraceError."""
    return tuple(_read("energy_tasks.csv", _task))


@cache
def shipped_everyday() -> tuple[EverydayThing, ...]:
    """What people know. Raises TraceError."""
    return tuple(
        _read(
            "energy_everyday.csv",
            lambda row: EverydayThing(
                row["thing"], row["quantity"], float(row["value"]), row["source"]
            ),
        )
    )


@cache
def shipped_published() -> tuple[PublishedFigure, ...]:
    """What others published. Raises TraceError."""
    return tuple(_read("energy_published.csv", _published))


def _read(name: str, make: Callable[[Mapping[str, str]], Row]) -> Iterator[Row]:
    text = resources.files("router.data").joinpath(name).read_text("utf-8")
    reader = csv.DictReader(text.splitlines(), strict=True)
    for row in reader:
        try:
            yield make(row)
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(f"{name}: row {reader.line_num}: unusable: {error!r}") from error


def _model(row: Mapping[str, str]) -> ModelEnergy:
    set_name = {"mlenergy-v3": "V3 (vLLM 0.11)", "mlenergy-v2": "V2 (2024)"}[row["data_set"]]
    return ModelEnergy(
        model=row["model"],
        gpu=row["gpu"],
        gpus=int(row["gpus"]),
        precision=row["precision"],
        active_params_b=float(row["active_params_b"]),
        total_params_b=float(row["total_params_b"]),
        cached_tokens=float(row["cached_tokens"]),
        ms_per_cached_token=float(row["ms_per_cached_token"]),
        prompt_ms_per_piece=float(row["prompt_ms_per_piece"]),
        prompt_ms_per_token=float(row["prompt_ms_per_token"]),
        prompt_ms_per_token2=float(row["prompt_ms_per_token2"]),
        prompt_w=float(row["prompt_w"]),
        # No set has a run of one sequence alone: that point is drawn from the smallest batches.
        points=(
            ServingPoint(
                "alone", 1.0, float(row["alone_ms"]), float(row["alone_w"]), Provenance.ESTIMATED
            ),
            *(
                ServingPoint(
                    load,
                    float(row[f"{load}_batch"]),
                    float(row[f"{load}_ms"]),
                    float(row[f"{load}_w"]),
                    Provenance.MEASURED,
                )
                for load in LOADS[1:]
            ),
        ),
        data_set=row["data_set"],
        source=f"ML.ENERGY Benchmark {set_name}, {row['task']}",
    )


def _task(row: Mapping[str, str]) -> TaskEnergy:
    return TaskEnergy(
        name=row["name"],
        kind=row["kind"],
        unit=row["unit"],
        made=row["made"],
        gpu=row["gpu"],
        gpus=_known(row["gpus"]),
        energy_j=float(row["energy_j"]),
        seconds=_known(row["seconds"]),
        boundary=row["boundary"],
        provenance=Provenance(row["provenance"]),
        source=row["source"],
    )


def _published(row: Mapping[str, str]) -> PublishedFigure:
    return PublishedFigure(
        name=row["name"],
        like=row["like"],
        what=row["what"],
        answer_tokens=_known(row["answer_tokens"]),
        energy_j=_known(row["energy_j"]),
        co2_g=_known(row["co2_g"]),
        basis=row["basis"],
        boundary=row["boundary"],
        known=row["known"],
        source=row["source"],
    )


def _known(text: str) -> float:
    return float(text) if text else math.nan
