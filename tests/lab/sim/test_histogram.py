import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.lab.replay.records import percentile
from router.lab.sim.histogram import BINS, LOWEST_EXPONENT, Histogram


def histogram(values):
    """By the definition: 256 equal bins an octave from 2**-10 ms."""
    counts = np.zeros(BINS, np.int64)
    for value in values:
        fraction, exponent = math.frexp(value)
        octave = exponent - 1 - LOWEST_EXPONENT
        counts[octave * 256 + int((fraction * 2.0 - 1.0) * 256.0)] += 1
    return Histogram(counts)


@given(
    st.lists(st.floats(0.01, 1e8), min_size=1, max_size=50),
    st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]),
)
def test_quantiles_are_within_a_fifth_of_a_percent(values, q):
    exact = percentile(sorted(values), q)
    assert histogram(values).quantile(q) == pytest.approx(exact, rel=0.002)


def test_a_histogram_of_nothing_has_no_quantile():
    assert math.isnan(Histogram(np.zeros(BINS, np.int64)).quantile(0.5))
