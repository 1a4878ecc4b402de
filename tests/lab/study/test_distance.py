from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.lab.sim.bound.plan import Plans, WholePlan
from router.lab.sim.bound.run import Bound
from router.lab.study.distance import over_bound, plan_values, whole_values
from router.lab.study.summary import regrets
from tests.lab.study.results import result

LIMIT = Bound(
    "p", 1000, 0, 0, 0.0, 1.0, 50.0, 80.0, np.zeros(1), np.ones(1), {}, 51.0, 80.5
)  # fmt: skip


def plan(busy_above_g: float, fleet_above_g: float) -> WholePlan:
    return WholePlan(busy_above_g, fleet_above_g, 0.1, 0.05, 1e-5, 0.0, 7.5)


PLANS = Plans("p", 24, plan(5.0, 2.0), plan(10.0, 4.0), plan(20.0, 8.0))


def test_each_part_is_the_step_from_one_plan_to_the_next() -> None:
    found = over_bound(result(80.0, 100.0), LIMIT, PLANS)
    assert found["attributional"] == pytest.approx(
        {"whole_replicas": 0.1, "prompts": 0.1, "chance": 0.2, "rest": 0.2}
    )
    assert found["consequential"] == pytest.approx(
        {"whole_replicas": 0.025, "prompts": 0.025, "chance": 0.05, "rest": 0.15}
    )


@given(st.floats(0.0, 1e3), st.floats(0.0, 1e3), st.booleans())
def test_parts_add_up_to_the_regret(busy_g: float, fleet_g: float, released: bool) -> None:
    limit = replace(LIMIT, fleet_g=math.nan) if released else LIMIT
    run = result(busy_g, fleet_g)
    found, regret = over_bound(run, limit, PLANS), regrets(run, limit)
    for account in ("attributional", "consequential"):
        assert sum(found[account].values()) == pytest.approx(regret[account])


def test_plans_are_told_in_grams() -> None:
    found = plan_values(LIMIT, PLANS)
    assert found["moments"] == 24
    assert found["mixed"] == {
        "gco2e_attributional": 60.0,
        "gco2e_attributional_error": 0.1,
        "gco2e_consequential": 84.0,
        "gco2e_consequential_error": 0.05,
        "solver_gap": 1e-5,
        "unserved_share": 0.0,
        "replicas_awake": 7.5,
    }
    assert whole_values(LIMIT) == {"gco2e_attributional": 51.0, "gco2e_consequential": 80.5}


def test_a_fleet_that_releases_idle_replicas_has_one_account() -> None:
    nothing = replace(PLANS.kept, fleet_above_g=math.nan, fleet_error_g=math.nan)
    limit = replace(LIMIT, fleet_g=math.nan, whole_fleet_g=math.nan)
    found = plan_values(limit, replace(PLANS, kept=nothing))["kept"]
    assert found["gco2e_consequential"] == found["gco2e_attributional"] == 70.0
    assert found["gco2e_consequential_error"] == 0.1
    assert whole_values(limit)["gco2e_consequential"] == 51.0


def test_over_no_bound_there_is_no_share() -> None:
    found = over_bound(result(), replace(LIMIT, busy_g=0.0, fleet_g=0.0), PLANS)
    assert all(math.isnan(part) for part in found["attributional"].values())
