from __future__ import annotations

import numpy as np
import pytest

from router.carbon.forecast.ridge import BINS, NEARNESS, Sums


def days(count: int, columns: int, leads: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(3)
    return [
        (
            rng.normal(size=(24, columns)),
            rng.normal(size=(24, leads)),
            np.where(rng.random(24) < 0.2, 0.0, rng.uniform(0.2, 2.0, 24)),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("hour", [0, 7, 23])
def test_adding_days_equals_a_weighted_fit_of_all_rows(hour: int) -> None:
    """The slow twin: every row kept, weighed by its age and its hour, fitted by least squares."""
    columns, leads, half_life_d = 6, 3, 20.0
    history = days(40, columns, leads)
    sums = Sums(BINS, columns, leads, half_life_d)
    for day in history:
        sums.add_day(*day)
    penalty = np.array([0.5, 1.0, 1.5, 2.0, 0.1, 3.0])
    x, y = [np.sqrt(np.diag(penalty))], [np.zeros((columns, leads))]
    for age, (features, targets, weight) in enumerate(reversed(history)):
        for row in range(24):
            share = weight[row] * 0.5 ** (age / half_life_d) * NEARNESS[hour, row * BINS // 24]
            x.append(np.sqrt(share) * features[row : row + 1])
            y.append(np.sqrt(share) * targets[row : row + 1])
    wanted = np.linalg.lstsq(np.concatenate(x), np.concatenate(y), rcond=None)[0]
    assert sums.solve(NEARNESS[hour], penalty) == pytest.approx(wanted, rel=1e-8, abs=1e-10)


def test_rows_of_weight_zero_leave_no_trace() -> None:
    sums, other = Sums(1, 4, 2, 50.0), Sums(1, 4, 2, 50.0)
    for features, targets, weight in days(5, 4, 2):
        sums.add_day(features, targets, weight)
        noise = np.where(weight[:, None] > 0.0, 0.0, 1e6)
        other.add_day(features + noise, targets - noise, weight)
    assert other.solve(np.ones(1), np.ones(4)) == pytest.approx(sums.solve(np.ones(1), np.ones(4)))
    assert other.rows == sums.rows > 0.0


def test_nearness_is_greatest_for_the_hours_own_bin_and_round_the_clock() -> None:
    assert (NEARNESS.argmax(axis=1) == np.arange(24) * BINS // 24).all()
    assert NEARNESS[23, 0] > NEARNESS[23, 4]
