"""Published forecasts come in half-hours or quarter-hours; the router's slots are hours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from router.model import Forecast, Intensity, Kind
from router.units import HOUR_S


def hourly(
    forecast: Forecast,
    start: float,
    now: float,
    hours: int,
    observed: Callable[[float], Intensity | None] | None = None,
) -> list[Intensity | None]:
    """``forecast`` on ``hours`` hourly slots from ``start``; shorter slots are averaged.

    ``observed``: what is known of the slot that ends at a time, which tells more than what was
    forecast of it. None where the forecast says nothing, or where what it says has expired at
    ``now``.
    """
    found: list[Intensity | None] = []
    for ahead in range(hours):
        begin = (start + ahead * HOUR_S - forecast.start) / forecast.step_s
        low, high = math.floor(begin), math.ceil(begin + HOUR_S / forecast.step_s)
        parts = forecast.slots[max(low, 0) : max(high, 0)]
        if not parts or any(part.expires_at <= now for part in parts):
            found.append(None)
        elif observed is not None and start + ahead * HOUR_S < now and high - low > 1:
            known = _with_elapsed(forecast, range(low, high), now, observed)
            found.append(_mean(known, [p.expires_at for p in parts]))
        else:
            found.append(_mean(parts, [p.expires_at for p in parts]))
    return found


def _with_elapsed(
    forecast: Forecast,
    places: range,
    now: float,
    observed: Callable[[float], Intensity | None],
) -> list[Intensity]:
    """The slots at ``places``, those that are over by ``now`` as observed where that is known."""
    parts = []
    for place in places:
        end = forecast.start + (place + 1) * forecast.step_s
        known = observed(end) if end <= now else None
        if known is not None:
            parts.append(known)
        elif 0 <= place < len(forecast.slots):
            parts.append(forecast.slots[place])
    return parts


def _mean(parts: Sequence[Intensity], expires_at: Sequence[float]) -> Intensity:
    """``expires_at``: of what is forecast; what was observed of a part of the hour stays true."""
    if len(parts) == 1:
        return parts[0]
    count = len(parts)
    ahead = next((part for part in parts if part.kind is Kind.FORECAST), parts[0])
    return Intensity(
        g_per_kwh=sum(part.g_per_kwh for part in parts) / count,
        low_g_per_kwh=sum(part.low_g_per_kwh for part in parts) / count,
        high_g_per_kwh=sum(part.high_g_per_kwh for part in parts) / count,
        signal=ahead.signal,
        kind=ahead.kind,
        source=ahead.source,
        observed_at=min(part.observed_at for part in parts),
        expires_at=min(expires_at),
    )
