"""Forecasts after every hour of a table against a `ZoneModel` that observes them one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from router.carbon.forecast.conformal import LEVELS
from router.carbon.forecast.regressions import LEADS_H
from router.carbon.forecast.rolling import Rolling
from router.carbon.forecast.zone import Usual, ZoneModel
from tests.carbon.forecast.series import H0, grid

HOURS = 24 * 14
LOW, HIGH = LEVELS.index(0.05), LEVELS.index(0.95)


def flat(first_h: int, count: int) -> np.ndarray:
    return 280.0 + 40.0 * np.sin((first_h + np.arange(count)) * math.tau / 24.0)


def nothing(first_h: int, count: int) -> np.ndarray:
    return np.empty(0)


USUAL: tuple[Usual | None, ...] = (None, flat, nothing)


def table() -> np.ndarray:
    return np.stack([grid(HOURS, seed=seed) for seed in (1, 2, 3)], axis=1)


def holed() -> np.ndarray:
    values = table()
    rng = np.random.default_rng(5)
    values[:30, 0] = np.nan
    values[rng.random(HOURS) < 0.03, 1] = np.nan
    values[200:240, 2] = np.nan
    values[300, :] = np.nan
    return values


def one_by_one(values: np.ndarray, usual: Usual | None, offset_g: float) -> list[np.ndarray | None]:
    """After each hour: log point, low and high offsets, and the newest hour."""
    model: ZoneModel | None = None
    found: list[np.ndarray | None] = []
    for hour, value in enumerate(values.tolist(), H0):
        if not math.isnan(value):
            model = model or ZoneModel(hour, offset_g=offset_g, usual=usual)
            model.observe(hour, value)
        issue = None if model is None else model.issue()
        found.append(
            None if issue is None
            else np.stack([issue.log_point, issue.offsets[LOW], issue.offsets[HIGH]])
        )  # fmt: skip
    return found


@pytest.mark.parametrize(("values", "offset_g"), [(table(), 0.0), (holed(), 10.0)])
def test_it_says_what_a_model_that_observes_every_hour_says(
    values: np.ndarray, offset_g: float
) -> None:
    rolling = Rolling(values, H0, USUAL, offset_g)
    wanted = [
        one_by_one(column, usual, offset_g)
        for column, usual in zip(values.T, USUAL, strict=True)
    ]  # fmt: skip
    for row in range(HOURS):
        rolling.advance(row + 1)
        said = np.stack([rolling.log_point, rolling.low, rolling.high])
        for zone, issues in enumerate(wanted):
            known = np.flatnonzero(~np.isnan(values[: row + 1, zone]))
            assert rolling.newest_h[zone] == (H0 + known[-1] if len(known) else -1)
            issue = issues[row]
            if issue is not None:
                np.testing.assert_allclose(said[:, zone], issue, rtol=1e-7, atol=1e-9)


def test_a_lead_is_forecast_the_same_alone_and_among_all() -> None:
    few = np.arange(1, 27)
    all_of_them, rolling = Rolling(table(), H0, USUAL), Rolling(table(), H0, USUAL, 0.0, few)
    for one in (all_of_them, rolling):
        one.advance(24 * 12 + 7)
    assert all_of_them.log_point[:, : len(few)] == pytest.approx(rolling.log_point, rel=1e-9)
    assert len(LEADS_H) == all_of_them.log_point.shape[1]


@pytest.mark.parametrize("garbage", [4999.0, math.nan])
def test_rows_to_come_change_nothing(garbage: float) -> None:
    poisoned = table()
    poisoned[24 * 10 + 5 :] = garbage
    honest, other = Rolling(table(), H0, USUAL), Rolling(poisoned, H0, USUAL)
    for row in range(24 * 10 + 5):
        honest.advance(row + 1)
        other.advance(row + 1)
        assert np.array_equal(honest.log_point, other.log_point)
        assert np.array_equal(honest.high, other.high)
