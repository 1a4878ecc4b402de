import math

import pytest

from router.lab.sim.tune.proposals import Proposals
from router.lab.sim.tune.search import search
from router.lab.sim.tune.values import Trial
from tests.lab.sim.tune.searches import Formula, goal, subject


def test_values_are_those_that_a_file_can_say():
    found = search(subject(), goal(trials=8), Formula())
    for trial in found.trials[1:]:
        for value in trial.values.values():
            assert value == float(f"{value:.4g}")


def asked(seed=1, minimise=("gco2e",)):
    """Twelve proposals, in batches of four, each told what it comes to."""
    proposals = Proposals(subject().schema.free, goal(seed=seed, minimise=minimise))
    proposals.start_with({"near_tie": 0.01, "pack_until": 0.9})
    found = []
    for _ in range(3):
        batch = proposals.ask(4)
        for number, values in batch:
            figures = {"gco2e": values["near_tie"], "slo": math.nan if number == 2 else 1.0}
            proposals.tell(Trial(number, values, figures, ()))
        found += batch
    return found


@pytest.mark.parametrize("minimise", [("gco2e",), ("gco2e", "slo")])
def test_proposals_begin_where_they_are_told_to_and_stay_in_what_is_free(minimise):
    found = asked(minimise=minimise)
    assert [number for number, _ in found] == list(range(12))
    assert found[0][1] == {"near_tie": 0.01, "pack_until": 0.9}
    for path, free in subject().schema.free.items():
        assert all(free.low <= values[path] <= free.high for _, values in found)
    assert asked(minimise=minimise) == found
    assert asked(seed=2, minimise=minimise) != found
