"""The search itself, on figures that are known in advance; the whole command: tests/lab/study."""

import math

import pytest

from router.errors import ConfigError
from router.lab.sim.tune.search import Evaluation, front, rebased, search
from tests.lab.sim.tune.searches import FREE, Formula, bowl, goal, subject


def test_it_finds_the_least():
    found = search(subject(), goal("slo>=0"), Formula())
    best = found.best()
    assert best.values["near_tie"] == pytest.approx(0.3, abs=0.05)
    assert best.values["pack_until"] == pytest.approx(1.0, abs=0.05)
    assert best.figures["gco2e"] < found.untuned["gco2e"]
    assert [trial.number for trial in found.trials] == list(range(60))


def test_it_holds_the_constraints():
    """slo >= 0.95 means pack_until <= 0.7, where grams are not least."""
    found = search(subject(), goal("slo>=0.95"), Formula())
    best = found.best()
    assert best.figures["slo"] >= 0.95
    assert best.values["near_tie"] == pytest.approx(0.3, abs=0.06)
    assert best.values["pack_until"] == pytest.approx(0.7, abs=0.05)
    assert any(trial.figures["gco2e"] < best.figures["gco2e"] for trial in found.trials)


def test_it_learns_from_what_breaks_them():
    """Of the later forty, four would hold it by chance."""
    steep = Formula(lambda policy: {**bowl(policy), "slo": 1.05 - 0.25 * policy.pack_until})
    free = {**FREE, "pack_until": {"low": 0.2, "high": 1}}
    found = search(subject(free), goal("slo>=0.98", trials=80), steep)
    assert sum(trial.feasible for trial in found.trials[40:]) > 10


def test_same_seed_same_trials_whatever_order_they_end_in():
    runs = [search(subject(), goal("slo>=0.9"), Formula(backwards=b)) for b in (False, True)]
    assert runs[0].trials == runs[1].trials
    other = search(subject(), goal("slo>=0.9", seed=2), Formula())
    assert other.trials != runs[0].trials


def test_the_untuned_policy_takes_part_but_is_run_once():
    evaluator = Formula()
    found = search(subject(), goal(trials=5), evaluator)
    assert found.trials[0].values == {"near_tie": 0.01, "pack_until": 0.9}
    assert len(evaluator.ran) == 5
    assert evaluator.ran[0] == Evaluation("train", subject().policy())


def test_outside_the_ranges_it_takes_part_too():
    found = search(subject(near_tie=0.3, pack_until=0.4), goal("slo>=0", trials=4), Formula())
    assert [trial.number for trial in found.trials] == [-1, 0, 1, 2, 3]
    assert found.count == 4
    formula = {"near_tie": 0.3, "pack_until": 0.4}
    assert found.trials[0].values == formula


def test_choices_are_run_once_each():
    evaluator = Formula(lambda policy: {"gco2e": 1.0 + (policy.spread == "pack")})
    found = search(subject({"spread": ["pack", "spread"]}), goal(trials=12), evaluator)
    assert len(evaluator.ran) == 2
    assert found.count == 12
    assert found.best().values == {"spread": "spread"}


def test_serving_less_does_not_win():
    def lazy(policy):
        return {"gco2e": 10.0 * (1.0 - policy.near_tie), "completed": 1.0 - 0.5 * policy.near_tie}

    best = search(subject(near_tie=0.0), goal("slo>=0.9"), Formula(lazy)).best()
    assert best.figures["completed"] >= 0.999
    free_to = search(subject(near_tie=0.0), goal("completed>=0.6"), Formula(lazy)).best()
    assert free_to.figures["completed"] == pytest.approx(0.6, abs=0.03)


def test_the_tuners_own_constraints():
    def all_constraints(*texts):
        found = search(subject(), goal(*texts, trials=1), Formula())
        return [(str(constraint), constraint.own) for constraint in found.constraints]

    # bowl: untuned slo is 0.85
    assert all_constraints() == [("completed>=0.999", True), ("slo>=0.849", True)]
    assert all_constraints("slo>=0.5") == [("slo>=0.5", False), ("completed>=0.999", True)]
    assert all_constraints("completed>=0.9") == [("completed>=0.9", False)]


def test_on_another_span_its_own_constraints_follow_the_untuned_policy_there():
    found = search(subject(), goal("e2e_p95_ms<=200", trials=1), Formula())
    there = rebased(found.constraints, {"completed": 0.8})
    assert [str(constraint) for constraint in there] == ["e2e_p95_ms<=200", "completed>=0.799"]


def test_nothing_feasible_gives_the_nearest():
    found = search(subject(), goal("slo>=0.9", "gco2e<=5"), Formula())
    assert found.best() is None
    nearest = found.nearest()
    assert nearest.excess == min(trial.excess for trial in found.trials) > 0.0


def test_a_figure_that_is_not_known_never_wins():
    def gap(policy):
        return {"gco2e": math.nan if policy.near_tie > 0.5 else 5.0 + policy.near_tie}

    found = search(subject(), goal("slo>=0"), Formula(gap))
    assert found.best().figures["gco2e"] == pytest.approx(5.0, abs=0.02)
    assert any(math.isnan(trial.figures["gco2e"]) for trial in found.trials)


def test_an_interrupt_keeps_what_was_found():
    told = []
    evaluator = Formula(stop_after=10)
    found = search(subject(), goal("slo>=0"), evaluator, lambda s: told.append(len(s.trials)))
    assert found.stopped
    # The untuned policy's run is the first trial's.
    assert found.count == 10
    assert told == [4, 8, 10]
    assert found.best() is not None


def test_several_figures_give_a_front():
    names = ("gco2e", "e2e_p95_ms")
    wanted = goal("slo>=0", minimise=names, trials=60)
    found = search(subject(), wanted, Formula())
    line = front(found.trials, names)
    assert len(line) > 5
    points = [tuple(trial.figures[name] for name in names) for trial in line]
    assert points == sorted(points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    assert found.best().figures["gco2e"] == points[0][0]


def test_nothing_free_is_refused():
    with pytest.raises(ConfigError, match=r"policy p: free: nothing is free to be tuned; name"):
        search(subject({}), goal(), Formula())


def test_values_that_cannot_go_together_lose():
    """All weights 0."""
    free = {"weights.per_gco2e": [0.0, 1.0], "weights.per_load": [0.0, 1.0]}
    both = subject(free, weights={"per_gco2e": 1.0, "per_load": 1.0})
    evaluator = Formula(lambda policy: {"gco2e": sum(policy.weights)})
    found = search(both, goal("slo>=0", trials=30), evaluator)
    assert found.best().figures["gco2e"] == 1.0
    (odd,) = {t.excess for t in found.trials if not t.feasible}
    assert odd == math.inf
