"""What every CarbonSource promises, whoever implements it. Add an implementation to SOURCES."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.polling.source import PolledSource
from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import StaticSource
from router.carbon.tables.table import TraceTable
from router.carbon.tables.trace import TraceForecastSource, TraceSource
from router.contract import CarbonSource, ForecastSource
from router.model import Basis, Factors, Intensity, Kind, Signal
from tests.carbon.stub_provider import StubProvider
from tests.examples import examples

SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
T0 = 1_652_486_400.0  # 2022-05-14T00:00Z
HOUR = 3600.0
ZONE = "US-CAL-CISO"


def table() -> TraceTable:
    """Two zones over three days; the second is blank in the middle."""
    values = np.column_stack([200.0 + np.arange(72.0), 300.0 + np.arange(72.0)])
    values[20:40, 1] = np.nan
    return TraceTable("grid.csv", (ZONE, "NA"), T0 - 48 * HOUR, HOUR, values)


def measured() -> TraceSource:
    return TraceSource(table(), signal=SIGNAL, kind=Kind.MEASURED)


def estimated() -> TraceSource:
    return TraceSource(table(), signal=SIGNAL, kind=Kind.ESTIMATED, lag_s=5400.0)


def published() -> TraceForecastSource:
    return TraceForecastSource(table(), signal=SIGNAL)


def static() -> StaticSource:
    return StaticSource.load(SIGNAL, {"NA": 250.0}, as_of=T0)


def polled() -> PolledSource:
    return PolledSource(StubProvider((ZONE, "NA"), name="polled"), random.Random(1))


SOURCES: dict[str, Callable[[], CarbonSource]] = {
    "trace measured": measured,
    "trace estimated": estimated,
    "trace forecast": published,
    "climatology": Climatology.load,
    "static": static,
}
FORECAST_SOURCES: dict[str, Callable[[], ForecastSource]] = {"trace forecast": published}


@pytest.fixture(params=sorted(SOURCES))
def source(request: pytest.FixtureRequest) -> CarbonSource:
    return SOURCES[request.param]()


async def test_a_known_zone_is_answered_with_provenance(source: CarbonSource) -> None:
    value = (await source.read([ZONE], T0))[ZONE]
    assert isinstance(value, Intensity)
    assert value.signal == source.signal
    assert source.name.split(":")[0] in value.source
    assert value.g_per_kwh > 0.0
    assert value.expires_at > T0
    assert value.low_g_per_kwh <= value.g_per_kwh <= value.high_g_per_kwh
    assert (value.low_g_per_kwh < value.high_g_per_kwh) == (value.kind is not Kind.MEASURED)


async def test_an_unknown_zone_is_left_out(source: CarbonSource) -> None:
    answer = await source.read(["nowhere", ZONE, ""], T0)
    assert set(answer) == {ZONE}
    assert await source.read([], T0) == {}


async def test_reading_twice_gives_the_same(source: CarbonSource) -> None:
    first = await source.read([ZONE, "NA"], T0)
    await source.read([ZONE, "NA"], T0 + 30 * HOUR)
    assert await source.read([ZONE, "NA"], T0) == first


async def test_repeating_a_zone_is_harmless(source: CarbonSource) -> None:
    assert await source.read([ZONE, ZONE], T0) == await source.read([ZONE], T0)


@pytest.mark.parametrize("name", sorted(SOURCES))
@given(hours=st.floats(-200.0, 200.0))
@settings(max_examples=examples(30), deadline=None)
async def test_whenever_asked_never_a_zero_and_never_ahead_of_itself(
    name: str, hours: float
) -> None:
    now = T0 + hours * HOUR
    for value in (await SOURCES[name]().read([ZONE, "NA"], now)).values():
        assert value.g_per_kwh >= 10.0
        assert not math.isnan(value.observed_at)
        if value.kind in (Kind.MEASURED, Kind.ESTIMATED):
            assert value.observed_at <= now


@pytest.fixture(params=sorted(FORECAST_SOURCES))
def publisher(request: pytest.FixtureRequest) -> ForecastSource:
    return FORECAST_SOURCES[request.param]()


async def test_a_forecast_starts_with_the_slot_containing_now(publisher: ForecastSource) -> None:
    now = T0 + 1234.0
    forecast = (await publisher.forecast([ZONE, "nowhere"], now, 6))[ZONE]
    assert forecast.start <= now < forecast.start + forecast.step_s
    assert forecast.start + len(forecast.slots) * forecast.step_s >= now + 6 * HOUR
    assert all(slot.signal == publisher.signal for slot in forecast.slots)
    assert all(slot.kind is Kind.FORECAST for slot in forecast.slots)
    assert all(slot.observed_at <= now for slot in forecast.slots)
