from __future__ import annotations

import math
from datetime import UTC, datetime
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.climatology import Climatology
from router.carbon.forecast import (
    DECAY,
    LEADS_H,
    PRIOR_ERRORS,
    PRIOR_HALF_WIDTH,
    WINDOW_H,
    Nowcast,
    _own_half_widths,
    _predict,
)
from router.carbon.table import parse_csv
from router.errors import MissingIntensityError, MixedBasisError
from router.model import Basis, Factors, Intensity, Kind, Signal

SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
HOUR = 3600.0
H0 = 459_024  # 2022-05-14T00:00Z in hours
T0 = H0 * HOUR


def seen(value: float, end: float, half: float = 0.0, signal: Signal = SIGNAL) -> Intensity:
    return Intensity(
        value, value - half, value + half, signal, Kind.MEASURED, "trace:g.csv", end, end + 2 * HOUR
    )


def fed(values: list[float] | np.ndarray, nowcast: Nowcast | None = None) -> Nowcast:
    """``values`` of consecutive hours; the last one ends at T0. NaN is not observed."""
    nowcast = nowcast or Nowcast()
    for index, value in enumerate(values):
        if not math.isnan(value):
            nowcast.observe("X", seen(float(value), T0 - (len(values) - 1 - index) * HOUR))
    return nowcast


def sine(hours: int, swing: float = 100.0) -> np.ndarray:
    """A daily wave around 300 whose last hour ends at T0."""
    return 300.0 + swing * np.sin(np.arange(-hours, 0) * math.tau / 24.0)


def test_one_observation_is_carried_forward() -> None:
    forecast = fed([250.0]).forecast("X", T0 + 10.0, 24)
    assert [slot.g_per_kwh for slot in forecast.slots] == [250.0] * 24
    first = forecast.slots[0]
    assert (forecast.start, forecast.step_s) == (T0, HOUR)
    assert first.kind is Kind.FORECAST and first.source == "nowcast(trace:g.csv)"
    assert first.observed_at == T0 and first.expires_at == T0 + 2 * HOUR
    assert first.age_s(T0 + 10.0) == 10.0


def test_widths_grow_from_the_documented_prior() -> None:
    forecast = fed([250.0]).forecast("X", T0, 96)
    halves = [slot.high_g_per_kwh / slot.g_per_kwh - 1.0 for slot in forecast.slots]
    assert halves == pytest.approx(np.interp(np.arange(1, 97), LEADS_H, PRIOR_HALF_WIDTH))
    assert halves == sorted(halves)


def test_a_daily_wave_is_continued() -> None:
    forecast = fed(sine(72)).forecast("X", T0, 48)
    wanted = 300.0 + 100.0 * np.sin(np.arange(48) * math.tau / 24.0)
    assert [slot.g_per_kwh for slot in forecast.slots] == pytest.approx(wanted, abs=1e-6)


def test_the_last_departure_decays() -> None:
    values = sine(72, swing=0.0)
    values[-1] += 50.0
    forecast = fed(values).forecast("X", T0, 6)
    wanted = [300.0 + 50.0 * DECAY**lead for lead in range(1, 7)]
    assert [slot.g_per_kwh for slot in forecast.slots] == pytest.approx(wanted)


def test_own_errors_narrow_and_widen_the_interval() -> None:
    rng = np.random.default_rng(7)
    calm = fed(sine(WINDOW_H)).forecast("X", T0, 24)
    wild = fed(300.0 + 150.0 * rng.uniform(-1.0, 1.0, WINDOW_H)).forecast("X", T0, 24)

    def half(slot: Intensity) -> float:
        return slot.high_g_per_kwh / slot.g_per_kwh - 1.0

    assert half(calm.slots[0]) < PRIOR_HALF_WIDTH[1] < half(wild.slots[0])
    assert all(s.low_g_per_kwh < s.g_per_kwh < s.high_g_per_kwh for s in wild.slots)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_own_errors_equal_those_of_forecasting_from_every_past_hour(seed: int) -> None:
    rng = np.random.default_rng(seed)
    window = 300.0 + 60.0 * np.sin(rng.normal(0.0, 0.3, WINDOW_H).cumsum())
    blank = np.full(WINDOW_H, math.nan)
    wanted = [0.0]
    for index, lead in enumerate(LEADS_H[1:], 1):
        errors = []
        for origin in range(24, WINDOW_H - lead):
            # All that was known then, the past moved to the end of the window.
            past = np.concatenate([blank, window[: origin + 1]])[-WINDOW_H:]
            value = float(_predict(past, np.full(WINDOW_H + lead, math.nan), np.array([lead]))[0])
            errors.append(abs(window[origin + lead] - value) / value)
        own = float(np.quantile(errors, 0.9))
        weight = len(errors) / (len(errors) + PRIOR_ERRORS)
        wanted.append(PRIOR_HALF_WIDTH[index] * (1.0 - weight) + own * weight)
    assert _own_half_widths(window, blank) == pytest.approx(np.maximum.accumulate(wanted))


