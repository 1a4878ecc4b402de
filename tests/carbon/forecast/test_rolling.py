"""Forecasts after every hour of a table against a `ZoneModel` that observes them one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from router.carbon.forecast.conformal import LEVELS
from router.carbon.forecast.regressions import LEADS_H
from router.carbon.forecast.rolling import Rolling
from router.carbon.forecast.zone import Usual, ZoneModel
from router.carbon.weather.conditions import QUANTITIES, WeatherForecast
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


def weather(end_h: int = H0 + HOURS + 30) -> WeatherForecast:
    """Known from five days before the first hour on, but for some hours."""
    rng = np.random.default_rng(9)
    first_h = H0 - 120
    values = rng.uniform(0.0, 14.0, (end_h - first_h, len(QUANTITIES)))
    values[200:203] = np.nan
    return WeatherForecast("fake", math.inf, first_h, values)


def one_by_one(
    values: np.ndarray,
    usual: Usual | None,
    offset_g: float,
    ahead: WeatherForecast | None = None,
) -> list[np.ndarray | None]:
    """After each hour: log point, low and high offsets, and the newest hour."""
    model: ZoneModel | None = None
    found: list[np.ndarray | None] = []
    for hour, value in enumerate(values.tolist(), H0):
        if not math.isnan(value):
            if model is None:
                model = ZoneModel(hour, offset_g=offset_g, usual=usual)
                if ahead is not None:
                    model.take_weather(ahead)
            model.observe(hour, value)
        issue = None if model is None else model.issue()
        found.append(
            None if issue is None
            else np.stack([issue.log_point, issue.offsets[LOW], issue.offsets[HIGH]])
        )  # fmt: skip
    return found


@pytest.mark.parametrize("ahead", [(), (weather(), None, weather(H0 + 300))])
@pytest.mark.parametrize(("values", "offset_g"), [(table(), 0.0), (holed(), 10.0)])
def test_it_says_what_a_model_that_observes_every_hour_says(
    values: np.ndarray, offset_g: float, ahead: tuple[WeatherForecast | None, ...]
) -> None:
    # What the weather's regressions are told is kept in single precision.
    close = 1e-4 if ahead else 1e-7
    rolling = Rolling(values, H0, USUAL, offset_g, weather=ahead)
    wanted = [
        one_by_one(column, usual, offset_g, one)
        for column, usual, one in zip(values.T, USUAL, ahead or [None] * 3, strict=True)
    ]
    for row in range(HOURS):
        rolling.advance(row + 1)
        said = np.stack([rolling.log_point, rolling.low, rolling.high])
        for zone, issues in enumerate(wanted):
            known = np.flatnonzero(~np.isnan(values[: row + 1, zone]))
            assert rolling.newest_h[zone] == (H0 + known[-1] if len(known) else -1)
            issue = issues[row]
            if issue is not None:
                np.testing.assert_allclose(said[:, zone], issue, rtol=close, atol=close)


def test_weather_moves_what_is_said() -> None:
    """Else the comparison above compares nothing."""
    plain = Rolling(table(), H0, USUAL)
    heeded = Rolling(table(), H0, USUAL, weather=[weather()] * 3)
    for one in (plain, heeded):
        one.advance(HOURS)
    assert (np.abs(heeded.log_point - plain.log_point) > 1e-5).mean() > 0.3


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
