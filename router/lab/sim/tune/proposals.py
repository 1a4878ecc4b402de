"""Which values a search tries next: Optuna's TPE for one figure, NSGA-II for several, both seeded
and with its constraints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from router.config.free_parameters import FreeSchema
from router.extras import need
from router.lab.sim.tune.values import Goal, Trial

_DIGITS: Final = 4
# What is not known breaks a constraint by so much.
_BROKEN: Final = 1e9


class Proposals:
    """What to try next. Raises ConfigError without optuna."""

    def __init__(self, free: Mapping[str, FreeSchema], goal: Goal) -> None:
        with need("sim", "tuning", file="tune"):
            import optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._free = free
        self._minimise = goal.minimise
        sampler: Any
        if len(goal.minimise) == 1:
            sampler = optuna.samplers.TPESampler(seed=goal.seed)
        else:
            size = min(50, max(goal.batch, goal.trials // 5, 4))
            sampler = optuna.samplers.NSGAIISampler(seed=goal.seed, population_size=size)
        self._study = optuna.create_study(
            sampler=sampler, directions=["minimize"] * len(goal.minimise)
        )
        self._failed = optuna.trial.TrialState.FAIL
        self._asked: dict[int, Any] = {}
        self._first: Mapping[str, Any] | None = None

    def start_with(self, values: Mapping[str, Any]) -> None:
        """Make ``values`` the first proposal."""
        self._first = values
        self._study.enqueue_trial(dict(values))

    def ask(self, count: int) -> list[tuple[int, dict[str, Any]]]:
        """Numbers and values of the next trials."""
        asked = []
        for _ in range(count):
            trial = self._study.ask()
            self._asked[trial.number] = trial
            values = {path: self._suggest(trial, path) for path in self._free}
            if trial.number == 0 and self._first is not None:
                values = dict(self._first)
            asked.append((trial.number, values))
        return asked

    def tell(self, trial: Trial) -> None:
        """What came of a proposal."""
        asked = self._asked.pop(trial.number)
        for constraint in trial.constraints:
            asked.set_constraint(str(constraint), min(_BROKEN, constraint.excess(trial.figures)))
        values = [trial.figures[name] for name in self._minimise]
        if any(math.isnan(value) for value in values):
            self._study.tell(asked, state=self._failed)
        else:
            self._study.tell(asked, values)

    def _suggest(self, trial: Any, path: str) -> Any:
        wanted = self._free[path]
        if wanted.values is not None:
            return trial.suggest_categorical(path, wanted.values)
        low, high = wanted.ends()
        value = trial.suggest_float(path, low, high, log=wanted.log)
        # What is tried is what can be read in the file.
        return min(max(float(f"{value:.{_DIGITS}g}"), low), high)
