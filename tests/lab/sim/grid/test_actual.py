import math

import numpy as np
import pytest

from router.carbon.tables.table import TraceTable
from router.errors import TraceError
from router.lab.sim.grid.actual import annual_means, cut, fill, hourly, missing, select
from router.model import Kind
from router.units import HOUR_S
from tests.factories import SIGNAL

START = 1_652_313_600.0


def table(*rows, start=START, step_s=HOUR_S, zones=("A", "B")):
    return TraceTable("t.csv", zones, start, step_s, np.array(rows, np.float64))


def test_whole_hours_stay_as_they_are():
    one = table([1, 2], [3, 4])
    assert hourly(one) is one


def test_parts_of_an_hour_are_averaged_and_a_missing_part_is_a_missing_hour():
    found = hourly(table([1, 1], [3, math.nan], [5, 5], [7, 7], step_s=1800.0))
    assert found.g_per_kwh[:, 0].tolist() == [2.0, 6.0]
    assert math.isnan(found.g_per_kwh[0, 1]) and found.g_per_kwh[1, 1] == 6.0


def test_slots_that_straddle_hours_are_shared_out():
    # From half past: the first and the last hour are known by half only.
    found = hourly(table([2, 2], [4, 4], start=START + 1800.0))
    assert found.start == START
    assert np.isnan(found.g_per_kwh[[0, 2]]).all()
    assert found.g_per_kwh[1].tolist() == [3.0, 3.0]


def test_longer_slots_hold_for_every_hour():
    found = hourly(table([2, 5], [4, 6], step_s=3 * HOUR_S))
    assert found.g_per_kwh[:, 0].tolist() == pytest.approx([2, 2, 2, 4, 4, 4])


def test_select_orders_columns_and_names_a_missing_one():
    one = table([1, 2])
    assert select(one, ["B"]).g_per_kwh.tolist() == [[2.0]]
    with pytest.raises(TraceError, match=r"t.csv: unknown column 'C'; known: A, B"):
        select(one, ["A", "C"])
    named = select(one, ["A", "C"], {"C": "B"})
    assert named.grid_zones == ("A", "C") and named.g_per_kwh.tolist() == [[1.0, 2.0]]


def test_missing_counts_the_hours_that_a_table_lacks():
    one = table([1, 2], [math.nan, 2], [3, 4])
    hours = [one.start + HOUR_S * hour for hour in range(-1, 4)]
    assert missing(one, hours[1], 3 * HOUR_S) == (1, 6)
    assert missing(one, hours[0], 2 * HOUR_S) == (2, 4)
    assert missing(one, hours[3] + 60.0, HOUR_S) == (2, 4)
    assert missing(one, hours[4], HOUR_S) == (2, 2)
    assert missing(one, one.start - 100 * HOUR_S, HOUR_S) == (2, 2)


def test_short_gaps_are_bridged_long_ones_and_those_at_the_ends_are_not():
    nan = math.nan
    one = table([nan, 1], [2, nan], [nan, nan], [4, 4], [nan, nan])
    found, count = fill(one, 1)
    assert count == 1 and found.g_per_kwh[2, 0] == 3.0
    found, count = fill(one, 2)
    assert count == 3 and found.g_per_kwh[1:3, 1].tolist() == [2.0, 3.0]
    assert np.isnan(found.g_per_kwh[0, 0]) and np.isnan(found.g_per_kwh[4]).all()
    assert np.isnan(one.g_per_kwh[2, 0])


def test_cut_is_the_hours_that_hold_the_period():
    rows = [[h, h] for h in range(1, 11)]
    found = cut(table(*rows), START + 2.5 * HOUR_S, 2 * HOUR_S)
    assert (found.start, found.g_per_kwh[:, 0].tolist()) == (START + 2 * HOUR_S, [3, 4, 5])
    assert len(cut(table(*rows), START, 10 * HOUR_S).g_per_kwh) == 10
    assert len(cut(table(*rows), START, 1.0).g_per_kwh) == 1
    for begin, length in ((START - 1.0, 5.0), (START, 10 * HOUR_S + 1.0)):
        with pytest.raises(TraceError, match="change start or duration"):
            cut(table(*rows), begin, length)


def test_annual_means_are_the_files_unless_the_operator_has_some():
    found = annual_means(table([100, 200], [300, math.nan]), {"B": 50.0}, SIGNAL)
    assert found["A"].g_per_kwh == 200.0 and found["A"].kind is Kind.ANNUAL_MEAN
    assert found["B"].g_per_kwh == 50.0 and found["B"].source == "static(scenario)"
