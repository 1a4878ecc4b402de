from __future__ import annotations

import numpy as np

from router.lab.sim.histogram import BINS, Histogram
from router.lab.study.report.comparisons import _distribution


def test_a_distribution_begins_where_its_first_bin_does() -> None:
    """One bin may hold nearly all; the curve still comes from 0."""
    counts = np.zeros(BINS, np.int64)
    counts[17 * 256], counts[17 * 256 + 9] = 990, 10
    ms, shares = _distribution(Histogram(counts))
    assert (ms[0], shares[0]) == (128.0, 0.0)
    assert (ms[1], shares[1]) == (128.5, 0.99)
    assert (ms[-1], shares[-1]) == (133.0, 1.0)
