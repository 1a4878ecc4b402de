from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.providers.bands import RELATIVE_HALF_WIDTH
from router.carbon.providers.holes import is_stated
from router.carbon.tables.table import TraceTable
from router.carbon.tables.trace import TraceForecastSource, TraceSource
from router.errors import ConfigError, TraceError
from router.model import Basis, Factors, Intensity, Kind, Signal

SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
T0 = 1_652_486_400.0  # 2022-05-14T00:00Z
HOUR = 3600.0


def table(*columns: list[float], step_s: float = HOUR) -> TraceTable:
    names = ("DE", "NA", "FR")[: len(columns)]
    return TraceTable("grid.csv", names, T0, step_s, np.array(columns, dtype=np.float64).T)


def measured(*columns: list[float], lag_s: float = 0.0, step_s: float = HOUR) -> TraceSource:
    return TraceSource(
        table(*columns, step_s=step_s), signal=SIGNAL, kind=Kind.MEASURED, lag_s=lag_s
    )


async def value(source: TraceSource | TraceForecastSource, now: float) -> Intensity | None:
    return (await source.read(["DE"], now)).get("DE")


@pytest.mark.parametrize("lag_s", [0.0, 900.0, 7200.0])
@pytest.mark.parametrize("step_s", [900.0, 1800.0, 3600.0])
async def test_a_slot_is_known_once_it_ended_and_was_published(lag_s: float, step_s: float) -> None:
    source = measured([10.0, 20.0, 30.0], lag_s=lag_s, step_s=step_s)
    for slot, expected in enumerate([10.0, 20.0, 30.0]):
        published = T0 + (slot + 1) * step_s + lag_s
        before, after = await value(source, published - 0.5), await value(source, published)
        assert (before.g_per_kwh if before else None) == (expected - 10.0 or None)
        assert after is not None and after.g_per_kwh == expected
        assert after.observed_at == T0 + (slot + 1) * step_s
        assert after.expires_at == after.observed_at + lag_s + 2 * step_s


async def test_before_the_first_and_after_the_last_slot() -> None:
    source = measured([10.0, 20.0])
    assert await value(source, T0 - 1e9) is None
    late = await value(source, T0 + 1e9)
    assert late is not None and late.g_per_kwh == 20.0
    assert late.expires_at < T0 + 1e9


async def test_a_blank_leaves_the_older_value_with_its_own_age() -> None:
    source = measured([10.0, math.nan, math.nan, 40.0])
    stale = await value(source, T0 + 3 * HOUR)
    assert stale is not None
    assert (stale.g_per_kwh, stale.observed_at) == (10.0, T0 + HOUR)
    assert stale.expires_at <= T0 + 3 * HOUR


async def test_a_zone_without_any_value_is_no_zone() -> None:
    source = measured([math.nan, math.nan], [1.0, math.nan])
    assert source.grid_zones == {"NA"}
    assert set(await source.read(["DE", "NA"], T0 + 9 * HOUR)) == {"NA"}
    forecast = TraceForecastSource(table([math.nan, math.nan], [1.0, math.nan]), signal=SIGNAL)
    assert forecast.grid_zones == {"NA"}


async def test_intervals_by_kind() -> None:
    exact = await value(measured([100.0, 100.0]), T0 + HOUR)
    assert exact is not None and exact.low_g_per_kwh == exact.high_g_per_kwh == 100.0
    rough = await value(
        TraceSource(table([100.0, 100.0]), signal=SIGNAL, kind=Kind.ESTIMATED), T0 + HOUR
    )
    assert rough is not None and rough.kind is Kind.ESTIMATED
    half = 100.0 * RELATIVE_HALF_WIDTH[Kind.ESTIMATED]
    assert (rough.low_g_per_kwh, rough.high_g_per_kwh) == (100.0 - half, 100.0 + half)


async def test_history_is_what_was_published_in_the_span() -> None:
    source = measured([10.0, 20.0, math.nan, 40.0, 50.0, 60.0], lag_s=HOUR)
    past = await source.history(["DE", "nowhere"], T0 + 6 * HOUR, 4)
    assert list(past) == ["DE"]
    assert [item.g_per_kwh for item in past["DE"]] == [40.0, 50.0]
    assert past["DE"][-1] == await value(source, T0 + 6 * HOUR)
    everything = await source.history(["DE"], T0 + 99 * HOUR, 500)
    assert [item.g_per_kwh for item in everything["DE"]] == [10.0, 20.0, 40.0, 50.0, 60.0]
    assert (await source.history(["DE"], T0 - HOUR, 24))["DE"] == []
    assert (await source.history(["DE"], T0 + 500 * HOUR, 24))["DE"] == []


