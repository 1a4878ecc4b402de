import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.lab.sim.tune.figures import parse_constraint
from router.lab.sim.tune.values import Trial

CONSTRAINTS = (parse_constraint("slo>=0.75"), parse_constraint("e2e_p95_ms<=1024"))


def trial(slo, e2e_p95_ms):
    return Trial(0, {}, {"slo": slo, "e2e_p95_ms": e2e_p95_ms}, CONSTRAINTS)


@given(st.integers(0, 4), st.integers(0, 4096))
def test_a_trial_is_feasible_where_it_holds_every_constraint(quarters, e2e_p95_ms):
    one = trial(quarters / 4, float(e2e_p95_ms))
    assert one.feasible == (quarters >= 3 and e2e_p95_ms <= 1024)
    assert (one.excess == 0.0) == one.feasible


def test_what_holds_one_constraint_does_not_make_up_for_breaking_another():
    assert trial(1.0, 1536.0).excess == pytest.approx(0.5)
    assert trial(0.25, 1536.0).excess == pytest.approx(0.5 + 0.5)
    assert trial(1.0, math.nan).excess == math.inf
