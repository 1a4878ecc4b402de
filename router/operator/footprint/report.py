"""Everything that `carbon-router energy` shows, before it is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from router.errors import ConfigError
from router.operator.footprint.answer import (
    DEFAULT_PUE,
    DEFAULT_PUE_SOURCE,
    AnswerEnergy,
    answer_energies,
    task_energy,
)
from router.operator.footprint.models import ALL_GPUS, estimate, find
from router.operator.footprint.places import (
    CALIFORNIA,
    WEST_VIRGINIA,
    PlaceIntensity,
    own_place,
    places,
)
from router.operator.footprint.tables import (
    ModelEnergy,
    PublishedFigure,
    TaskEnergy,
    shipped_published,
)
from router.units import grams

TYPICAL: Final = 1
_MOST_TOKENS: Final = 1_000_000
_MOST_PUE: Final = 5.0


class Compared(NamedTuple):
    """A published figure and ours of the same model, at each load; () where there is none.

    Ours is of an answer of the published length, where that is known, else of the one asked for.
    Of images and video there is one load: they were measured one at a time.
    """

    figure: PublishedFigure
    ours: tuple[AnswerEnergy, ...]


@dataclass(frozen=True, slots=True)
class EnergyQuestion:
    """What is asked; None: not said. ``at``: unix seconds, else the year. ``g_per_kwh``: gCO2e.
    ``params_b``, ``total_params_b``: active and all parameters, billions, else looked up.
    """

    models: tuple[str, ...]
    prompt_tokens: int = 500
    answer_tokens: int = 300
    gpu: str = ""
    zones: tuple[str, ...] = ()
    at: float | None = None
    g_per_kwh: float | None = None
    pue: float | None = None
    params_b: float | None = None
    total_params_b: float | None = None


@dataclass(frozen=True, slots=True)
class AskedModel:
    """One model, or other task, and what it costs; ``energies`` by load, one for a task."""

    about: ModelEnergy | TaskEnergy
    energies: tuple[AnswerEnergy, ...]

    @property
    def title(self) -> str:
        """``llama-3.1-8b, 1x H100``."""
        about = self.about
        if isinstance(about, ModelEnergy):
            return f"{about.model}, {about.gpus}x {about.gpu}"
        return f"{about.name}, {about.gpus:.0f}x {about.gpu}" if about.gpu else about.name

    @property
    def unit(self) -> str:
        """What one of them is."""
        return "answer" if isinstance(self.about, ModelEnergy) else self.about.unit

    @property
    def usual(self) -> AnswerEnergy:
        """At the typical load."""
        return self.energies[min(TYPICAL, len(self.energies) - 1)]

    def grams(self, place: PlaceIntensity) -> float:
        """gCO2e of one of them in ``place``, at the typical load."""
        return grams(self.usual.facility_j, place.g_per_kwh)


@dataclass(frozen=True, slots=True)
class EnergyReport:
    """The question, its answers, the places, and what others published."""

    question: EnergyQuestion
    pue: float
    pue_source: str
    asked: tuple[AskedModel, ...]
    places: tuple[PlaceIntensity, ...]
    published: tuple[Compared, ...]


def report(question: EnergyQuestion) -> EnergyReport:
    """Look everything up. Raises ConfigError naming the option, what is wrong and the fix."""
    _check(question)
    pue = DEFAULT_PUE if question.pue is None else question.pue
    asked = tuple(one for name in question.models for one in _asked(name, question, pue))
    zones = question.zones or (CALIFORNIA, WEST_VIRGINIA)
    where = places(zones, question.at)
    if question.g_per_kwh is not None:
        own = (own_place(question.g_per_kwh),)
        where = own if not question.zones else (*where, *own)
    return EnergyReport(
        question=question,
        pue=pue,
        pue_source=DEFAULT_PUE_SOURCE if question.pue is None else "as given",
        asked=asked,
        places=where,
        published=tuple(_compared(figure, question, pue) for figure in shipped_published()),
    )


def equal_batch(compared: Compared) -> float:
    """How many answers at a time would make ours cost what the figure says, NaN where none would.

    Between one alone and the typical load joules go with 1 / batch, but for what is each one's own.
    """
    if len(compared.ours) <= TYPICAL or not math.isfinite(compared.figure.energy_j):
        return math.nan
    alone, typical = compared.ours[0], compared.ours[TYPICAL]
    shared_j = (alone.facility_j - typical.facility_j) / (1.0 - 1.0 / typical.batch)
    own_j = alone.facility_j - shared_j
    above_j = compared.figure.energy_j - own_j
    return shared_j / above_j if above_j > 0.0 else math.nan


def _asked(name: str, question: EnergyQuestion, pue: float) -> tuple[AskedModel, ...]:
    if question.params_b is not None:
        total = question.total_params_b
        total = question.params_b if total is None else total
        found: tuple[ModelEnergy, ...] | TaskEnergy = (
            estimate(name, question.params_b, total, question.gpu),
        )
    else:
        found = find(name, question.gpu)
    if isinstance(found, TaskEnergy):
        return (AskedModel(found, (task_energy(found, pue),)),)
    lengths = (question.prompt_tokens, question.answer_tokens)
    return tuple(AskedModel(model, answer_energies(model, *lengths, pue)) for model in found)


def _compared(figure: PublishedFigure, question: EnergyQuestion, pue: float) -> Compared:
    if not figure.like:
        return Compared(figure, ())
    found = find(figure.like, "")
    if isinstance(found, TaskEnergy):
        return Compared(figure, (task_energy(found, pue),))
    said = math.isfinite(figure.answer_tokens)
    answer_tokens = figure.answer_tokens if said else question.answer_tokens
    lengths = (question.prompt_tokens, answer_tokens)
    return Compared(figure, answer_energies(found[0], *lengths, pue))


def _check(question: EnergyQuestion) -> None:
    problems: list[tuple[str, str]] = []
    if not question.models:
        fix = "name at least one model, such as llama-3.1-8b; --list shows all"
        problems.append(("MODEL", fix))
    for option, tokens in (
        ("--prompt", question.prompt_tokens),
        ("--answer", question.answer_tokens),
    ):
        if not 1 <= tokens <= _MOST_TOKENS:
            fix = f"a number of tokens from 1 to {_MOST_TOKENS}; it is {tokens}"
            problems.append((option, fix))
    if question.pue is not None and not 1.0 <= question.pue <= _MOST_PUE:
        fix = f"facility over IT energy, from 1 to {_MOST_PUE:g}; it is {question.pue:g}"
        problems.append(("--pue", fix))
    if question.total_params_b is not None and question.params_b is None:
        problems.append(("--total-params", "says nothing without --params, the active ones"))
    if question.params_b is not None and question.gpu == ALL_GPUS:
        problems.append(("--gpu", "an estimate by --params is of one kind of GPU; name it"))
    if problems:
        raise ConfigError("energy", problems)
