from router.lab.sim.tune.search import search
from tests.lab.sim.tune.searches import Formula, goal, subject


def test_values_are_those_that_a_file_can_say():
    found = search(subject(), goal(trials=8), Formula())
    for trial in found.trials[1:]:
        for value in trial.values.values():
            assert value == float(f"{value:.4g}")
