from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from router.errors import TraceError
from router.lab.replicate import casper
from router.lab.replicate.casper import CasperHours, CasperPlan
from tests.lab.replicate import made_up

REGIONS = ("a", "b", "c")


def some_hours(requests, room: int = 100) -> CasperHours:
    return CasperHours(
        REGIONS,
        np.array(requests, np.int64),
        np.tile([400.0, 300.0, 30.0], (len(requests), 1)),
        np.array([[5.0, 60.0, 150.0], [60.0, 5.0, 90.0], [150.0, 90.0, 5.0]]),
        460_000,
    )


def test_demand_is_scaled_so_that_the_largest_hour_fills_a_region() -> None:
    demand = np.array([[25898.0, 5566.0], [9915.0, 1332.0]])
    assert casper.scaled_demand(demand).tolist() == [[1000, 214], [382, 51]]


@pytest.mark.parametrize(
    ("limit_ms", "g"), [(5.0, 290.0), (60.0, (300 * 40 + 30 * 10) / 50), (150.0, 30.0)]
)
def test_the_carbon_scheduler_goes_as_far_as_the_limit_lets_it(limit_ms: float, g: float) -> None:
    hours = some_hours([[30, 10, 10]])
    plan = casper.plan_carbon(hours, limit_ms)
    assert casper.mean_g_per_kwh(hours, plan) == pytest.approx(g if limit_ms > 5.0 else 306.0)
    assert plan.moved.sum() == pytest.approx(50.0)
    assert plan.servers.sum() == pytest.approx(5.0)


def test_servers_are_whole_and_few_where_they_weigh_more_than_grams() -> None:
    """Two regions of nearly the same grid: nobody opens a second server for a ten-thousandth."""
    cost = np.array([[1.0, 1.0001], [1.0, 1.0001]])
    moved, servers = casper.schedule(cost * 1e-3, np.array([4, 6]), 0.1)
    assert servers.tolist() == [1.0, 0.0]
    assert moved.sum(axis=0) == pytest.approx([10.0, 0.0])


def test_the_programme_finds_the_best_of_all_plans() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        requests = rng.integers(1, 13, 2)
        cost, server_cost = rng.uniform(0.0, 1.0, (2, 2)), rng.uniform(0.0, 3.0)
        moved, servers = casper.schedule(cost, requests, server_cost)
        found = float((moved * cost).sum() + servers.sum() * server_cost)
        best = math.inf
        for first, second in product(range(requests[0] + 1), range(requests[1] + 1)):
            plan = np.array([[first, requests[0] - first], [second, requests[1] - second]])
            needed = np.ceil(plan.sum(axis=0) / casper.REQUESTS_A_SERVER).sum()
            best = min(best, float((plan * cost).sum() + needed * server_cost))
        assert found == pytest.approx(best)


def test_the_latency_scheduler_stays_at_home_where_servers_are_whole() -> None:
    hours = some_hours([[30, 10, 10]])
    plan = casper.plan_latency(hours)
    assert casper.mean_rtt_ms(hours, plan) == pytest.approx(5.0)


def test_replay_stays_at_home() -> None:
    hours = some_hours([[31, 10, 9]])
    plan = casper.plan_home(hours)
    assert plan.moved[0].diagonal().tolist() == [31.0, 10.0, 9.0]
    assert plan.servers.tolist() == [[4.0, 1.0, 1.0]]


def test_a_limit_that_nothing_meets_has_no_plan() -> None:
    with pytest.raises(ArithmeticError, match="no solution"):
        casper.plan_carbon(some_hours([[30, 10, 10]]), 1.0)


@pytest.mark.parametrize("limit_ms", [5.0, 60.0, 150.0])
def test_the_kernel_does_no_worse_where_there_is_room(limit_ms: float) -> None:
    hours = some_hours([[30, 10, 10], [50, 20, 7]])
    kernel: CasperPlan = casper.plan_kernel(hours, limit_ms)
    best = casper.plan_carbon(hours, limit_ms)
    assert np.array_equal(kernel.moved.sum(axis=2), hours.requests)
    assert casper.mean_g_per_kwh(hours, kernel) <= casper.mean_g_per_kwh(hours, best) + 1e-6


def test_the_kernel_keeps_to_what_a_region_holds() -> None:
    hours = some_hours([[900, 400, 100]])
    plan = casper.plan_kernel(hours, 500.0)
    assert plan.moved.sum(axis=(0, 1)).tolist() == [0.0, 400.0, 1000.0]


def test_the_week_is_read_with_the_demand_of_four_hours_before(tmp_path: Path) -> None:
    literature = made_up.write(tmp_path)
    hours = casper.read_hours(literature, hours=3)
    scaled = casper.scaled_demand(literature.wiki_demand().values)
    assert np.array_equal(hours.requests, scaled[20:23])
    assert hours.regions == made_up.AWS
    france = made_up.ZONES.index("FR")
    assert np.array_equal(hours.g_per_kwh[:, 2], made_up.intensities()[24:27, france])
    assert np.array_equal(
        casper.read_hours(literature, late_by_h=0, hours=3).requests, scaled[24:27]
    )


def test_a_table_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    literature = made_up.write(tmp_path)
    with pytest.raises(TraceError, match="lacks hours of the week from 2022-08-13"):
        casper.read_hours(literature, hours=made_up.HOURS)


def test_other_regions_are_refused(tmp_path: Path) -> None:
    literature = made_up.write(tmp_path)
    path = tmp_path / made_up.inputs.AWS_RTT
    path.write_text(path.read_text("utf-8").replace("us-west-1", "us-west-9"), "utf-8")
    with pytest.raises(TraceError, match="needs the regions ap-southeast-2"):
        casper.read_hours(literature)


def test_a_day_of_the_real_data() -> None:
    literature = made_up.the_real_literature()
    hours = casper.read_hours(literature, hours=12)
    # As the study's own requests.csv has it in the row that it begins with.
    assert hours.requests[0].tolist() == [86, 476, 225, 223, 57, 51]
    home_g = casper.mean_g_per_kwh(hours, casper.plan_home(hours))
    best_g = casper.mean_g_per_kwh(hours, casper.plan_carbon(hours, 150.0))
    kernel_g = casper.mean_g_per_kwh(hours, casper.plan_kernel(hours, 150.0))
    assert best_g < 0.4 * home_g
    assert kernel_g == pytest.approx(best_g, rel=0.02)
