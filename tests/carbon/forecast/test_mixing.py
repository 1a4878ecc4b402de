from __future__ import annotations

import numpy as np
import pytest

from router.carbon.forecast.mixing import EXPERTS, PRIOR_LOSS, Mix

ALL = np.ones((len(EXPERTS), 2), dtype=bool)


def errors(sizes: list[float]) -> np.ndarray:
    return np.repeat(np.array(sizes)[:, None], 2, axis=1)


def test_before_evidence_the_prior_ranks() -> None:
    weights = Mix(2).weights(ALL)
    assert weights.sum(axis=0) == pytest.approx(1.0)
    assert (np.diff(weights[np.argsort(PRIOR_LOSS, kind="stable"), 0]) <= 1e-12).all()
    assert weights[EXPERTS.index("seasonal"), 0] > 0.9


def test_the_best_of_late_takes_over_whoever_it_is() -> None:
    mix = Mix(2)
    for _ in range(2000):
        mix.learn(errors([0.1, 0.1, 0.1, 0.1, 0.02, 0.1, 0.1]))
    assert mix.weights(ALL)[EXPERTS.index("persistence")].min() > 0.99
    for _ in range(12_000):
        mix.learn(errors([0.02, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]))
    assert mix.weights(ALL)[EXPERTS.index("hourly")].min() > 0.99


def test_equals_share() -> None:
    mix = Mix(2)
    for _ in range(3000):
        mix.learn(errors([0.1, 0.1, 0.3, 0.3, 0.3, 0.3, 0.3]))
    assert mix.weights(ALL)[:2] == pytest.approx(0.5, abs=0.01)


def test_who_says_nothing_has_no_weight_and_no_errors() -> None:
    mix = Mix(2)
    silent = errors([np.nan, np.nan, 0.1, 0.1, 0.1, 0.1, 0.1])
    available = ALL.copy()
    available[:2] = False
    for _ in range(100):
        mix.learn(silent)
    weights = mix.weights(available)
    assert (weights[:2] == 0.0).all() and weights.sum(axis=0) == pytest.approx(1.0)


def test_errors_of_zero_do_not_divide_by_zero() -> None:
    mix = Mix(2)
    for _ in range(10):
        mix.learn(errors([0.0] * len(EXPERTS)))
    assert np.isfinite(mix.weights(ALL)).all()
