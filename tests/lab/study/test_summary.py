from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from router.lab.sim.bound.run import Bound
from router.lab.sim.result import PolicyResult
from router.lab.study.summary import dumps, nearest_rank, regrets, saving
from tests.lab.study.results import result


def limit(busy_g: float = 50.0, fleet_g: float = 80.0, **changes: Any) -> Bound:
    given = Bound("p", 1000, 0, 0, 0.0, 1.0, busy_g, fleet_g, np.zeros(1), np.ones(1), {})
    return replace(given, **changes)


def test_a_saving_is_a_share_of_the_other() -> None:
    saved = saving(result(80.0, 100.0), result(160.0, 125.0))
    assert saved["attributional"] == pytest.approx(0.5)
    assert saved["consequential"] == pytest.approx(0.2)
    assert saved["marginal"] == pytest.approx(0.5)
    assert saved["equal_work"] is saved["other_did_equal_work"] is True


def test_shedding_is_no_saving() -> None:
    """Half of the requests at half of the grams saves nothing a request, and says so."""
    half = result(80.0, 100.0, completed=500, refused={"shed": 500}, met=0.5)
    saved = saving(half, result(160.0, 200.0))
    assert saved["equal_work"] is False
    assert saved["attributional"] == pytest.approx(0.5)
    assert saved["attributional_per_completed"] == pytest.approx(0.0)
    assert saved["completed_share"] == 0.5


@pytest.mark.parametrize(("met", "equal"), [(0.9991, True), (0.9989, False)])
def test_a_tenth_of_a_point_of_slo_is_equal_work(met: float, equal: bool) -> None:
    assert saving(result(met=met), result())["equal_work"] is equal


def test_against_a_baseline_that_sheds_the_saving_is_flagged_too() -> None:
    saved = saving(result(), result(completed=900, met=0.9))
    assert saved["equal_work"] is True
    assert saved["other_did_equal_work"] is False


def test_regret_is_over_the_bound_of_its_own_basis() -> None:
    found = regrets(result(80.0, 100.0), limit(50.0, 80.0))
    assert found["attributional"] == pytest.approx(0.6)
    assert found["consequential"] == pytest.approx(0.25)
    assert found["valid"] is True


def test_with_released_replicas_the_busy_bound_holds_for_the_fleet() -> None:
    assert regrets(result(), limit(50.0, math.nan))["consequential"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("run", "bound"),
    [
        (result(completed=990), limit()),
        (result(met=0.98), limit()),
        (result(), limit(overloaded_slots=1)),
    ],
)
def test_a_regret_without_all_of_the_work_is_not_valid(run: PolicyResult, bound: Bound) -> None:
    assert regrets(run, bound)["valid"] is False


def test_what_is_impossible_for_anyone_is_no_missing_work() -> None:
    run = result(completed=900, refused={"budget_impossible": 100}, met=0.9995)
    assert regrets(run, limit(impossible=100))["valid"] is True


def test_json_has_no_nan_and_sorted_keys() -> None:
    text = dumps({"b": math.nan, "a": [np.float64(1.5), np.int64(2), math.inf], 3: (True, None)})
    assert json.loads(text) == {"3": [True, None], "a": [1.5, 2, None], "b": None}
    assert list(json.loads(text)) == ["3", "a", "b"]


def test_nearest_rank() -> None:
    assert nearest_rank([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert nearest_rank([4.0, 1.0, 3.0, 2.0], 0.95) == 4.0
    assert math.isnan(nearest_rank([], 0.5))
