from __future__ import annotations

import math
from datetime import UTC, datetime
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.forecast import Nowcast
from router.carbon.forecast.conformal import LEADS_H, PRIOR_SIZE
from router.carbon.forecast.seasonal import DECAY
from router.carbon.tables.climatology import Climatology
from router.carbon.tables.table import parse_csv
from router.carbon.weather.conditions import WeatherForecast
from router.errors import MissingIntensityError, MixedBasisError
from router.model import Basis, Factors, Intensity, Kind, Signal
from tests.carbon.forecast.series import H0, HOUR, SIGNAL, T0, grid, seen


def fed(values: list[float] | np.ndarray, nowcast: Nowcast | None = None) -> Nowcast:
    """``values`` of consecutive hours; the last one ends at T0. NaN is not observed."""
    nowcast = nowcast or Nowcast()
    for index, value in enumerate(values):
        if not math.isnan(value):
            nowcast.observe("X", seen(float(value), T0 - (len(values) - 1 - index) * HOUR))
    return nowcast


def values_of(nowcast: Nowcast, hours: int = 24, now: float = T0) -> list[float]:
    return [slot.g_per_kwh for slot in nowcast.forecast("X", now, hours).slots]


def test_one_observation_is_carried_forward() -> None:
    forecast = fed([250.0]).forecast("X", T0 + 10.0, 24)
    assert [slot.g_per_kwh for slot in forecast.slots] == pytest.approx([250.0] * 24)
    first = forecast.slots[0]
    assert (forecast.start, forecast.step_s) == (T0, HOUR)
    assert first.kind is Kind.FORECAST and first.source == "nowcast(trace:g.csv)"
    assert first.observed_at == T0 and first.expires_at == T0 + 2 * HOUR
    assert first.age_s(T0 + 10.0) == 10.0


def test_the_first_widths_grow_from_the_documented_prior() -> None:
    forecast = fed([250.0]).forecast("X", T0, 120)
    halves = [math.log(slot.high_g_per_kwh / slot.g_per_kwh) for slot in forecast.slots]
    wanted = math.log(10.0) * np.interp(np.arange(1, 97), LEADS_H, PRIOR_SIZE)
    assert halves[:96] == pytest.approx(wanted)
    assert halves[:96] == sorted(halves[:96]) and halves[119] > halves[95]


def test_the_last_departure_decays_before_there_is_history_to_learn_from() -> None:
    values = [300.0] * 71 + [350.0]
    found = values_of(fed(values), 6)
    assert found == sorted(found, reverse=True)
    assert found == pytest.approx([300.0 + 50.0 * DECAY**lead for lead in range(1, 7)], rel=0.03)


def test_own_errors_narrow_and_widen_the_interval() -> None:
    def half(values: np.ndarray) -> float:
        slot = fed(values).forecast("X", T0, 24).slots[0]
        assert slot.low_g_per_kwh < slot.g_per_kwh < slot.high_g_per_kwh
        return slot.high_g_per_kwh / slot.g_per_kwh - 1.0

    calm, wild = half(grid(24 * 20, noise=0.001)), half(grid(24 * 20, noise=0.2))
    assert 2.0 * calm < half(np.array([250.0])) < 0.5 * wild


def test_an_estimates_own_uncertainty_is_kept() -> None:
    nowcast = Nowcast()
    nowcast.observe("X", seen(200.0, T0, half=100.0))
    slot = nowcast.forecast("X", T0, 1).slots[0]
    assert slot.high_g_per_kwh >= 300.0 and slot.low_g_per_kwh < 140.0


def test_the_hour_containing_now_may_be_observed_already() -> None:
    nowcast = fed([200.0, 220.0])
    nowcast.observe("X", seen(260.0, T0 + HOUR))
    assert values_of(nowcast, 2, T0 + 0.4 * HOUR)[0] == 260.0


def test_readings_of_one_hour_are_averaged() -> None:
    nowcast = Nowcast()
    for minute, value in ((15, 100.0), (30, 200.0), (45, 300.0), (60, 400.0)):
        nowcast.observe("X", seen(value, T0 + minute * 60.0))
    assert values_of(nowcast, 1, T0 + HOUR)[0] == pytest.approx(250.0)
    nowcast.observe("X", seen(900.0, T0 + 45 * 60.0))
    assert values_of(nowcast, 1, T0 + HOUR)[0] == pytest.approx(250.0)


def test_repeated_observations_change_nothing() -> None:
    values = grid(24 * 9)
    nowcast = fed(values)
    before = nowcast.forecast("X", T0, 24)
    for back in (0, 1, 50):
        nowcast.observe("X", seen(float(values[-1 - back]), T0 - back * HOUR))
    assert nowcast.forecast("X", T0, 24) == before


