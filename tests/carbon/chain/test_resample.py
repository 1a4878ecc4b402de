from __future__ import annotations

import pytest

from router.carbon.chain.resample import hourly
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal

SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
T0 = 1_652_486_400.0
HOUR = 3600.0


def forecast(start: float, step_s: float, *values: float) -> Forecast:
    slots = tuple(
        Intensity(v, v - 5, v + 7, SIGNAL, Kind.FORECAST, "f", T0 - i, T0 + 9 * HOUR + i)
        for i, v in enumerate(values)
    )
    return Forecast("X", start, step_s, slots)


def values(*arguments: object) -> list[float | None]:
    return [slot and slot.g_per_kwh for slot in hourly(*arguments)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "step_s", "given", "expected"),
    [
        (T0, HOUR, (10, 20, 30), [10, 20, 30, None]),
        (T0 - HOUR, HOUR, (10, 20, 30), [20, 30, None, None]),
        (T0 + HOUR, HOUR, (10, 20), [None, 10, 20, None]),
        (T0, HOUR / 2, (10, 20, 30, 50, 60), [15, 40, 60, None]),
        (T0 + HOUR / 2, HOUR / 2, (20, 30, 50), [20, 40, None, None]),
        (T0, 3 * HOUR, (10, 20), [10, 10, 10, 20]),
        (T0 - HOUR, 2 * HOUR, (10, 20), [10, 20, 20, None]),
        (T0 + 99 * HOUR, HOUR, (10,), [None] * 4),
        (T0 - 99 * HOUR, HOUR, (10,), [None] * 4),
    ],
)
def test_hours(
    start: float, step_s: float, given: tuple[float, ...], expected: list[float | None]
) -> None:
    assert values(forecast(start, step_s, *given), T0, T0, 4) == expected


def test_the_mean_keeps_the_oldest_origin_and_the_first_expiry() -> None:
    slot = hourly(forecast(T0, HOUR / 2, 10, 20), T0, T0, 1)[0]
    assert slot is not None
    assert (slot.low_g_per_kwh, slot.g_per_kwh, slot.high_g_per_kwh) == (10.0, 15.0, 22.0)
    assert (slot.observed_at, slot.expires_at) == (T0 - 1, T0 + 9 * HOUR)
    assert (slot.kind, slot.source) == (Kind.FORECAST, "f")


def test_what_is_over_of_an_hour_counts_as_observed_or_else_as_forecast() -> None:
    now = T0 + 0.6 * HOUR
    seen = {T0 + HOUR / 4: Intensity(90.0, 90.0, 90.0, SIGNAL, Kind.MEASURED, "m", T0 + 900.0, now)}
    # The first quarter was observed, the second was not, and the third is not over.
    whole = hourly(forecast(T0, HOUR / 4, 10, 20, 30, 40), T0, now, 1, seen.get)[0]
    assert whole is not None
    assert whole.g_per_kwh == (90 + 20 + 30 + 40) / 4
    assert (whole.kind, whole.source) == (Kind.FORECAST, "f")
    assert (whole.observed_at, whole.expires_at) == (T0 - 3, T0 + 9 * HOUR)
    # Issued in the middle of the hour: what was not forecast is known all the same.
    late = hourly(forecast(T0 + HOUR / 2, HOUR / 4, 30, 40), T0, now, 1, seen.get)[0]
    assert late is not None
    assert late.g_per_kwh == (90 + 30 + 40) / 3
    # What is said to be observed of the time to come is not for this.
    seen[T0 + HOUR] = seen[T0 + HOUR / 4]
    assert hourly(forecast(T0, HOUR / 4, 10, 20, 30, 40), T0, now, 1, seen.get)[0] == whole


def test_what_expired_is_not_served() -> None:
    assert values(forecast(T0, HOUR, 10, 20), T0, T0 + 9 * HOUR, 2) == [None, 20]
