import math
from dataclasses import replace

import numpy as np
import pytest

from router.carbon.tables.table import parse_csv, read_table
from router.core.columns import build_snapshot
from router.core.layout import Layout
from router.errors import TraceError
from router.lab.calibration.signal_table import (
    AXIS_START,
    TableSignal,
    as_csv,
    longer,
    on_the_axis,
    signal_table,
)
from router.lab.replay.timed import Period
from router.model import Factors
from tests import factories as f
from tests.lab.calibration.scenarios import GRID, small

HOUR = 3600.0


def period(simulation, seconds=60.0, late_s=0.0):
    speed = simulation.duration_s / seconds
    return Period(seconds, simulation.start + late_s, speed)


def test_what_is_known_is_what_the_signal_says_hour_by_hour():
    simulation = small()
    over = period(simulation)
    table = signal_table(simulation, over)
    for hour in range(6):
        now = simulation.start + hour * HOUR
        row = round((now - table.start) / HOUR)
        for zone, value in zip(table.grid_zones, table.g_per_kwh[row], strict=True):
            assert value == simulation.signal.view(now)[zone].at(now).g_per_kwh
    before, after = table.g_per_kwh[0], table.g_per_kwh[-1]
    assert (before == table.g_per_kwh[24]).all() and (after == table.g_per_kwh[-25]).all()


def test_the_file_holds_the_table_exactly():
    simulation = small()
    table = signal_table(simulation, period(simulation))
    read = parse_csv(as_csv(table).splitlines(keepends=True), "known", Factors.LIFECYCLE)
    assert (read.grid_zones, read.start) == (table.grid_zones, table.start)
    assert (read.g_per_kwh == table.g_per_kwh).all()


def test_a_zone_that_nobody_knows_is_an_error():
    simulation = small()

    class Silent:
        def view(self, now):
            found = dict(simulation.signal.view(now))
            del found["US-TEX-ERCO"]
            return found

    with pytest.raises(TraceError, match="US-TEX-ERCO at 2022-05-14T07:00Z"):
        signal_table(replace(simulation, signal=Silent()), period(simulation))


@pytest.mark.parametrize("late_s", [0.0, 137.0])
def test_decisions_see_the_hour_of_the_carbon_clock(late_s):
    """At every update the columns hold the hour that the carbon clock is in, then those after."""
    simulation = small()
    over = period(simulation, late_s=late_s)
    table = signal_table(simulation, over)
    signal = TableSignal(table, simulation.carbon_signal, over)
    layout = Layout(simulation.fleet)
    updates = list(signal.updates(AXIS_START, AXIS_START + over.seconds))
    assert updates[0] == AXIS_START and len(updates) == (6 if late_s == 0.0 else 7)
    for now in updates:
        carbon = over.carbon_time(now - AXIS_START)
        row = round((math.floor(carbon / HOUR + 1e-6) * HOUR - table.start) / HOUR)
        snapshot = build_snapshot(layout, f.policy(), signal.view(now), {}, now, 1)
        # Far from the end of this clock's hour: no run reaches into the next one.
        assert snapshot.hour_ends_at - now >= HOUR - over.seconds
        for name, region in simulation.fleet.regions.items():
            place = table.grid_zones.index(region.grid_zone)
            assert snapshot.current[name].g_per_kwh == table.g_per_kwh[row, place]
            ahead = snapshot.forecasts[region.grid_zone].at(now + HOUR)
            assert ahead.g_per_kwh == table.g_per_kwh[row + 1, place]
            assert ahead.age_s(now) == 0.0 and ahead.expires_at > now


def test_a_table_on_the_axis_holds_the_same_values_at_the_same_moments():
    table = read_table(GRID, Factors.LIFECYCLE)
    over = Period(30.0, table.start + 5.25 * HOUR, 2880.0)
    short = on_the_axis(table, over)
    assert short.step_s == pytest.approx(1.25)
    for at_s in np.linspace(0.0, 29.99, 200):
        row = math.floor((over.carbon_time(at_s) - table.start) / HOUR)
        assert math.floor((AXIS_START + at_s - short.start) / short.step_s + 1e-9) == row


def test_the_last_value_holds_after_the_end():
    table = small().actual
    assert (longer(table).g_per_kwh[len(table.g_per_kwh) :] == table.g_per_kwh[-1]).all()