def test_a_revised_value_counts_as_if_it_had_come_first() -> None:
    values = grid(24 * 9)
    wrong = values.copy()
    wrong[-1] *= 1.4
    nowcast = fed(wrong)
    nowcast.observe("X", seen(float(values[-1]), T0))
    assert values_of(nowcast) == values_of(fed(values))
    assert values_of(nowcast) != values_of(fed(wrong))


def test_an_hour_that_arrives_late_fills_its_gap() -> None:
    values = grid(24 * 9)
    holed = values.copy()
    holed[-5] = np.nan
    nowcast = fed(holed)
    before = values_of(nowcast)
    nowcast.observe("X", seen(float(values[-5]), T0 - 4 * HOUR))
    assert values_of(nowcast) != before
    assert values_of(nowcast) == pytest.approx(values_of(fed(values)), rel=0.02)


def test_a_revision_older_than_the_history_changes_nothing() -> None:
    nowcast = fed([200.0, 220.0, 240.0])
    before = nowcast.forecast("X", T0, 24)
    nowcast.observe("X", seen(999.0, T0 - 9999 * HOUR))
    assert nowcast.forecast("X", T0, 24) == before


def test_nothing_is_known_before_it_was_observed() -> None:
    nowcast = fed([200.0])
    with pytest.raises(MissingIntensityError):
        nowcast.forecast("X", T0 - 2 * HOUR, 24)
    with pytest.raises(MissingIntensityError):
        nowcast.forecast("Y", T0, 24)


def test_signals_do_not_mix() -> None:
    nowcast = fed([200.0])
    with pytest.raises(MixedBasisError, match="X"):
        nowcast.observe("X", seen(1.0, T0 + HOUR, signal=Signal(Basis.AVERAGE, Factors.DIRECT)))


def test_the_prior_gives_the_shape_before_a_day_was_seen() -> None:
    prior = Climatology.load()
    end = datetime(2022, 5, 14, 3, tzinfo=UTC).timestamp()
    nowcast = Nowcast(prior)
    usual = prior.slots("US-CAL-CISO", end - HOUR, 49)
    nowcast.observe("US-CAL-CISO", seen(usual[0].g_per_kwh, end))
    forecast = nowcast.forecast("US-CAL-CISO", end, 48)
    wanted = [slot.g_per_kwh for slot in usual[1:]]
    assert [slot.g_per_kwh for slot in forecast.slots] == pytest.approx(wanted, rel=0.02)


def test_a_prior_of_another_signal_is_not_used() -> None:
    nowcast = Nowcast(Climatology.load())
    direct = Signal(Basis.AVERAGE, Factors.DIRECT)
    nowcast.observe("US-CAL-CISO", seen(200.0, T0, signal=direct))
    forecast = nowcast.forecast("US-CAL-CISO", T0, 24)
    assert [slot.g_per_kwh for slot in forecast.slots] == pytest.approx([200.0] * 24)
    assert forecast.slots[0].signal == direct


def test_the_age_of_the_newest_observation_widens_the_band() -> None:
    nowcast = fed(grid(24 * 20))
    ages = [0, 6, 24, 48]
    halves = []
    for age in ages:
        slot = nowcast.forecast("X", T0 + age * HOUR, 1).slots[0]
        assert slot.observed_at == T0
        halves.append(math.log(slot.high_g_per_kwh / slot.low_g_per_kwh))
    assert halves == sorted(halves)


def test_past_the_furthest_lead_its_day_repeats() -> None:
    slots = fed(grid(24 * 20)).forecast("X", T0, 144).slots
    assert [s.g_per_kwh for s in slots[96:120]] == [s.g_per_kwh for s in slots[72:96]]
    assert slots[143].high_g_per_kwh > slots[95].high_g_per_kwh


