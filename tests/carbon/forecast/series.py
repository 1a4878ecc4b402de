"""Made-up grids for the forecaster's tests; hours are counted from 1970."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from router.model import Basis, Factors, Intensity, Kind, Signal

SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
HOUR = 3600.0
H0 = 459_024  # 2022-05-14T00:00Z
T0 = H0 * HOUR


def grid(hours: int, seed: int = 1, swing: float = 0.3, noise: float = 0.02) -> NDArray[np.float64]:
    """A day's wave, slow weather and noise, in g/kWh; the last hour ends at H0."""
    rng = np.random.default_rng(seed)
    hour = np.arange(-hours, 0)
    weather = np.zeros(hours)
    for k in range(1, hours):
        weather[k] = 0.98 * weather[k - 1] + rng.normal(0.0, noise)
    logs = math.log(300.0) + swing * np.sin(hour * math.tau / 24.0) + weather
    values: NDArray[np.float64] = np.exp(logs + rng.normal(0.0, noise / 4, hours))
    return values


def seen(value: float, end: float, half: float = 0.0, signal: Signal = SIGNAL) -> Intensity:
    """A measured value of the slot that ends at ``end`` (unix seconds)."""
    return Intensity(
        value, value - half, value + half, signal, Kind.MEASURED, "trace:g.csv", end, end + 2 * HOUR
    )
