"""Least squares beside scipy's, and how often intervals hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from router.load.calibration.regression import _non_negative, _t_quantile, regress, tolerances


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_coefficients_are_those_of_another_solver(seed, width):
    rng = np.random.default_rng(seed)
    columns = rng.uniform(0.0, 1.0, (30, width))
    target = columns @ rng.normal(0.3, 1.0, width) + rng.normal(0.0, 0.3, 30)
    ours = _non_negative(columns, target)
    theirs, left = optimize.nnls(columns, target)
    assert np.linalg.norm(target - columns @ ours) == pytest.approx(left, rel=1e-9)
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("freedom", [16, 40, 1000])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_quantiles_are_students(confidence, freedom):
    expected = stats.t.ppf(0.5 + confidence / 2.0, freedom)
    assert _t_quantile(confidence, freedom) == pytest.approx(expected, rel=2e-3)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Also where errors are of different sizes."""
    rng, truth = np.random.default_rng(1), np.array([5.0, 2.0])
    hits = 0
    for _ in range(1000):
        columns = rng.uniform(0.0, 1.0, (40, 2))
        target = columns @ truth + rng.normal(0.0, 0.5, 40) * (0.2 + columns[:, 0])
        found = regress(columns, target).coefficients
        hits += sum(one.low <= true <= one.high for one, true in zip(found, truth, strict=True))
    assert 0.93 <= hits / 2000 <= 0.98


def test_what_comes_out_negative_is_nothing_or_little():
    rng = np.random.default_rng(2)
    columns = rng.uniform(0.0, 1.0, (50, 2))
    target = columns @ np.array([4.0, 0.0]) - 0.05 * columns[:, 1] + rng.normal(0.0, 0.2, 50)
    low, nil = regress(columns, target).coefficients
    assert low.low <= 4.0 <= low.high
    assert (nil.value, nil.low) == (0.0, 0.0)
    assert 0.0 <= nil.high < 1.0


def test_a_few_rows_of_something_else_are_set_aside_and_many_are_not():
    rng = np.random.default_rng(3)
    columns = rng.uniform(0.0, 1.0, (100, 2))
    target = columns @ np.array([4.0, 1.0]) + rng.normal(0.0, 0.01, 100)
    few, many = target.copy(), target.copy()
    few[[3, 70]] += 50.0
    many[:30] += 50.0
    found = regress(columns, few)
    assert found.outliers == (3, 70)
    assert found.coefficients[0].value == pytest.approx(4.0, abs=0.02)
    assert regress(columns, many).outliers == ()


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (np.ones((3, 3)), "3 rows"),
        (np.zeros((9, 1)), "0 throughout"),
        (np.stack([np.arange(9.0), 2.0 * np.arange(9.0)], axis=1), "a sum of others"),
    ],
)
def test_what_cannot_be_told_is_an_error(columns, why):
    with pytest.raises(ValueError, match=why):
        regress(columns, np.arange(float(len(columns))))


def test_tolerance_is_what_a_column_has_of_its_own():
    columns = np.stack([np.ones(4), np.array([1.0, 1.0, 1.0, 1.1])], axis=1)
    own = tolerances(columns)
    r = (
        columns[:, 0]
        @ columns[:, 1]
        / np.linalg.norm(columns[:, 0])
        / np.linalg.norm(columns[:, 1])
    )
    assert own == pytest.approx([1.0 - r * r] * 2)
