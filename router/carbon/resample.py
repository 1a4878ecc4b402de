"""Published forecasts come in half-hours or quarter-hours; the router's slots are hours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from router.model import Forecast, Intensity

_HOUR_S: Final = 3600.0


def hourly(forecast: Forecast, start: float, now: float, hours: int) -> list[Intensity | None]:
    """``forecast`` on ``hours`` hourly slots from ``start``; shorter slots are averaged.

    None where it says nothing, or where what it says has expired at ``now``.
    """
    found: list[Intensity | None] = []
    for ahead in range(hours):
        begin = (start + ahead * _HOUR_S - forecast.start) / forecast.step_s
        low, high = math.floor(begin), math.ceil(begin + _HOUR_S / forecast.step_s)
        parts = forecast.slots[max(low, 0) : max(high, 0)]
        fresh = parts and all(part.expires_at > now for part in parts)
        found.append(_mean(parts) if fresh else None)
    return found


def _mean(parts: Sequence[Intensity]) -> Intensity:
    if len(parts) == 1:
        return parts[0]
    count = len(parts)
    return Intensity(
        g_per_kwh=sum(part.g_per_kwh for part in parts) / count,
        low_g_per_kwh=sum(part.low_g_per_kwh for part in parts) / count,
        high_g_per_kwh=sum(part.high_g_per_kwh for part in parts) / count,
        signal=parts[0].signal,
        kind=parts[0].kind,
        source=parts[0].source,
        observed_at=min(part.observed_at for part in parts),
        expires_at=min(part.expires_at for part in parts),
    )
