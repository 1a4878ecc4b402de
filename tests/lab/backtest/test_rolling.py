from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from router.carbon.forecast import Nowcast
from router.lab.backtest.rolling import HORIZONS_H, METHODS, ZoneRun, leads_for, run_zone
from tests.carbon.forecast.series import HOUR, T0, seen
from tests.lab.backtest.grids import columns

FIRST_H = int(T0 // HOUR)
ORIGINS = np.arange(24 * 14, 24 * 19, 23)


def naive(values: np.ndarray, origin: int, horizon: int, period: int) -> float:
    """The newest known value a whole number of periods before the target, found by looking."""
    place = origin + horizon - 1
    while place >= origin or np.isnan(values[place]):
        place -= period
    return float(values[place])


@cache
def whole() -> ZoneRun:
    """Of the first column as it is."""
    return run_zone("X", columns()[:, 0], FIRST_H, ORIGINS, offset_g=0.0)


def test_the_forecaster_is_the_live_one() -> None:
    """Nowcast, fed hour by hour, says what the backtest says, at every horizon and bound."""
    values = columns()[:, 0]
    run = whole()
    nowcast = Nowcast()
    for row, value in enumerate(values[: ORIGINS[-1]].tolist(), 1):
        nowcast.observe("X", seen(value, T0 + row * HOUR))
        if row in ORIGINS:
            place = int(np.searchsorted(ORIGINS, row))
            slots = nowcast.forecast("X", T0 + row * HOUR, 96).slots
            for index, horizon in enumerate(HORIZONS_H.tolist()):
                slot = slots[horizon - 1]
                live = [slot.low_g_per_kwh, slot.g_per_kwh, slot.high_g_per_kwh]
                assert live == pytest.approx(run.quantiles[0, place, index, [1, 3, 5]], rel=1e-6)


def test_naive_forecasts_are_what_their_names_say() -> None:
    values = columns()[:, 0]
    values[[24 * 13 + 5, 24 * 14 - 1, 24 * 16 + 2]] = np.nan
    run = run_zone("X", values, FIRST_H, ORIGINS, offset_g=0.0)
    for method, period in ((1, 1), (2, 24), (3, 168)):
        for place, origin in enumerate(ORIGINS.tolist()):
            for index, horizon in enumerate(HORIZONS_H.tolist()):
                wanted = naive(values, origin, 1 if period == 1 else horizon, period)
                assert run.quantiles[method, place, index, 3] == pytest.approx(wanted)


def test_actual_values_are_those_of_the_hour_that_ends_after_the_horizon() -> None:
    values = columns()[:, 0]
    run = whole()
    assert run.actual[0].tolist() == [values[ORIGINS[0] + h - 1] for h in HORIZONS_H.tolist()]
    late = run_zone("X", values, FIRST_H, np.array([len(values) - 2]), offset_g=0.0)
    assert np.isnan(late.actual[0]).tolist() == [False, True, True, True, True, True, True]


@pytest.mark.parametrize("garbage", [4999.0, np.nan])
def test_no_method_sees_what_comes_after_its_origin(garbage: float) -> None:
    values = columns()[:, 0]
    cut = int(ORIGINS[3])
    poisoned = values.copy()
    poisoned[cut:] = garbage
    early = ORIGINS[:4]
    honest = whole()
    wild = run_zone("X", poisoned, FIRST_H, early, offset_g=0.0)
    assert honest.quantiles[1:, :4].tolist() == wild.quantiles[1:].tolist()
    assert honest.quantiles[0, :4] == pytest.approx(wild.quantiles[0], rel=1e-9)
    if garbage == garbage:
        assert honest.quantiles[0, :4].tolist() == wild.quantiles[0].tolist()


def test_thinning_the_origins_changes_no_forecast() -> None:
    values = columns()[:, 0]
    thin = run_zone("X", values, FIRST_H, ORIGINS[::2], offset_g=0.0)
    full = whole()
    assert thin.quantiles.tolist() == full.quantiles[:, ::2].tolist()


def test_after_a_gap_the_forecast_starts_from_the_newest_known_hour() -> None:
    values = columns()[:, 0]
    values[24 * 13 - 3 : 24 * 13] = np.nan
    values[24 * 14 : 24 * 16] = np.nan
    origins = np.array([24 * 13, 24 * 14 + 20, 24 * 15 + 20, 24 * 17])
    run = run_zone("X", values, FIRST_H, origins, offset_g=0.0)
    forecast = ~np.isnan(run.quantiles).any(axis=(0, 2, 3))
    assert forecast.tolist() == [True, True, False, True]
    assert set(HORIZONS_H.tolist()) < set(leads_for(values).tolist())


def test_leads_are_few_without_gaps_and_never_past_four_days() -> None:
    values = columns()[:, 0]
    assert leads_for(values).tolist() == HORIZONS_H.tolist()
    values[100:300] = np.nan
    assert leads_for(values).max() == 96


def test_every_method_has_ordered_quantiles() -> None:
    run = run_zone("X", columns()[:, 1], FIRST_H, ORIGINS, offset_g=0.0)
    assert run.quantiles.shape == (len(METHODS), len(ORIGINS), len(HORIZONS_H), 7)
    outer = run.quantiles[..., [0, 1, 2, 4, 5, 6]]
    assert (np.diff(outer, axis=-1) >= 0.0).all()
