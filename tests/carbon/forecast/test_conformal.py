from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.forecast.conformal import (
    LEADS_H,
    LEVELS,
    PRIOR_SIZE,
    Bands,
)

LEADS = np.array([1.0, 24.0, 96.0])


def covered(errors: np.ndarray, last: int) -> np.ndarray:
    """Share of the last errors inside the 50, 90 and 95 % band that stood before each; (3, leads).

    Errors arrive at once, whatever the lead.
    """
    bands, inside = Bands(LEADS), []
    for hour, row in enumerate(errors):
        low = bands.offsets(np.full(len(LEADS), hour % 24))
        inside.append([(low[k] <= row) & (row <= low[-1 - k]) for k in (2, 1, 0)])
        bands.learn(row, hour % 24)
    share: np.ndarray = np.array(inside)[-last:].mean(axis=0)
    return share


def test_the_documented_prior_stands_until_errors_are_seen() -> None:
    offsets = Bands(np.arange(1.0, 97.0)).offsets(np.zeros(96, dtype=np.int64))
    sizes = np.interp(np.arange(1, 97), LEADS_H, PRIOR_SIZE)
    assert offsets[LEVELS.index(0.95)] == pytest.approx(np.log(10.0) * sizes)
    assert offsets[LEVELS.index(0.05)] == pytest.approx(-np.log(10.0) * sizes)


@pytest.mark.parametrize("shape", ["normal", "laplace", "skewed"])
def test_coverage_is_what_it_says(shape: str) -> None:
    rng = np.random.default_rng(5)
    size = (8000, 3)
    errors = {
        "normal": rng.normal(0.02, 0.1, size),
        "laplace": rng.laplace(0.0, 0.1, size),
        "skewed": rng.gamma(1.5, 0.1, size) - 0.1,
    }[shape]
    share = covered(errors, 5000)
    assert share[2] == pytest.approx(0.95, abs=0.025)
    assert share[1] == pytest.approx(0.90, abs=0.04)
    assert share[0] == pytest.approx(0.50, abs=0.08)


def test_coverage_returns_after_the_volatility_changes() -> None:
    rng = np.random.default_rng(6)
    errors = rng.normal(0.0, 0.05, (9000, 3))
    errors[3000:] *= 3.0
    errors[6000:] /= 3.0
    share = covered(errors, 6000)
    assert (np.abs(share[2] - 0.95) < 0.02).all(), share


def test_a_restless_hour_of_the_day_is_wider_than_a_calm_one() -> None:
    rng = np.random.default_rng(7)
    bands = Bands(LEADS)
    for hour in range(24 * 60):
        bands.learn(rng.normal(0.0, 0.2 if hour % 24 == 18 else 0.02, 3), hour % 24)
    width = [np.ptp(bands.offsets(np.full(3, hour)), axis=0) for hour in (18, 6)]
    assert (width[0] > 4.0 * width[1]).all()


@given(st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=300), st.integers(0, 23))
@settings(max_examples=40, deadline=None)
def test_quantiles_never_cross(errors: list[float], hour: int) -> None:
    bands = Bands(LEADS)
    for error in errors:
        bands.learn(np.array([error, np.nan, -error]), hour)
    offsets = bands.offsets(np.array([hour, hour, (hour + 1) % 24]))
    assert np.isfinite(offsets).all() and (np.diff(offsets, axis=0) >= 0.0).all()