def test_an_estimates_own_uncertainty_is_kept() -> None:
    nowcast = Nowcast()
    nowcast.observe("X", seen(200.0, T0, half=100.0))
    slot = nowcast.forecast("X", T0, 1).slots[0]
    assert slot.high_g_per_kwh >= 300.0


def test_the_hour_containing_now_may_be_observed_already() -> None:
    nowcast = fed([200.0, 220.0])
    nowcast.observe("X", seen(260.0, T0 + HOUR))
    forecast = nowcast.forecast("X", T0 + 0.4 * HOUR, 2)
    assert forecast.slots[0].g_per_kwh == 260.0


def test_readings_of_one_hour_are_averaged() -> None:
    nowcast = Nowcast()
    for minute, value in ((15, 100.0), (30, 200.0), (45, 300.0), (60, 400.0)):
        nowcast.observe("X", seen(value, T0 + minute * 60.0))
    assert nowcast.forecast("X", T0 + HOUR, 1).slots[0].g_per_kwh == 250.0


def test_older_and_repeated_observations_change_nothing() -> None:
    nowcast = fed([200.0, 220.0, 240.0])
    before = nowcast.forecast("X", T0, 24)
    nowcast.observe("X", seen(999.0, T0))
    nowcast.observe("X", seen(999.0, T0 - HOUR))
    nowcast.observe("X", seen(999.0, T0 - 999 * HOUR))
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
    assert [slot.g_per_kwh for slot in forecast.slots] == pytest.approx(wanted)


def test_a_prior_of_another_signal_is_not_used() -> None:
    nowcast = Nowcast(Climatology.load())
    direct = Signal(Basis.AVERAGE, Factors.DIRECT)
    nowcast.observe("US-CAL-CISO", seen(200.0, T0, signal=direct))
    forecast = nowcast.forecast("US-CAL-CISO", T0, 24)
    assert {slot.g_per_kwh for slot in forecast.slots} == {200.0}
    assert forecast.slots[0].signal == direct


def test_a_long_silence_empties_the_window() -> None:
    nowcast = fed(sine(WINDOW_H))
    later = T0 + 3 * WINDOW_H * HOUR
    nowcast.observe("X", seen(77.0, later))
    forecast = nowcast.forecast("X", later, 24)
    assert {slot.g_per_kwh for slot in forecast.slots} == {77.0}


def test_memory_is_bounded() -> None:
    nowcast = fed(np.full(3 * WINDOW_H, 100.0))
    values = fed(np.full(WINDOW_H, 100.0)).forecast("X", T0, 24)
    assert nowcast.forecast("X", T0, 24) == values
    assert nowcast._zones["X"].ring.size == WINDOW_H


def test_it_beats_the_naive_forecasts_on_the_demo_grid() -> None:
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
        if row < 168 or row % 5:
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
    assert (ours < last).all(), (ours, last)
    assert (ours < 1.1 * yesterday).all() and ours.mean() < 0.85 * yesterday.mean()
    assert 0.85 <= np.mean(inside) <= 0.99


windows = st.lists(st.one_of(st.just(math.nan), st.floats(1.0, 1200.0)), min_size=1, max_size=80)


@given(values=windows, silent_h=st.integers(0, 60), horizon_h=st.integers(1, 120))
@settings(deadline=None)
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
@settings(max_examples=30, deadline=None)
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
