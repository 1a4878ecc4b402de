from __future__ import annotations

import math

import numpy as np
import pytest

from router.carbon.weather.conditions import (
    PRECIPITATION,
    QUANTITIES,
    TEMPERATURE,
    WIND,
    WeatherForecast,
    weighted_mean,
)


@pytest.mark.parametrize(
    ("place", "value", "fix"),
    [
        (TEMPERATURE, 285.0, "subtract 273.15"),
        (WIND, 120.0, "divide km/h by 3.6"),
        (WIND, -0.1, "m/s"),
        (PRECIPITATION, 1e9, "mm an hour"),
        (TEMPERATURE, math.nan, "no temperature"),
        (WIND, math.inf, "no wind_speed"),
    ],
)
def test_what_no_place_has_is_told_with_its_probable_unit(
    place: int, value: float, fix: str
) -> None:
    assert fix in QUANTITIES[place].why_not(value)


def test_bounds_themselves_are_believed() -> None:
    for quantity in QUANTITIES:
        assert not quantity.why_not(quantity.least) and not quantity.why_not(quantity.most)


def test_points_weigh_and_an_hour_that_one_lacks_is_unknown() -> None:
    one, other = np.full((3, 5), 1.0), np.full((3, 5), 4.0)
    other[1, 2] = np.nan
    mean = weighted_mean([one, other], [2.0, 1.0])
    assert mean[0].tolist() == [2.0] * 5
    assert np.isnan(mean[1]).tolist() == [False, False, True, False, False]


def test_a_forecast_ends_after_its_last_hour() -> None:
    assert WeatherForecast("w", 0.0, 10, np.zeros((5, 5))).end_h == 15
