from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from router.lab.replicate import quality
from router.lab.replicate.paper import PaperTable
from tests.lab.replicate import made_up
from tests.lab.replicate.evidence import missing

JOULES = (100.0, 900.0)
DAYS = 4


def days(*g_per_kwh: float) -> np.ndarray:
    return np.resize(np.array(g_per_kwh, np.float64), DAYS * 24)


def test_the_better_tier_answers_in_the_clean_half_of_the_hours() -> None:
    series = days(100.0, 300.0)
    assert quality.steady_g(series, JOULES) == 200.0 * 500.0
    assert quality.planned_g(series, JOULES, 24) == (100.0 * 900.0 + 300.0 * 100.0) / 2.0


def test_where_all_hours_are_alike_nothing_is_saved() -> None:
    series = days(250.0)
    steady = quality.steady_g(series, JOULES)
    assert quality.planned_g(series, JOULES, 24) == pytest.approx(steady)
    grams, mean = quality.rolling_g(series, JOULES, 24, known=True)
    assert grams == pytest.approx(250.0 * (100.0 + mean * 800.0))
    assert mean == pytest.approx(quality.TARGET, abs=0.02)


@pytest.mark.parametrize("known", [True, False])
def test_a_rolling_mean_is_kept_and_saves(known: bool) -> None:
    series = days(*(300.0 + 200.0 * np.sin(np.arange(24) / 12.0 * np.pi)))
    grams, mean = quality.rolling_g(series, JOULES, 24, known)
    assert mean >= quality.TARGET
    # Every day is as the one before: who goes by that knows all.
    assert grams < 0.95 * series[24:-24].mean() * (100.0 + mean * 800.0)


def test_the_dearer_tier_takes_several_times_the_energy() -> None:
    small, large = quality.tier_joules()
    assert large > 4.0 * small > 0.0


@cache
def the_real_table() -> PaperTable:
    return quality.planned(made_up.the_real_literature())


def test_the_real_table_is_on_the_page() -> None:
    table = the_real_table()
    assert missing(table) == []
    # Longer windows leave more to choose from.
    assert all(one.cells[0].ours < one.cells[1].ours for one in table.rows)
