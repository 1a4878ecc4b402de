from __future__ import annotations

import numpy as np
import pytest

from router.carbon.tables.table import TraceTable
from router.errors import TraceError
from router.lab.backtest.series import choose, hourly_series


def table(values: list[list[float]], step_s: float, start: float = 7200.0) -> TraceTable:
    return TraceTable("g.csv", ("A", "B"), start, step_s, np.array(values))


def test_hours_stay_as_they_are() -> None:
    series = hourly_series(table([[1.0, 2.0], [np.nan, 4.0]], 3600.0))
    assert series.first_h == 2
    assert np.array_equal(series.g_per_kwh, [[1.0, 2.0], [np.nan, 4.0]], equal_nan=True)


@pytest.mark.parametrize("step_s", [900.0, 1800.0])
def test_shorter_steps_are_averaged_and_a_thin_hour_is_missing(step_s: float) -> None:
    parts = int(3600.0 / step_s)
    first = [[100.0 + k, 10.0] for k in range(parts)]
    second = [[50.0, np.nan] for _ in range(parts)]
    second[0][0] = np.nan
    series = hourly_series(table(first + second, step_s))
    assert series.g_per_kwh[0] == pytest.approx([100.0 + (parts - 1) / 2, 10.0])
    assert series.g_per_kwh[1, 0] == 50.0 and np.isnan(series.g_per_kwh[1, 1])


def test_a_start_off_the_hour_leaves_a_first_hour_of_what_there_is() -> None:
    series = hourly_series(table([[8.0, 1.0]] * 6, 1800.0, start=9000.0))
    assert series.first_h == 2 and len(series.g_per_kwh) == 4
    assert series.g_per_kwh[0, 0] == 8.0


def test_steps_over_an_hour_are_refused() -> None:
    with pytest.raises(TraceError, match="7200 s"):
        hourly_series(table([[1.0, 2.0]] * 3, 7200.0))


def test_choosing_zones() -> None:
    series = hourly_series(table([[1.0, np.nan], [3.0, np.nan]], 3600.0))
    assert choose(series, ["A", "A"]).grid_zones == ("A",)
    with pytest.raises(TraceError, match="no column C; it has A, B"):
        choose(series, ["C"])
    with pytest.raises(TraceError, match="column B is blank"):
        choose(series, [])
