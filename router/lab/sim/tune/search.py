"""Search a policy's free parameters for the least of a figure under constraints on others.

Trials are proposed in batches of a fixed size and answered in their order, so that the same seed
finds the same policy however many processes run them. Every trial is one whole simulation of the
training span.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol

from pydantic import ValidationError

from router.config.free_parameters import FreeSchema, value_of, with_values
from router.config.policy import PolicySchema
from router.config.problems import from_validation
from router.errors import ConfigError
from router.lab.sim.tune.figures import FIGURES, Constraint, Figures
from router.lab.sim.tune.proposals import Proposals
from router.lab.sim.tune.values import Goal, Trial
from router.model import Policy, Signal

# A search must not win by serving less: without a constraint of the operator's own, these may not
# fall below those of the untuned policy by more.
SLACK: Final = 0.001


class Evaluation(NamedTuple):
    """One simulation. ``span``: field of `router.lab.sim.tune.train_test.Spans`."""

    span: str
    policy: Policy


class Evaluator(Protocol):
    """Runs simulations, in whatever order suits it."""

    def run(self, evaluations: Sequence[Evaluation]) -> Iterator[tuple[int, Figures]]:
        """(place, figures) of each as it is done. Closing it early drops the rest."""
        ...


class Subject(NamedTuple):
    """The policy that is tuned. ``name``: what it is called where it names itself nothing."""

    schema: PolicySchema
    name: str
    signal: Signal

    def policy(self, values: Mapping[str, Any] | None = None) -> Policy:
        """With ``values`` in place of its own. Raises ConfigError when they cannot go together.

        All bear one name, so that ties are drawn by the same random numbers in every trial.
        """
        try:
            schema = with_values(self.schema, values or {})
        except ValidationError as error:
            found = from_validation(error, PolicySchema, {})
            shown = ", ".join(f"{path} {value}" for path, value in (values or {}).items())
            raise ConfigError(
                f"policy {self.name}",
                [("free", f"{shown} cannot go together: {text}") for _, text in found],
            ) from error
        return schema.build(self.name, self.signal)


@dataclass(slots=True)
class Search:
    """What a search found on the training span: material, not yet a result.

    ``constraints``: the operator's and the tuner's own; ``untuned``: the policy as it was;
    ``stopped``: it was interrupted.
    """

    goal: Goal
    untuned: Figures
    constraints: tuple[Constraint, ...]
    trials: list[Trial] = field(default_factory=list)
    stopped: bool = False

    @property
    def count(self) -> int:
        """Trials that were run."""
        return sum(trial.number >= 0 for trial in self.trials)

    def best(self) -> Trial | None:
        """The feasible trial with the least of the first figure; None where none is feasible."""
        feasible = [trial for trial in self.trials if trial.feasible]
        return min(feasible, key=lambda trial: self._rank(trial), default=None)

    def nearest(self) -> Trial | None:
        """The trial that breaks the constraints least."""
        return min(self.trials, key=lambda t: (t.excess, *self._rank(t)), default=None)

    def _rank(self, trial: Trial) -> tuple[float, ...]:
        return (*(_known(trial.figures[name]) for name in self.goal.minimise), trial.number)


def front(trials: Sequence[Trial], names: tuple[str, str]) -> list[Trial]:
    """The feasible trials that no other feasible one beats in both figures (least is best)."""
    ranked = sorted(
        (trial for trial in trials if trial.feasible),
        key=lambda t: (*(_known(t.figures[name]) for name in names), t.number),
    )
    found: list[Trial] = []
    least = math.inf
    for trial in ranked:
        value = _known(trial.figures[names[1]])
        if value < least:
            found.append(trial)
            least = value
    return found


def search(
    subject: Subject,
    goal: Goal,
    evaluator: Evaluator,
    on_batch: Callable[[Search], None] = lambda found: None,
) -> Search:
    """Run the trials; ``on_batch`` is called with the search after each batch. An interrupt
    (Ctrl-C) ends it early, with what it has. Raises ConfigError without optuna or free parameters.
    """
    free = subject.schema.free
    if not free:
        text = (
            "nothing is free to be tuned; name fields and ranges in the policy file, such as "
            "free: {near_tie: {low: 0, high: 0.1}, spread: [pack, spread]}"
        )
        raise ConfigError(f"policy {subject.name}", [("free", text)])
    proposals = Proposals(free, goal)
    ((_, untuned),) = evaluator.run([Evaluation("train", subject.policy())])
    found = Search(goal, untuned, (*goal.constraints, *_own(goal.constraints, untuned)))
    known = {}
    current = {path: value_of(subject.schema, path) for path in free}
    if all(_inside(free[path], value) for path, value in current.items()):
        proposals.start_with(current)
        known[_key(current)] = untuned
    else:
        found.trials.append(Trial(-1, current, untuned, found.constraints))
    try:
        for first in range(0, goal.trials, goal.batch):
            asked = proposals.ask(min(goal.batch, goal.trials - first))
            _run_batch(subject, asked, known, found, evaluator, proposals.tell)
            on_batch(found)
    except KeyboardInterrupt:
        found.stopped = True
        on_batch(found)
    return found


def rebased(constraints: Sequence[Constraint], untuned: Figures) -> tuple[Constraint, ...]:
    """``constraints`` with the tuner's own set by what the untuned policy does on another span."""
    return tuple(
        replace(constraint, limit=max(0.0, untuned[constraint.figure] - SLACK))
        if constraint.own
        else constraint
        for constraint in constraints
    )


def _run_batch(
    subject: Subject,
    asked: Sequence[tuple[int, Mapping[str, Any]]],
    known: dict[tuple[Any, ...], Figures],
    found: Search,
    evaluator: Evaluator,
    tell: Callable[[Trial], None],
) -> None:
    """Simulate what is not known yet, then book and tell every trial in order of its number."""
    fresh = {_key(values): values for _, values in asked if _key(values) not in known}
    evaluations: dict[tuple[Any, ...], Evaluation] = {}
    for key, values in fresh.items():
        try:
            evaluations[key] = Evaluation("train", subject.policy(values))
        except ConfigError:
            # Each value is legal, but not beside the others (all weights 0): as bad as can be.
            known[key] = dict.fromkeys(FIGURES, math.nan)
    keys = list(evaluations)
    try:
        if evaluations:
            with closing(_generator(evaluator.run(list(evaluations.values())))) as results:
                for place, figures in results:
                    known[keys[place]] = figures
    finally:
        for number, values in asked:
            if _key(values) in known:
                trial = Trial(number, values, known[_key(values)], found.constraints)
                found.trials.append(trial)
                tell(trial)


def _generator(results: Iterator[tuple[int, Figures]]) -> Any:
    """``results`` as something that can be closed."""
    return results if hasattr(results, "close") else (result for result in results)


def _own(constraints: Sequence[Constraint], untuned: Figures) -> list[Constraint]:
    """What the tuner itself asks where the operator does not say."""
    wanted = ["completed"] if constraints else ["completed", "slo"]
    limited = {constraint.figure for constraint in constraints if constraint.least}
    return [
        Constraint(name, True, max(0.0, untuned[name] - SLACK), own=True)
        for name in wanted
        if name not in limited
    ]


def _inside(wanted: FreeSchema, value: Any) -> bool:
    if wanted.values is not None:
        return value in wanted.values
    low, high = wanted.ends()
    return isinstance(value, float) and float(low) <= value <= float(high)


def _key(values: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(values.items())


def _known(value: float) -> float:
    """What is not known ranks last."""
    return math.inf if math.isnan(value) else value