async def test_a_forecast_trace_knows_now_and_ahead_with_a_hole_for_a_blank() -> None:
    source = TraceForecastSource(
        table([10.0, 20.0, 30.0, math.nan, 50.0], [math.nan] * 5), signal=SIGNAL, lag_s=7200.0
    )
    now = T0 + 1.5 * HOUR
    answer = await source.forecast(["DE", "NA", "nowhere"], now, 24)
    assert list(answer) == ["DE"]
    slots = answer["DE"].slots
    assert [slot.g_per_kwh for slot in slots if is_stated(slot)] == [20.0, 30.0, 50.0]
    assert not is_stated(slots[2])
    assert answer["DE"].start == T0 + HOUR
    first = answer["DE"].slots[0]
    assert first.observed_at == T0 - HOUR and first.expires_at == T0 + 4 * HOUR
    assert first.low_g_per_kwh < 20.0 < first.high_g_per_kwh
    assert (await source.read(["DE"], now))["DE"] == first
    assert await source.read(["DE"], T0 + 3.5 * HOUR) == {}
    assert await source.forecast(["DE"], T0 - 1.0, 24) == {}
    assert await source.forecast(["DE"], T0 + 5 * HOUR, 24) == {}


@given(
    values=st.lists(st.one_of(st.just(math.nan), st.floats(1.0, 900.0)), min_size=3, max_size=40),
    now_h=st.floats(-2.0, 45.0),
    lag_h=st.floats(0.0, 5.0),
)
@settings(deadline=None)
async def test_the_future_cannot_be_seen_and_blanks_are_never_served(
    values: list[float], now_h: float, lag_h: float
) -> None:
    now, lag_s = T0 + now_h * HOUR, lag_h * HOUR
    known = [
        v for i, v in enumerate(values) if T0 + (i + 1) * HOUR + lag_s <= now and not math.isnan(v)
    ]
    poisoned = [v if T0 + (i + 1) * HOUR + lag_s <= now else 4999.0 for i, v in enumerate(values)]
    source, other = measured(values, lag_s=lag_s), measured(poisoned, lag_s=lag_s)
    answer = await value(source, now)
    assert (answer.g_per_kwh if answer else None) == (known[-1] if known else None)
    assert await value(other, now) == answer
    past = (await source.history(["DE"], now, 10_000))["DE"]
    assert [item.g_per_kwh for item in past] == known
    assert (await other.history(["DE"], now, 10_000))["DE"] == past


@pytest.mark.parametrize("lag_s", [-1.0, math.nan, math.inf])
def test_an_impossible_lag_is_refused(lag_s: float) -> None:
    with pytest.raises(ConfigError, match="lag_s"):
        measured([1.0, 2.0], lag_s=lag_s)
    with pytest.raises(ConfigError, match="lag_s"):
        TraceForecastSource(table([1.0, 2.0]), signal=SIGNAL, lag_s=lag_s)


@pytest.mark.parametrize("kind", [Kind.CLIMATOLOGY, Kind.ANNUAL_MEAN, Kind.FORECAST])
def test_a_kind_that_a_trace_cannot_have_is_refused(kind: Kind) -> None:
    with pytest.raises(ConfigError, match="value_kind"):
        TraceSource(table([1.0, 2.0]), signal=SIGNAL, kind=kind)


async def test_load(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    path.write_text("datetime,DE\n2022-05-14T01:00Z,400\n2022-05-14T02:00Z,\n")
    source = TraceSource.load(path, signal=SIGNAL, lag_s=60.0, hour_ending=True)
    assert isinstance(source, TraceSource) and source.name == "trace:grid.csv"
    found = await value(source, T0 + HOUR + 60.0)
    assert found is not None and found.g_per_kwh == 400.0 and found.source == "trace:grid.csv"
    ahead = TraceSource.load(path, signal=SIGNAL, kind=Kind.FORECAST, hour_ending=True)
    assert isinstance(ahead, TraceForecastSource)
    assert (await value(ahead, T0)) is not None
    path.write_text("datetime,DE\n2022-05-14T01:00Z,0\n2022-05-14T02:00Z,1\n")
    with pytest.raises(TraceError, match="row 2, column DE"):
        TraceSource.load(path, signal=SIGNAL)
    direct = Signal(Basis.AVERAGE, Factors.DIRECT)
    zero = await value(TraceSource.load(path, signal=direct), T0 + 2 * HOUR)
    assert zero is not None and zero.g_per_kwh == 0.0 and zero.signal == direct
