from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.forecast.mixing import EXPERTS, REGRESSIONS
from router.carbon.forecast.regressions import LEADS_H, RING_H
from router.carbon.forecast.zone import ZoneForecast, ZoneModel, bridge
from tests.carbon.forecast.series import H0, grid

FEW = np.array([1, 6, 24, 96])


def fed(
    values: np.ndarray, leads: np.ndarray = FEW, offset_g: float = 0.0, unscored: int = 0
) -> ZoneModel:
    """``values`` of the hours before H0; NaN is not observed. The first may stay ``unscored``."""
    first = H0 - len(values)
    model = ZoneModel(first + int(np.flatnonzero(~np.isnan(values))[0]), leads, offset_g=offset_g)
    for hour, value in enumerate(values.tolist(), first):
        if not math.isnan(value):
            model.observe(hour, value, score=hour - first >= unscored)
    return model


def same(one: ZoneForecast, other: ZoneForecast) -> bool:
    assert one.weather is None and other.weather is None
    pairs = zip(one[:-1], other[:-1], strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


@pytest.fixture(scope="module")
def year() -> np.ndarray:
    return grid(24 * 40)


@pytest.fixture(scope="module")
def learned(year: np.ndarray) -> ZoneModel:
    return fed(year, unscored=24 * 35)


def test_the_future_poisoned_changes_nothing_issued_before(year: np.ndarray) -> None:
    origin = len(year) - 120
    issues = []
    for garbage in (year[origin:], np.full(120, 4999.0), np.full(120, np.nan)):
        model = ZoneModel(H0, FEW)
        found = []
        for hour, value in enumerate(np.concatenate([year[:origin], garbage]).tolist()):
            if hour > origin - 48 and hour <= origin:
                found.append(model.issue())
            if not math.isnan(value):
                model.observe(H0 + hour, value, score=hour > origin - 240)
        issues.append(found)
    honest, wild, blank = issues
    assert len(honest) == 48
    assert all(same(a, b) for a, b in zip(honest, wild, strict=True))
    assert all(same(a, b) for a, b in zip(honest, blank, strict=True))


def test_a_lead_is_forecast_the_same_alone_and_among_all(year: np.ndarray) -> None:
    year = year[-24 * 12 :]
    few, every = fed(year).issue(), fed(year, LEADS_H).issue()
    assert every.point[FEW - 1] == pytest.approx(few.point, rel=1e-9)
    assert every.offsets[:, FEW - 1] == pytest.approx(few.offsets, rel=1e-6)


def test_asking_changes_nothing(year: np.ndarray) -> None:
    values = year[-24 * 10 :]
    curious = ZoneModel(H0 - len(values), FEW)
    for hour, value in enumerate(values.tolist(), H0 - len(values)):
        curious.observe(hour, value)
        curious.issue()
    assert same(curious.issue(), fed(values).issue())


def test_the_regressions_speak_once_days_were_absorbed_and_then_lead(year: np.ndarray) -> None:
    assert np.isnan(fed(year[-24 * 5 :]).issue().experts[:REGRESSIONS]).all()
    issue = fed(year, unscored=24 * 35).issue()
    assert not np.isnan(issue.experts).any()
    assert issue.point == pytest.approx(np.exp(issue.log_point))


def test_it_learns_to_beat_every_naive_forecast() -> None:
    values, start = grid(24 * 80, seed=4), 24 * 60
    model = fed(values[:start], FEW[:3], unscored=24 * 50)
    errors: list[np.ndarray] = []
    for hour in range(start, len(values) - 24):
        issue = model.issue()
        truth = np.log(values[hour + FEW[:3] - 1])
        errors.append(
            np.abs(np.vstack([issue.experts[REGRESSIONS + 1 :], issue.log_point]) - truth)
        )
        model.observe(model.newest_h + 1, float(values[hour]))
    loss = np.mean(errors, axis=0)
    assert (loss[-1] < loss[:-1].min(axis=0)).all(), loss


@pytest.mark.parametrize("hours", [1, 3, 25, 24 * 6, 24 * 9])
def test_a_cold_start_forecasts_from_the_first_hour_on(hours: int) -> None:
    values = grid(hours)
    issue = fed(values, LEADS_H).issue()
    assert np.isfinite(issue.point).all() and np.isfinite(issue.offsets).all()
    assert (issue.point >= 0.4 * values.min()).all()
    assert (issue.point <= 1.6 * values.max()).all()


def test_gaps_cost_little(year: np.ndarray, learned: ZoneModel) -> None:
    rng = np.random.default_rng(8)
    holed = year.copy()
    holed[rng.random(len(year)) < 0.05] = np.nan
    holed[-24 * 20 : -24 * 18] = np.nan
    holed[-1] = year[-1]
    assert fed(holed, unscored=24 * 35).issue().point == pytest.approx(
        learned.issue().point, rel=0.15
    )


def test_a_gap_right_before_the_newest_hour(year: np.ndarray) -> None:
    holed = year.copy()
    holed[-40:-1] = np.nan
    issue = fed(holed, unscored=24 * 35).issue()
    assert np.isfinite(issue.point).all()


def test_a_silence_longer_than_the_ring_starts_the_history_anew(year: np.ndarray) -> None:
    model = fed(year, unscored=24 * 35)
    model.observe(H0 + 3 * RING_H, 77.0)
    assert model.issue().experts[EXPERTS.index("persistence")] == pytest.approx(math.log(77.0))
    assert math.isnan(model.value(H0 - 1))
    assert np.isfinite(model.issue().point).all()


def test_a_revision_is_forecast_from_and_an_ancient_one_ignored(year: np.ndarray) -> None:
    model = fed(year, unscored=24 * 35)
    before = model.issue()
    model.observe(H0 - RING_H - 1, 4000.0)
    assert same(model.issue(), before)
    model.observe(H0 - 3, float(year[-3]) * 1.5)
    assert not same(model.issue(), before)
    model.observe(H0 - 3, float(year[-3]))
    assert same(model.issue(), before)


def test_zeros_of_a_signal_with_an_offset_stay_finite() -> None:
    values = grid(24 * 12)
    values[::7] = 0.0
    issue = fed(values, offset_g=10.0).issue()
    assert np.isfinite(issue.point).all() and (issue.point >= 0.0).all()


def test_memory_does_not_grow(year: np.ndarray) -> None:
    def size(model: ZoneModel) -> int:
        fits = model._regressions
        sums = [part for part in (fits.hourly, fits.level, fits.plain) if part is not None]
        held = [*sums, model._bands, model._mix]
        arrays = [getattr(part, name) for part in held for name in type(part).__slots__]
        arrays += [model._ring, model._pending, model._issued_h]
        return sum(part.nbytes for part in arrays if isinstance(part, np.ndarray))

    short, long = fed(year[-24 * 8 :], LEADS_H), fed(year[-24 * 12 :], LEADS_H)
    assert size(short) == size(long) < 3_000_000


holes = st.lists(st.tuples(st.integers(0, 800), st.integers(1, 60)), max_size=12)


@given(holes=holes, swing=st.floats(0.0, 1.5))
@settings(max_examples=4, deadline=None)
def test_whatever_is_missing_the_forecast_is_finite(
    holes: list[tuple[int, int]], swing: float
) -> None:
    values = grid(860, swing=swing)
    for start, length in holes:
        values[start : start + length] = np.nan
    values[-1] = 250.0
    issue = fed(values, unscored=800).issue()
    assert np.isfinite(issue.point).all() and (issue.point > 0.0).all()
    assert (np.diff(issue.offsets, axis=0) >= 0.0).all()


def test_bridging_takes_the_day_before_at_the_level_of_the_last_hour() -> None:
    logs = np.sin(np.arange(96) * math.tau / 24.0)
    holed = logs.copy()
    holed[50:60] = np.nan
    assert bridge(holed) == pytest.approx(logs)
    holed[30:80] = np.nan
    bridged = bridge(holed)
    assert not np.isnan(bridged[30:54]).any() and np.isnan(bridged[54:80]).all()
    assert np.isnan(bridge(np.full(48, np.nan))).all()
