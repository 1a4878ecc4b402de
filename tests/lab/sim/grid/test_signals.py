import numpy as np
import pytest

from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import embedded
from router.carbon.tables.table import TraceTable
from router.carbon.weather.conditions import QUANTITIES, WIND, WeatherForecast
from router.core.columns import build_snapshot
from router.core.layout import Layout
from router.lab.sim.grid.forecasted import Forecasted
from router.lab.sim.grid.signals import (
    HORIZON_H,
    DayBefore,
    Perfect,
    Persistence,
    Standing,
    Tabled,
)
from router.model import Basis, Factors, Kind, Signal
from router.units import HOUR_S
from tests.factories import SIGNAL, endpoint, fleet, policy, region

START = 1_652_313_600.0
DAYS = 6
NOTHING = Standing(SIGNAL, None, {})


def table(days=DAYS, zones=("A", "B"), start=START, values=None):
    hours = np.arange(24 * days)
    waves = [300 + 50 * i + 100 * np.sin(hours / 24 * 2 * np.pi + i) for i in range(len(zones))]
    return TraceTable("t", zones, start, HOUR_S, np.array(waves).T if values is None else values)


def make(kind, of, lag_s=HOUR_S, standing=NOTHING):
    if kind == "perfect":
        return Perfect(of, SIGNAL)
    if kind == "persistence":
        return Persistence(of, SIGNAL, lag_s, standing)
    if kind == "day_before":
        return DayBefore(of, SIGNAL, lag_s, standing)
    if kind == "file":
        return Tabled(of, SIGNAL, lag_s, standing)
    return Forecasted(of, SIGNAL, lag_s, standing, None, 3 * 86400.0)


def passes(signal, start, end):
    return {at: signal.view(at) for at in signal.updates(start, end)}


@pytest.mark.parametrize(
    ("kind", "lag_s"),
    [
        *(("persistence", lag_s) for lag_s in (0.0, 1800.0, 3600.0, 7800.0)),
        ("day_before", 5400.0),
        *(("forecaster", lag_s) for lag_s in (0.0, 5400.0)),
    ],
)
def test_what_is_not_published_yet_does_not_count(kind, lag_s):
    whole = table()
    cut_at = START + 4 * 86400.0
    poisoned = whole.g_per_kwh.copy()
    # Whatever ends after `cut_at` less the lag is known only after `cut_at`.
    first = int(np.floor((cut_at - lag_s - START) / HOUR_S))
    poisoned[first:] = 4999.0
    before = START + 3.5 * 86400.0
    true = passes(make(kind, whole, lag_s), before, cut_at + 1.0)
    other = passes(make(kind, table(values=poisoned), lag_s), before, cut_at + 1.0)
    assert true == other and cut_at in true
    late = cut_at + lag_s % HOUR_S + 2 * HOUR_S
    assert make(kind, whole, lag_s).view(late) != make(kind, table(values=poisoned), lag_s).view(
        late
    )


@pytest.mark.parametrize("kind", ["perfect", "persistence", "day_before", "forecaster", "file"])
def test_views_are_hours_from_now_that_a_snapshot_can_be_built_of(kind):
    the_fleet = fleet(
        endpoint("e", "west"), endpoint("f", "east"),
        regions=[region("west", grid_zone="A"), region("east", grid_zone="B")],
    )  # fmt: skip
    signal = make(kind, table())
    begin, end = START + 2 * 86400.0 + 900.0, START + 3 * 86400.0
    updates = list(signal.updates(begin, end))
    assert updates[0] == begin and updates == sorted(set(updates)) and updates[-1] < end
    assert {at for at in updates if at % HOUR_S == 0} == {
        START + 2 * 86400.0 + h * HOUR_S for h in range(1, 24)
    }
    for at in updates:
        view = signal.view(at)
        assert set(view) == {"A", "B"}
        for zone, forecast in view.items():
            assert (forecast.grid_zone, forecast.step_s) == (zone, HOUR_S)
            assert forecast.start == at // HOUR_S * HOUR_S
            assert len(forecast.slots) == HORIZON_H
            assert all(slot.observed_at <= at for slot in forecast.slots)
        build_snapshot(Layout(the_fleet), policy(signal=SIGNAL), view, {}, at, 1)


def test_perfect_is_the_truth_to_the_end_of_the_table():
    of = table()
    view = Perfect(of, SIGNAL).view(START + 5 * 86400.0 + 18.5 * HOUR_S)
    assert [s.g_per_kwh for s in view["A"].slots] == of.g_per_kwh[5 * 24 + 18 :, 0].tolist()
    assert {s.kind for s in view["A"].slots} == {Kind.MEASURED}
    assert Perfect(of, SIGNAL).view(START + DAYS * 86400.0) == {}
    assert Perfect(of, SIGNAL).view(START - 1.0) == {}


