from __future__ import annotations

import numpy as np
import pytest

from router.lab.backtest.metrics import QUANTILES, regret, score
from router.lab.backtest.rolling import HORIZONS_H, METHODS, ZoneRun


def run(zone: str, points: list[list[float]], actual: list[float], half: float = 10.0) -> ZoneRun:
    """``points``: (methods, origins); the same at every horizon, quantiles ``half`` apart."""
    steps = half * (np.arange(7) - 3.0)
    quantiles = np.array(points)[:, :, None, None] + steps
    quantiles = np.repeat(quantiles, len(HORIZONS_H), axis=2)
    truth = np.repeat(np.array(actual)[:, None], len(HORIZONS_H), axis=1)
    return ZoneRun(zone, np.arange(len(actual)), truth, quantiles)


def test_scores_by_hand() -> None:
    rows = list(score(run("A", [[110.0, 170.0]] * 4, [100.0, 200.0])))
    assert len(rows) == len(HORIZONS_H) * len(METHODS)
    first = rows[0]
    assert (first.zone, first.horizon_h, first.method, first.n) == ("A", 1, "forecaster", 2)
    assert first.mape_pct == pytest.approx((10.0 + 15.0) / 2)
    assert first.mae_g == pytest.approx(20.0)
    # 100 lies on the edge of 100..120, 200 on that of 140..200.
    assert (first.cover50, first.cover90, first.cover95) == (0.5, 0.5, 1.0)
    losses = [
        max(level * (y - q), (level - 1.0) * (y - q))
        for y, middle in ((100.0, 110.0), (200.0, 170.0))
        for level, q in zip(QUANTILES, middle + 10.0 * (np.arange(7) - 3.0), strict=True)
    ]
    assert first.pinball_g == pytest.approx(np.mean(losses))


def test_only_what_every_method_could_forecast_counts() -> None:
    nan = float("nan")
    points = [[110.0, 1.0, 5.0], [110.0, nan, 5.0], [110.0, 1.0, 5.0], [110.0, 1.0, 5.0]]
    rows = list(score(run("A", points, [100.0, 1.0, nan])))
    assert {row.n for row in rows} == {1}
    assert [row.mape_pct for row in rows] == pytest.approx([10.0] * len(rows))


def test_nothing_to_score_is_nan_and_never_0() -> None:
    row = next(score(run("A", [[1.0]] * 4, [float("nan")])))
    assert row.n == 0 and np.isnan(row.mape_pct) and np.isnan(row.cover95)


def test_a_value_of_0_has_no_percentage() -> None:
    row = next(score(run("A", [[5.0, 110.0]] * 4, [0.0, 100.0])))
    assert row.n == 2 and row.mape_pct == pytest.approx(10.0)


def test_regret_is_of_the_zone_picked() -> None:
    good = run("A", [[90.0, 210.0]] * 4, [100.0, 200.0])
    bad = run("B", [[95.0, 100.0], [50.0, 100.0], [95.0, 300.0], [95.0, 100.0]], [150.0, 120.0])
    found = [row for row in regret([good, bad]) if row.horizon_h == 1]
    by = {row.method: row for row in found}
    assert by["forecaster"].picked_g == pytest.approx((100.0 + 120.0) / 2)
    assert by["forecaster"].regret_pct == 0.0
    assert by["persistence"].picked_g == pytest.approx((150.0 + 120.0) / 2)
    assert by["same_hour_yesterday"].regret_pct == pytest.approx(100.0 * (150.0 / 110.0 - 1.0))


def test_one_zone_leaves_nothing_to_pick() -> None:
    assert regret([run("A", [[1.0]] * 4, [1.0])]) == []
