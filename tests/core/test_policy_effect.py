"""Figures of all requests from those that were kept."""

import math

import numpy as np

from router.core.policy_effect import _quantiles, _share


def test_an_interval_holds_what_it_should():
    """Of 2,000 samples of the same requests, 95 in 100 hold the true share."""
    rng = np.random.default_rng(5)
    moves, chance = rng.random(4000) < 0.1, np.where(rng.random(4000) < 0.2, 1.0, 0.05)
    held = 0
    for _ in range(2000):
        kept = rng.random(4000) < chance
        found = _share(moves[kept], 1.0 / chance[kept])
        held += found.low <= moves.mean() <= found.high
    assert 0.92 < held / 2000 < 0.98


def test_weighted_quantiles_are_those_of_repeated_values():
    rng = np.random.default_rng(1)
    values, weights = rng.random(50), rng.integers(1, 9, 50)
    repeated = np.sort(np.repeat(values, weights))
    found = _quantiles(values, weights.astype(float))
    assert found == tuple(repeated[math.ceil(at * len(repeated)) - 1] for at in (0.5, 0.95))
