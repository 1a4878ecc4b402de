"""The weather's correction: what it learns, and that it never knows more than was issued."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.forecast.ridge import NEARNESS
from router.carbon.forecast.weather import (
    COLUMNS,
    HALF_LIFE_D,
    INPUTS,
    PENALTY_ROWS,
    STALE_H,
    WeatherCorrection,
    ZoneWeather,
    inputs,
    point_columns,
    weather_columns,
)
from router.carbon.forecast.zone import ZoneForecast, ZoneModel
from router.carbon.weather.conditions import WIND, WeatherForecast
from tests.carbon.forecast.series import H0

LEADS = np.array([1, 6, 24])
DAYS = 30


def windy(hours: int, seed: int = 3) -> np.ndarray:
    """(hours, quantities) of made-up weather; wind is what changes from day to day."""
    rng = np.random.default_rng(seed)
    hour = np.arange(hours)
    wind = np.clip(5.0 + np.cumsum(rng.normal(0.0, 0.7, hours)) % 8.0 - 4.0, 0.0, None)
    sun = np.maximum(0.0, 500.0 * np.sin((hour - 6) * np.pi / 12.0))
    air = 15.0 + 5.0 * np.sin(hour * np.pi / 12.0)
    return np.stack([wind, sun, air, air - 6.0, np.zeros(hours)], axis=1)


def grid_of(values: np.ndarray) -> np.ndarray:
    """Its intensity, g/kWh: less where the wind blows."""
    return 500.0 - 40.0 * values[:, WIND]


def issue(values: np.ndarray, issued_h: int = H0, first_h: int = H0) -> WeatherForecast:
    return WeatherForecast("fake", issued_h * 3600.0, first_h, values)


def fed(g: np.ndarray, weather: WeatherForecast | None, hours: int) -> ZoneModel:
    model = ZoneModel(H0, LEADS)
    if weather is not None:
        model.take_weather(weather._replace(issued_at=np.inf))
    for hour in range(hours):
        model.observe(H0 + hour, float(g[hour]))
    return model


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return windy(24 * (DAYS + 5))


def test_it_finds_what_the_wind_does(values: np.ndarray) -> None:
    g = grid_of(values)
    model = ZoneModel(H0, LEADS)
    model.take_weather(issue(values)._replace(issued_at=np.inf))
    plain, corrected = [], []
    for hour in range(24 * DAYS):
        if hour > 24 * (DAYS - 8):
            said = model.issue().weather
            assert said is not None
            truth = np.log(g[hour - 1 + LEADS])
            plain.append(np.abs(said.plain - truth))
            corrected.append(np.abs(said.point - truth))
        model.observe(H0 + hour, float(g[hour]))
    assert np.mean(corrected, axis=0)[2] < 0.5 * np.mean(plain, axis=0)[2]
    assert np.mean(corrected, axis=0)[1] < 0.8 * np.mean(plain, axis=0)[1]


def test_what_it_says_depends_on_no_hour_past_the_lead_and_no_later_issue(
    values: np.ndarray,
) -> None:
    """Leakage: poison everything that no forecast so far could have used."""
    g, hours = grid_of(values), 24 * 12
    honest = fed(g, issue(values), hours)
    wild = values.copy()
    wild[hours + LEADS[-1] :] = 60.0
    assert alike(honest.issue(), fed(g, issue(wild), hours).issue())
    # A later issue says other things of hours that are over and of those to come: what was learned
    # stays by what was said then, and an issue that was withdrawn leaves no trace.
    other = fed(g, issue(values), hours)
    other.take_weather(issue(np.full_like(values, 30.0))._replace(issued_at=np.inf))
    other.issue()
    other.take_weather(issue(values)._replace(issued_at=np.inf))
    assert alike(honest.issue(), other.issue())


def test_weather_a_day_late_is_told_from_weather_in_time(values: np.ndarray) -> None:
    """The shift test: were hours off by one somewhere, the shifted weather would do better."""
    g, hours = grid_of(values), 24 * 24
    errors = []
    for shift in (0, 1, 24):
        moved = issue(values, first_h=H0 + shift)
        model = ZoneModel(H0, LEADS)
        model.take_weather(moved._replace(issued_at=np.inf))
        found = []
        for hour in range(hours):
            if hour > hours - 144 and (said := model.issue().weather) is not None:
                found.append(abs(said.corrected[2] - np.log(g[hour + 23])))
            model.observe(H0 + hour, float(g[hour]))
        errors.append(np.mean(found))
    assert errors[0] < errors[1] < errors[2]


def test_without_weather_nothing_is_another(values: np.ndarray) -> None:
    g, hours = grid_of(values), 24 * 12
    plain = fed(g, None, hours)
    assert plain.issue().weather is None
    blank = fed(g, issue(np.full_like(values, np.nan)), hours)
    assert alike(plain.issue(), blank.issue())
    stale = fed(g, None, hours)
    stale.take_weather(issue(values, issued_h=H0 + hours - STALE_H - 1))
    assert alike(plain.issue(), stale.issue())
    fresh = fed(g, None, hours)
    fresh.take_weather(issue(values, issued_h=H0 + hours - STALE_H))
    assert fresh.issue().weather is not None


def test_hours_that_are_missing_are_forecast_from_the_past_alone(values: np.ndarray) -> None:
    g, hours = grid_of(values), 24 * 12
    model = fed(g, issue(values), hours)
    whole = model.issue()
    holed = values.copy()
    holed[hours + 5] = np.nan
    model.take_weather(issue(holed)._replace(issued_at=np.inf))
    part = model.issue()
    assert part.weather is not None and whole.weather is not None
    assert part.log_point[1] == whole.weather.plain[1]
    assert np.array_equal(part.log_point[[0, 2]], whole.log_point[[0, 2]])
    # A day that is too short behind the origin says nothing at all.
    model.take_weather(issue(values[hours - 24 * 6 :], first_h=H0 + hours - 24 * 6))
    assert model.issue().weather is None


def test_sums_are_those_of_a_fit_from_scratch() -> None:
    rng = np.random.default_rng(5)
    leads, rows = np.array([1, 2]), 40
    correction = WeatherCorrection(leads)
    seen = rng.normal(size=(rows, 2, COLUMNS))
    errors = rng.normal(0.0, 0.1, (rows, 2))
    seen[7, 1, 3] = np.nan
    for row in range(rows):
        correction.learn(errors[row], errors[row], seen[row], row % 24)
    now, hour = rng.normal(size=(2, COLUMNS)), np.array([9, 20])
    said = correction.correct(np.zeros(2), now, hour)
    for lead in range(2):
        fade = 0.5 ** ((rows - 1 - np.arange(rows)) / (HALF_LIFE_D * 24.0))
        weight = fade * NEARNESS[hour[lead], np.arange(rows) % 24 // 3]
        weight[np.isnan(seen[:, lead]).any(axis=1)] = 0.0
        x, y = np.nan_to_num(seen[:, lead]), errors[:, lead]
        gram = (x * weight[:, None]).T @ x + PENALTY_ROWS * np.eye(COLUMNS)
        fit = np.linalg.solve(gram, x.T @ (weight * y))
        assert said[lead] == pytest.approx(now[lead] @ fit, rel=1e-6)


def test_what_did_worse_counts_little() -> None:
    correction, nothing = WeatherCorrection(LEADS), np.full((3, COLUMNS), np.nan)
    for hour in range(24 * 30):
        correction.learn(np.full(3, 0.1), np.array([0.05, 0.1, 0.3]), nothing, hour % 24)
    blended = correction.blend(np.zeros(3), np.ones(3))
    assert blended[0] > 0.95 and 0.2 < blended[1] < 0.5 and blended[2] < 0.01
    assert correction.blend(np.zeros(3), np.full(3, np.nan)).tolist() == [0.0] * 3


@settings(max_examples=50, deadline=None)
@given(st.integers(-300, 300), st.integers(0, 200), st.integers(0, 2**32 - 1))
def test_columns_are_known_where_their_hours_are(begin: int, hours: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.0, 20.0, (hours, 5))
    forecast = issue(values, first_h=H0 + begin)
    found = weather_columns(forecast, H0, LEADS)
    assert found.shape == (3, 3 * INPUTS)
    week = begin <= -168 and begin + hours >= 0
    for row, lead in zip(found, LEADS.tolist(), strict=True):
        known = week and begin + hours >= lead
        assert np.isnan(row).any() != known
    if week and begin + hours >= 24:
        at = -begin
        first = inputs(values)
        mean = first[at - 24 : at].mean(axis=0)
        assert found[1, :INPUTS] == pytest.approx(first[at + 5] - mean)
        assert found[1, INPUTS : 2 * INPUTS] == pytest.approx(first[at - 19] - mean)


def test_where_the_forecast_stands() -> None:
    week = np.concatenate([np.zeros(144), np.ones(24)])
    found = point_columns(np.array([1.0, 2.0]), week)
    assert found[:, 2].tolist() == [1.0, 1.0]
    assert found[1, 0] - found[0, 0] == pytest.approx(3.0)
    assert found[0, 1] == pytest.approx(3.0 * (1.0 - 1.0 / 7.0))


def test_power_of_wind_begins_and_ends() -> None:
    calm, storm = np.zeros((2, 5)), np.zeros((2, 5))
    calm[:, WIND], storm[:, WIND] = (0.0, 2.0), (9.0, 60.0)
    assert inputs(calm)[:, 1].tolist() == [0.0, 0.0]
    assert inputs(storm)[0, 1] == inputs(storm)[1, 1] == 2.0


def test_a_zone_learns_nothing_of_what_it_did_not_say() -> None:
    zone = ZoneWeather(LEADS)
    assert zone.say(H0, np.zeros(3), np.zeros(168)) is None
    zone.learn(H0, 1.0)
    zone.forecast = issue(windy(24 * 12), issued_h=H0 + 168)
    said = zone.say(H0 + 168, np.zeros(3), np.zeros(168))
    assert said is not None and said.corrected.tolist() == [0.0] * 3


def alike(one: ZoneForecast, other: ZoneForecast) -> bool:
    return np.array_equal(one.log_point, other.log_point) and np.array_equal(
        one.offsets, other.offsets
    )
