"""What a search is for, and what one trial of it came to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from router.lab.sim.tune.figures import Constraint, Figures


@dataclass(frozen=True, slots=True)
class Goal:
    """What a search is for. ``minimise``: figures, the first one decides which trial wins;
    ``batch``: trials proposed at a time, which the result depends on.
    """

    minimise: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    trials: int
    batch: int
    seed: int


class Trial(NamedTuple):
    """One set of values and the figures of the training span under it.

    Number -1: the policy as it is, where its values lie outside what is free.
    """

    number: int
    values: Mapping[str, Any]
    figures: Figures
    constraints: tuple[Constraint, ...]

    @property
    def excess(self) -> float:
        """Sum of what it breaks the constraints by; 0 where it holds them all."""
        return math.fsum(
            max(0.0, constraint.excess(self.figures)) for constraint in self.constraints
        )

    @property
    def feasible(self) -> bool:
        return self.excess <= 0.0
