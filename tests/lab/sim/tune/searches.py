"""A search over figures that are known in advance."""

import math

from router.config.loading import parse_policy
from router.lab.sim.tune.figures import FIGURES, parse_constraint
from router.lab.sim.tune.search import Subject
from router.lab.sim.tune.values import Goal
from tests.factories import SIGNAL

FREE = {"near_tie": {"low": 0, "high": 1}, "pack_until": {"low": 0.5, "high": 1}}


def subject(free=FREE, **fields):
    known = {"weights": {"per_gco2e": 1.0}, "near_tie": 0.01, "pack_until": 0.9}
    values = {**known, **fields, "free": free}
    schema, _ = parse_policy(values, "p.yaml")
    return Subject(schema, "p", SIGNAL)


def bowl(policy):
    """Least grams at near_tie 0.3, pack_until 1; the SLO falls as replicas are filled."""
    grams = 10.0 + 40.0 * (policy.near_tie - 0.3) ** 2 + 8.0 * (1.0 - policy.pack_until)
    return {"gco2e": grams, "slo": 1.3 - 0.5 * policy.pack_until, "e2e_p95_ms": 1e3 / grams}


class Formula:
    """An evaluator that works out figures instead of simulating."""

    def __init__(self, formula=bowl, backwards=False, stop_after=math.inf):
        self.formula = formula
        self.backwards = backwards
        self.stop_after = stop_after
        self.ran = []

    def run(self, evaluations):
        order = list(enumerate(evaluations))
        for place, evaluation in reversed(order) if self.backwards else order:
            if len(self.ran) >= self.stop_after:
                raise KeyboardInterrupt
            self.ran.append(evaluation)
            yield place, {**dict.fromkeys(FIGURES, 1.0), **self.formula(evaluation.policy)}


def goal(*constraints, trials=60, batch=4, seed=1, minimise=("gco2e",)):
    return Goal(
        minimise, tuple(parse_constraint(text) for text in constraints), trials, batch, seed
    )
