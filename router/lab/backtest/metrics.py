"""Scores of forecasts against what happened; each from the quantiles and the actual values alone.

``pinball`` is the mean over the seven quantiles (0.025 to 0.975) of the pinball loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.lab.backtest.rolling import HORIZONS_H, METHODS, ZoneRun

Array = NDArray[np.float64]
QUANTILES: Final = (0.025, 0.05, 0.25, 0.5, 0.75, 0.95, 0.975)
_POINT: Final = QUANTILES.index(0.5)


class Score(NamedTuple):
    """One row of metrics.csv; NaN where nothing could be scored."""

    zone: str
    horizon_h: int
    method: str
    n: int
    mape_pct: float
    mae_g: float
    pinball_g: float
    cover50: float
    cover90: float
    cover95: float


class Regret(NamedTuple):
    """Grams of "pick the zone forecast to be greenest", over those of knowing which one was."""

    horizon_h: int
    method: str
    n: int
    picked_g: float
    best_g: float
    regret_pct: float


def score(run: ZoneRun) -> Iterator[Score]:
    """Every horizon and method of one grid zone.

    Only origins at which every method could forecast count, so that all are judged on the same.
    """
    for place, horizon_h in enumerate(HORIZONS_H.tolist()):
        actual = run.actual[:, place]
        quantiles = run.quantiles[:, :, place]
        usable = ~np.isnan(actual) & ~np.isnan(quantiles).any(axis=(0, 2))
        for method, rows in zip(METHODS, quantiles[:, usable], strict=True):
            yield Score(run.grid_zone, horizon_h, method, *_scores(rows, actual[usable]))


def _scores(
    quantiles: Array, actual: Array
) -> tuple[int, float, float, float, float, float, float]:
    """``quantiles`` (n, 7), ``actual`` (n,). Values of 0 have no percentage and are left out."""
    count = len(actual)
    if not count:
        nan = math.nan
        return (0, nan, nan, nan, nan, nan, nan)
    error = np.abs(quantiles[:, _POINT] - actual)
    above = actual > 0.0
    mape = 100.0 * float((error[above] / actual[above]).mean()) if above.any() else math.nan
    gap = actual[:, None] - quantiles
    levels = np.array(QUANTILES)
    pinball = np.maximum(levels * gap, (levels - 1.0) * gap).mean()
    cover = [
        float(((quantiles[:, low] <= actual) & (actual <= quantiles[:, -1 - low])).mean())
        for low in (2, 1, 0)
    ]
    return (count, mape, float(error.mean()), float(pinball), cover[0], cover[1], cover[2])


def regret(runs: Sequence[ZoneRun]) -> list[Regret]:
    """Of picking among all zones at once, at origins where all are known; [] for a single zone."""
    if len(runs) < 2:
        return []
    actual = np.stack([run.actual for run in runs])
    points = np.stack([run.quantiles[..., _POINT] for run in runs])
    usable = np.asarray(np.isfinite(actual).all(axis=0) & np.isfinite(points).all((0, 1)))
    found = []
    for place, horizon_h in enumerate(HORIZONS_H.tolist()):
        rows = usable[:, place]
        truth = actual[:, rows, place]
        if not rows.any():
            continue
        best = float(truth.min(axis=0).mean())
        for index, method in enumerate(METHODS):
            pick = points[:, index, rows, place].argmin(axis=0)
            picked = float(truth[pick, np.arange(truth.shape[1])].mean())
            over = 100.0 * (picked / best - 1.0) if best > 0.0 else math.nan
            found.append(Regret(horizon_h, method, int(rows.sum()), picked, best, over))
    return found