def test_persistence_is_the_last_published_value_over_gaps():
    values = table().g_per_kwh.copy()
    values[50:53, 0] = np.nan
    of = table(values=values)
    signal = Persistence(of, SIGNAL, HOUR_S, NOTHING)
    # At 54:00 the hour 52 is published, which is missing, as are the two before it.
    view = signal.view(START + 54 * HOUR_S)
    assert {s.g_per_kwh for s in view["A"].slots} == {values[49, 0]}
    assert {s.g_per_kwh for s in view["B"].slots} == {values[52, 1]}
    slot = view["A"].slots[0]
    assert slot.observed_at == START + 50 * HOUR_S and slot.kind is Kind.FORECAST
    assert slot.expires_at == slot.observed_at + 3 * HOUR_S


def test_the_day_before_is_the_last_published_hour_of_the_same_time_of_day():
    values = np.arange(24.0 * DAYS)[:, None]
    days = make("day_before", table(zones=("A",), values=values))
    (forecast,) = days.view(START + 50 * HOUR_S).values()
    # Hours 0 to 48 are published.
    expected = [26.0 + at for at in range(23)] + [25.0]
    assert [slot.g_per_kwh for slot in forecast.slots] == expected
    assert days.view(START + 20 * HOUR_S) == {}


def test_the_lag_is_to_the_second():
    signal = Persistence(table(), SIGNAL, 600.0, NOTHING)
    hour = START + 60 * HOUR_S
    assert list(signal.updates(hour, hour + HOUR_S)) == [hour, hour + 600.0]
    values = table().g_per_kwh[:, 0]
    assert signal.view(hour + 599.0)["A"].slots[0].g_per_kwh == values[58]
    assert signal.view(hour + 600.0)["A"].slots[0].g_per_kwh == values[59]


def test_a_forecast_table_is_known_a_lag_before_each_slot():
    view = Tabled(table(), SIGNAL, 6 * HOUR_S, NOTHING).view(START + 30 * HOUR_S)
    slots = view["A"].slots
    assert [s.g_per_kwh for s in slots] == table().g_per_kwh[30:54, 0].tolist()
    assert slots[0].observed_at == START + 24 * HOUR_S
    assert slots[10].observed_at == START + 30 * HOUR_S
    assert slots[0].kind is Kind.FORECAST and slots[0].low_g_per_kwh < slots[0].g_per_kwh


def test_a_second_pass_sees_what_the_first_did():
    signal = make("forecaster", table())
    begin, end = START + 3 * 86400.0, START + 3 * 86400.0 + 5 * HOUR_S
    assert passes(signal, begin, end) == passes(signal, begin, end)
    # Earlier than anything seen so far: the forecaster starts afresh.
    earlier = signal.view(begin - 86400.0)
    assert earlier == make("forecaster", table()).view(begin - 86400.0)


def test_before_anything_is_published_the_usual_stands_in():
    of = table(zones=("US-CAL-CISO", "SG", "NOWHERE"))
    standing = Standing(SIGNAL, Climatology.load(), embedded())
    for kind in ("persistence", "forecaster"):
        view = make(kind, of, standing=standing).view(START + 60.0)
        assert view["US-CAL-CISO"].slots[0].kind is Kind.CLIMATOLOGY
        assert view["SG"].slots[0].kind is Kind.ANNUAL_MEAN
        assert "NOWHERE" not in view
    other = Signal(Basis.AVERAGE, Factors.DIRECT)
    assert Standing(other, Climatology.load(), embedded()).forecast("SG", START) is None


def weather_of(of, hours=48):
    """Of a table's hours, a week before and some after; the wind tells of its first zone."""
    values = np.zeros((len(of.g_per_kwh) + 168 + hours, len(QUANTITIES)))
    values[168 : 168 + len(of.g_per_kwh), WIND] = of.g_per_kwh[:, 0] / 50.0
    return WeatherForecast("weather:w.csv", np.inf, round(of.start / HOUR_S) - 168, values)


def test_the_forecaster_heeds_weather_where_there_is_some():
    rng = np.random.default_rng(4)
    values = rng.uniform(100.0, 500.0, (24 * 10, 2))
    of = table(values=values)
    plain = Forecasted(of, SIGNAL, HOUR_S, NOTHING, None, 9 * 86400.0)
    heeding = Forecasted(of, SIGNAL, HOUR_S, NOTHING, None, 9 * 86400.0, {"A": weather_of(of)})
    now = START + 9 * 86400.0
    before, after = plain.view(now), heeding.view(now)
    assert {slot.source for slot in after["A"].slots} == {"nowcast(trace:t, weather:w.csv)"}
    assert before["B"] == after["B"] and before["A"] != after["A"]
    # What is otherwise noise is told by the wind.
    truth = values[9 * 24 :, 0]

    def error(view):
        said = [slot.g_per_kwh for slot in view["A"].slots]
        return np.abs(np.array(said)[: len(truth)] - truth).mean()

    assert error(after) < 0.7 * error(before)
    # In parts, too, each zone has its own.
    assert [set(part.grid_zones) for part in heeding.parts()] == [{"A", "B"}]
    assert heeding.parts()[0].view(now) == after