def test_it_beats_the_naive_forecasts_on_the_demo_grid() -> None:
    """A week and a half of history: what a gateway has that just started."""
    text = resources.files("router.data").joinpath("demo_grid.csv").read_text("utf-8")
    table = parse_csv(text.splitlines(), "demo_grid.csv", Factors.LIFECYCLE)
    nowcast = Nowcast()
    leads = (1, 3, 6, 12, 24)
    errors: dict[str, list[list[float]]] = {"nowcast": [], "persistence": [], "yesterday": []}
    inside: list[bool] = []
    for row in range(len(table.g_per_kwh) - 24):
        end = table.start + (row + 1) * HOUR
        for zone, value in zip(table.grid_zones, table.g_per_kwh[row].tolist(), strict=True):
            nowcast.observe(zone, seen(value, end))
        if row < 168 or row % 11:
            continue
        actual = table.g_per_kwh[[row + lead for lead in leads]]
        for column, zone in enumerate(table.grid_zones):
            slots = nowcast.forecast(zone, end, 24).slots
            guesses = {
                "nowcast": [slots[lead - 1].g_per_kwh for lead in leads],
                "persistence": [table.g_per_kwh[row, column]] * len(leads),
                "yesterday": [table.g_per_kwh[row + lead - 24, column] for lead in leads],
            }
            for method, guess in guesses.items():
                errors[method].append(list(np.abs(guess / actual[:, column] - 1.0)))
            for lead, truth in zip(leads, actual[:, column], strict=True):
                slot = slots[lead - 1]
                inside.append(bool(slot.low_g_per_kwh <= truth <= slot.high_g_per_kwh))
    ours, last, yesterday = (np.mean(errors[method], axis=0) for method in errors)
    assert (ours[:4] < last[:4]).all(), (ours, last)
    assert (ours < 1.1 * yesterday).all() and ours.mean() < 0.85 * yesterday.mean()
    assert 0.85 <= np.mean(inside) <= 0.99


windows = st.lists(st.one_of(st.just(math.nan), st.floats(1.0, 1200.0)), min_size=1, max_size=80)


@given(values=windows, silent_h=st.integers(0, 60), horizon_h=st.integers(1, 120))
@settings(max_examples=25, deadline=None)
def test_always_a_positive_value_inside_a_band_near_what_was_seen(
    values: list[float], silent_h: int, horizon_h: int
) -> None:
    values = [*values, 400.0]
    forecast = fed(values).forecast("X", T0 + silent_h * HOUR, horizon_h)
    assert len(forecast.slots) == horizon_h
    known = [value for value in values if not math.isnan(value)]
    for slot in forecast.slots:
        assert 0.5 * min(known) - 1e-9 <= slot.g_per_kwh <= 1.5 * max(known) + 1e-9
        assert slot.low_g_per_kwh < slot.g_per_kwh < slot.high_g_per_kwh


@given(seed=st.integers(0, 10_000), hours=st.integers(1, 80), horizon_h=st.integers(1, 96))
@settings(max_examples=8, deadline=None)
def test_only_what_was_observed_decides_not_what_was_asked(
    seed: int, hours: int, horizon_h: int
) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(hours) < 0.1, math.nan, rng.uniform(50.0, 900.0, hours))
    values[-1] = 100.0
    quiet, curious = fed(values), Nowcast()
    for index, value in enumerate(values):
        if not math.isnan(value):
            end = T0 - (len(values) - 1 - index) * HOUR
            curious.observe("X", seen(float(value), end))
            curious.forecast("X", end + HOUR, 5)
    assert curious.forecast("X", T0, horizon_h) == quiet.forecast("X", T0, horizon_h)


def test_zones_do_not_touch_each_other() -> None:
    values = grid(24 * 9)
    alone, crowded = fed(values), Nowcast()
    for index, value in enumerate(values.tolist()):
        end = T0 - (len(values) - 1 - index) * HOUR
        crowded.observe("Y", seen(1000.0 - value, end))
        crowded.observe("X", seen(value, end))
    assert crowded.forecast("X", T0, 24) == alone.forecast("X", T0, 24)
    assert isinstance(crowded.forecast("Y", T0, 24).slots[0], Intensity)
    assert crowded.forecast("Y", T0, 1).slots[0].signal == SIGNAL


def test_weather_has_its_say_from_when_it_comes_until_it_is_taken_back() -> None:
    values = np.full((24 * 20, 5), 5.0)
    weather = WeatherForecast("w", T0, H0 - 24 * 10, values)
    late, early = Nowcast(), Nowcast()
    early.take_weather("DE", weather)
    for forecaster in (late, early):
        for hour in range(-24 * 8, 0):
            forecaster.observe("DE", seen(300.0 + hour % 24, T0 + (hour + 1) * HOUR))
    plain = {slot.source for slot in late.forecast("DE", T0, 6).slots}
    assert plain == {"nowcast(trace:g.csv)"}
    late.take_weather("DE", weather)
    for forecaster in (late, early):
        slots = forecaster.forecast("DE", T0, 6).slots
        assert {slot.source for slot in slots} == {"nowcast(trace:g.csv, w)"}
        # What was observed is as it was.
        assert forecaster.forecast("DE", T0 - 1.0, 2).slots[0].source == "nowcast(trace:g.csv)"
        forecaster.forget("DE")
        assert forecaster.weather("DE") is weather
        forecaster.observe("DE", seen(300.0, T0))
        forecaster.take_weather("DE", None)
        assert {slot.source for slot in forecaster.forecast("DE", T0, 6).slots} == plain
