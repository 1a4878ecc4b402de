import math
import random
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.latency import RatioTracker, z_of

Z95 = 1.6448536


def test_the_deviate_of_a_quantile():
    assert z_of(0.5) == 0.0
    assert z_of(0.95) == pytest.approx(Z95)
    assert z_of(0.05) == pytest.approx(-Z95)


def test_before_any_outcome_the_profile_is_right_within_the_prior_spread():
    tracker = RatioTracker()
    assert tracker.factor(0.0) == 1.0
    assert tracker.factor(Z95) == pytest.approx(math.exp(0.1 * Z95))


@pytest.mark.parametrize("actual", [0.5, 1.0, 3.0])
def test_a_constant_error_is_learned_with_certainty(actual):
    tracker = RatioTracker()
    for _ in range(400):
        tracker.observe(actual * 80.0, 80.0)
    assert tracker.factor(0.0) == pytest.approx(actual, rel=1e-3)
    assert tracker.factor(Z95) == pytest.approx(actual, rel=0.02)


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 0.2), (0.5, 0.4), (-0.3, 0.1)])
def test_the_factor_at_a_quantile_covers_that_share_of_outcomes(mean, sd):
    """Predict, then see: the 95 % factor of the moment must hold for about 95 % of what comes."""
    rng, tracker, covered = random.Random(7), RatioTracker(), 0
    for seen in range(8000):
        actual = math.exp(rng.gauss(mean, sd))
        covered += seen >= 200 and actual <= tracker.factor(Z95)
        tracker.observe(actual * 50.0, 50.0)
    # A memory of 20 outcomes costs a little coverage.
    assert 0.92 < covered / 7800 < 0.96


def test_it_follows_an_endpoint_that_slows_down_and_recovers():
    tracker = RatioTracker()
    for ratio, expected in ((1.0, 1.0), (4.0, 4.0), (1.0, 1.0)):
        for _ in range(150):
            tracker.observe(ratio * 10.0, 10.0)
        assert tracker.factor(0.0) == pytest.approx(expected, rel=0.01)


def test_one_outlier_moves_the_middle_little_but_widens_the_tail():
    tracker = RatioTracker()
    tracker.observe(1e9, 1.0)
    assert tracker.factor(0.0) == pytest.approx(50.0**0.05)
    assert tracker.factor(Z95) > 2.0


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=30))
def test_no_figure_breaks_it_and_unusable_ones_teach_nothing(pairs):
    tracker, twin = RatioTracker(), RatioTracker()
    for actual, predicted in pairs:
        tracker.observe(actual, predicted)
        if all(math.isfinite(x) and x > 0.0 for x in (actual, predicted)):
            twin.observe(actual, predicted)
    assert tracker.factor(Z95) == twin.factor(Z95)
    assert 0.02 * 0.99 <= tracker.factor(0.0) <= 50.0 * 1.01


@given(st.lists(st.floats(0.01, 100.0), max_size=30), st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_a_higher_quantile_is_never_faster(ratios, one, other):
    tracker = RatioTracker()
    for ratio in ratios:
        tracker.observe(ratio, 1.0)
    low, high = sorted((one, other))
    assert tracker.factor(NormalDist().inv_cdf(low)) <= tracker.factor(NormalDist().inv_cdf(high))
