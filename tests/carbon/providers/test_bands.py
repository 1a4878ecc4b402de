from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.providers.bands import (
    MARGINAL_LEAST_HALF_WIDTH_G,
    RELATIVE_HALF_WIDTH,
    half_width_g,
    with_band,
)
from router.errors import ProviderAnswerError
from router.model import Basis, Factors, Kind, Signal

AVERAGE = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
MARGINAL = Signal(Basis.MARGINAL, Factors.NONE)
HOUR = 3600.0
KINDS = sorted(RELATIVE_HALF_WIDTH)


def test_a_forecast_widens_beyond_a_day_as_persistence_does() -> None:
    widths = [half_width_g(100.0, AVERAGE, Kind.FORECAST, h * HOUR) for h in (0, 24, 60, 96, 500)]
    far = 14.2 * 15 / 9.8
    assert widths == pytest.approx([14.2, 14.2, (14.2 + far) / 2, far, far])
    assert half_width_g(100.0, AVERAGE, Kind.ESTIMATED, 90 * HOUR) == 15.0


def test_a_marginal_rate_is_twice_as_uncertain_and_never_certain() -> None:
    assert half_width_g(600.0, MARGINAL, Kind.ESTIMATED) == 180.0
    assert half_width_g(0.0, MARGINAL, Kind.FORECAST) == MARGINAL_LEAST_HALF_WIDTH_G
    assert half_width_g(0.0, AVERAGE, Kind.FORECAST) == 0.0


@given(
    value=st.floats(0.0, 5000.0),
    signal=st.sampled_from([AVERAGE, MARGINAL]),
    kind=st.sampled_from(KINDS),
    half_g=st.none() | st.floats(0.0, 1e4),
)
def test_a_band_holds_its_value(
    value: float, signal: Signal, kind: Kind, half_g: float | None
) -> None:
    found = with_band(value, signal, kind, "x", observed_at=1.0, expires_at=2.0, half_g=half_g)
    assert 0.0 <= found.low_g_per_kwh <= found.g_per_kwh <= found.high_g_per_kwh
    assert (found.signal, found.kind, found.observed_at, found.expires_at) == (signal, kind, 1, 2)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_what_is_no_intensity_is_refused(value: float) -> None:
    with pytest.raises(ProviderAnswerError, match="no carbon intensity"):
        with_band(value, AVERAGE, Kind.MEASURED, "x", observed_at=0.0, expires_at=0.0)
