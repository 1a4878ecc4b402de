"""A policy's tuning as values: what it began with, what came of it, and how a command ends then."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from router.config.free_parameters import value_of, with_values
from router.config.policy import PolicySchema
from router.lab.sim.scenario.loading import Loaded
from router.lab.sim.tune.figures import Constraint, Figures
from router.lab.sim.tune.search import Search, rebased
from router.lab.sim.tune.train_test import Spans
from router.lab.sim.tune.values import Trial
from router.lab.study.input_files import Inputs

_INTERRUPTED: Final = 130
_FAILED: Final = 1


@dataclass(frozen=True, slots=True)
class PolicySource:
    """A policy file as it is. ``name``: what the policy calls itself, else the file."""

    schema: PolicySchema
    name: str
    text: str
    file: str

    @property
    def tuned_name(self) -> str:
        return self.name if self.name.endswith("-tuned") else f"{self.name}-tuned"


@dataclass(slots=True)
class Tuning:
    """Everything that came of it. Figures by policy, for the policies in ``rows``; the later span
    is empty where no trial was feasible, or its simulation was interrupted.

    ``wrote``: files by what they are.
    """

    loaded: Loaded
    inputs: Inputs
    spans: Spans
    source: PolicySource
    search: Search
    best: Trial | None
    train: dict[str, Figures] = field(default_factory=dict)
    test: dict[str, Figures] = field(default_factory=dict)
    wrote: dict[str, Path] = field(default_factory=dict)

    @property
    def tuned(self) -> str:
        return self.source.tuned_name

    @property
    def untuned(self) -> str:
        return f"{self.source.name} (untuned)"

    def changes(self) -> dict[str, Any]:
        """What differs in the tuned policy's file, by path."""
        assert self.best is not None
        schema = self.source.schema
        found = {p: value for p, value in self.best.values.items() if value != value_of(schema, p)}
        return found if schema.name is None else {**found, "name": self.tuned}

    def tuned_schema(self) -> PolicySchema:
        """The tuned policy's file as values."""
        return with_values(self.source.schema, self.changes())

    def broken(self) -> list[Constraint]:
        """Constraints that the tuned policy breaks on the later span."""
        constraints = rebased(self.search.constraints, self.test[self.untuned])
        return [
            constraint
            for constraint in constraints
            if constraint.excess(self.test[self.tuned]) > 0.0
        ]

    def gain(self) -> float:
        """Share of the untuned policy's first figure that is spared on the later span."""
        name = self.search.goal.minimise[0]
        before = self.test[self.untuned][name]
        return 1.0 - self.test[self.tuned][name] / before if before else 0.0

    @property
    def code(self) -> int:
        """The command's exit code."""
        if self.best is None:
            return _INTERRUPTED if self.search.stopped else _FAILED
        if not self.test:
            return _INTERRUPTED
        return _FAILED if self.broken() else 0
