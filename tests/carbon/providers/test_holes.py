from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.providers.holes import bridged, is_stated
from router.model import Basis, Factors, Intensity, Kind, Signal


def slot(g_per_kwh: float) -> Intensity:
    signal = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
    low, high = 0.8 * g_per_kwh, 1.2 * g_per_kwh
    return Intensity(g_per_kwh, low, high, signal, Kind.FORECAST, "em", 100.0, 200.0)


@given(st.lists(st.none() | st.floats(1.0, 900.0), max_size=30), *[st.floats(1.0, 900.0)] * 2)
def test_what_was_stated_stays_and_a_hole_has_expired_and_lies_between(
    middle: list[float | None], first: float, last: float
) -> None:
    values = [first, *middle, last]
    found = bridged([None if value is None else slot(value) for value in values])
    assert [s.g_per_kwh if is_stated(s) else None for s in found] == values
    known = [value for value in values if value is not None]
    assert all(min(known) * 0.999 <= s.g_per_kwh <= max(known) * 1.001 for s in found)
    assert all(s.expires_at == s.observed_at for s in found if not is_stated(s))


def test_a_forecast_does_not_begin_or_end_with_a_hole() -> None:
    for slots in ([], [None], [slot(1.0), None], [None, slot(1.0)]):
        with pytest.raises(ValueError, match="starts and ends"):
            bridged(slots)
