"""Whom to serve well, hour by hour: against a linear program that says the same in full."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from router.core.quality_plan import hourly_qualities, planned_quality
from router.model import Alias, Variant
from tests.examples import examples
from tests.factories import NOW, endpoint, fleet, forecast, served, snapshot, token_profile

GRAMS = st.lists(st.floats(10.0, 900.0), min_size=1, max_size=12)


def least_grams(qualities, energies_j, g_per_kwh, mean):
    """By a share of each variant in each hour."""
    hours, variants = len(g_per_kwh), len(qualities)
    costs = np.outer(g_per_kwh, energies_j).ravel()
    ones = np.kron(np.eye(hours), np.ones(variants))
    found = linprog(
        costs, A_eq=ones, b_eq=np.ones(hours),
        A_ub=[-np.tile(qualities, hours) / hours], b_ub=[-mean], method="highs",
    )  # fmt: skip
    return found.fun


def grams(qualities, energies_j, g_per_kwh, hourly):
    """Of the cheapest mixture of two variants in each hour."""
    total = 0.0
    for g, quality in zip(g_per_kwh, hourly, strict=True):
        best = np.inf
        for low, at_low in enumerate(qualities):
            for high, at_high in enumerate(qualities):
                if at_low <= quality + 1e-12 and quality <= at_high + 1e-12:
                    share = (quality - at_low) / (at_high - at_low) if at_high > at_low else 0.0
                    joules = (1 - share) * energies_j[low] + share * energies_j[high]
                    best = min(best, joules)
        total += g * best
    return total


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.05, 1.0), st.floats(0.1, 100.0)), min_size=1, max_size=4),
    GRAMS,
    st.floats(0.0, 1.0),
)
def test_it_takes_no_more_than_the_linear_program(variants, g_per_kwh, within):
    qualities, energies_j = zip(*sorted(variants), strict=True)
    mean = qualities[0] + within * (qualities[-1] - qualities[0])
    hourly = hourly_qualities(qualities, energies_j, np.array(g_per_kwh), mean)
    assert hourly.mean() >= mean - 1e-9
    found = grams(qualities, energies_j, g_per_kwh, hourly)
    assert found == pytest.approx(least_grams(qualities, energies_j, g_per_kwh, mean), rel=1e-6)


def test_the_cleanest_hours_have_the_better_variant():
    hourly = hourly_qualities([0.4, 0.8], [1.0, 10.0], np.array([300.0, 100.0, 200.0, 400.0]), 0.6)
    assert hourly.tolist() == pytest.approx([0.4, 0.8, 0.8, 0.4])


def test_hours_that_cost_as_much_share_what_there_is():
    hourly = hourly_qualities([0.4, 0.8], [1.0, 10.0], np.full(4, 300.0), 0.5)
    assert hourly.tolist() == pytest.approx([0.5] * 4)


def a_snapshot(*g_per_kwh):
    small = served(token_profile("s", base_w=200.0), "small")
    large = served(token_profile("l", base_w=2000.0), "large")
    ends = endpoint("a", "west", small), endpoint("b", "west", large)
    aliases = {"chat": CHAT}
    carbon = {"grid-west": forecast("grid-west", *g_per_kwh)}
    return snapshot(replace(fleet(*ends), aliases=aliases), None, carbon)


CHAT = Alias("chat", (Variant("small", 0.4), Variant("large", 0.8)), "test", window_s=4 * 3600.0)


@pytest.mark.parametrize(
    ("g_per_kwh", "quality"),
    [((300.0, 100.0, 200.0, 400.0), 0.4), ((100.0, 300.0, 200.0, 400.0), 0.8), ((100.0,), 0.6)],
)
def test_it_goes_by_the_hours_ahead(g_per_kwh, quality):
    assert planned_quality(CHAT, a_snapshot(*g_per_kwh), NOW, 0.6) == pytest.approx(quality)


def test_where_nobody_knows_the_grid_every_hour_is_as_good():
    unknown = replace(a_snapshot(100.0), forecasts={})
    assert planned_quality(CHAT, unknown, NOW, 0.6) == 0.6
