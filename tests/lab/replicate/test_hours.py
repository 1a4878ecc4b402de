from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from router.errors import TraceError
from router.lab.replicate import hours
from router.lab.replicate.hours import (
    CONTINENTS,
    GLOBAL,
    chasing_cost_pct,
    erroneous,
    members,
    saved_g_per_kwh,
)
from router.lab.replicate.paper import Replication
from tests.lab.replicate import made_up
from tests.lab.replicate.evidence import missing

G = np.array([[100.0, 300.0, 200.0], [300.0, 100.0, 200.0]])


def test_one_move_goes_to_the_lowest_mean_and_many_to_the_lowest_hour() -> None:
    assert saved_g_per_kwh(G) == pytest.approx((0.0, 100.0))
    assert saved_g_per_kwh(np.array([[100.0, 300.0], [100.0, 200.0]])) == pytest.approx((75, 75))


def test_a_true_forecast_costs_nothing_and_a_false_one_what_it_picks() -> None:
    assert chasing_cost_pct(G, G) == 0.0
    # Picks 200 instead of 100, then 100: +100 % and 0.
    assert chasing_cost_pct(G, np.array([[9.0, 9.0, 1.0], [9.0, 1.0, 9.0]])) == pytest.approx(50.0)


def test_of_equals_the_first_is_taken() -> None:
    assert chasing_cost_pct(np.array([[100.0, 150.0]]), np.array([[7.0, 7.0]])) == 0.0
    assert chasing_cost_pct(np.array([[150.0, 100.0]]), np.array([[7.0, 7.0]])) == pytest.approx(50)


def test_errors_stay_within_their_bounds_and_add_up() -> None:
    series = np.full((2000, 2), 100.0)
    found = erroneous(series, (0, 20, 40), seed=1)
    assert np.array_equal(found[0], series)
    assert (np.abs(found[20] / 100.0 - 1.0) <= 0.1 + 1e-4).all()
    assert (np.abs(found[40] / found[20] - 1.0) <= 0.2 + 1e-3).all()
    assert np.abs(found[40] / 100.0 - 1.0).max() > 0.2
    assert (series == 100.0).all()


def test_the_draws_are_those_of_the_study() -> None:
    """The first hour of its first two zones at 20 and 40 %, of 100 g/kWh each."""
    draws = np.random.RandomState(99)
    expected = []
    for _ in range(2):
        value = 100.0
        for error in (20, 40):
            sign = draws.choice([-1, 1], size=1)[0]
            value *= 1.0 + sign * draws.uniform(0.0, error / 200.0, size=1)[0]
            expected.append(round(value, 2))
    found = erroneous(np.full((1, 2), 100.0), (20, 40))
    assert [found[20][0, 0], found[40][0, 0], found[20][0, 1], found[40][0, 1]] == expected


def test_continents_are_told_by_the_first_part_of_a_name() -> None:
    zones = ["AU-NSW", "DE", "US-CAL-CISO", "IN-MH", "ZA", "DK-DK1"]
    assert [members(name, zones) for name in ("Oceania", "Europe", "Americas", "Asia")] == [
        [0], [1, 5], [2], [3],
    ]  # fmt: skip
    assert members(GLOBAL, zones) == [0, 1, 2, 3, 4, 5]
    codes = " ".join(CONTINENTS.values()).split()
    assert len(set(codes)) == len(codes)


def test_the_study_runs_on_any_table(tmp_path: Path) -> None:
    found = hours.study(made_up.write(tmp_path))
    migrations, errors = found.tables
    for row in migrations.rows:
        once, hourly = (cell.ours for cell in row.cells)
        assert 0.0 <= once <= hourly
    costs = [row.cells[0].ours for row in errors.rows]
    assert costs[0] == 0.0
    assert costs[-1] > costs[1] >= 0.0


def test_a_table_without_a_continent_is_refused() -> None:
    with pytest.raises(TraceError, match="no grid zone of Asia"):
        hours._migrations(("DE", "FR"), np.ones((3, 2)))


@cache
def the_real_study() -> Replication:
    return hours.study(made_up.the_real_literature())


def test_every_published_figure_comes_out() -> None:
    found = the_real_study()
    compared = [cell for table in found.tables for cell in table.cells() if cell.is_compared]
    assert len(compared) == 21
    assert all(cell.is_same for cell in compared)


def test_the_page_shows_them() -> None:
    assert missing(the_real_study().tables[0]) == []
