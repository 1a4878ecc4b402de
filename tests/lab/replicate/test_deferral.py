from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from router.lab.replicate import deferral
from router.lab.replicate.paper import Replication
from tests.lab.replicate import made_up
from tests.lab.replicate.evidence import missing

HOURS = 24 + 5 + 25


def a_day(*changes: tuple[int, float]) -> np.ndarray:
    """One zone at 100 g/kWh but for ``changes``: (hour, g/kWh)."""
    series = np.full((HOURS, 1), 100.0)
    for hour, g in changes:
        series[hour] = g
    return series


def test_waiting_finds_the_cleanest_hour_within_reach() -> None:
    series = a_day((26, 40.0))
    assert deferral.best_ahead(series, 1)[:, 0].tolist() == [100, 40, 40, 100, 100]
    assert deferral.best_ahead(series, 2)[:, 0].tolist() == [40, 40, 40, 100, 100]


def test_the_day_before_is_followed_right_or_wrong() -> None:
    right = a_day((2, 40.0), (26, 50.0))
    assert deferral.persistent_ahead(right, 2)[:, 0].tolist() == [50, 50, 50, 100, 100]
    wrong = a_day((2, 40.0), (26, 300.0))
    # At hour 26 itself the present is known to be dear, and an hour as yesterday is awaited.
    assert deferral.persistent_ahead(wrong, 2)[:, 0].tolist() == [300, 300, 100, 100, 100]


def test_waiting_with_knowledge_is_never_dearer() -> None:
    series = made_up.intensities()
    hours = deferral.inner_hours(series)
    last = hours.mean()
    for window_h in deferral.WINDOWS_H:
        known = deferral.best_ahead(series, window_h).mean()
        assert known <= last
        assert known <= deferral.persistent_ahead(series, window_h).mean()
        last = known


def test_place_then_hours_then_waiting() -> None:
    series = np.hstack([a_day((25, 500.0)), a_day() * 0.9])
    far = np.array([[0.0, 80.0], [80.0, 0.0]])
    apart = deferral.place_first(series, far, 50.0, (2,))
    assert apart[0] == pytest.approx((np.mean([100, 500, 100, 100, 100]) + 90.0) / 2)
    assert apart[1] == apart[0] and apart[2] < apart[1]
    assert deferral.place_first(series, far, 80.0, (2,)) == pytest.approx((90.0, 90.0, 90.0))


def test_the_study_runs_on_any_table(tmp_path: Path) -> None:
    in_place, on_top = deferral.study(made_up.write(tmp_path)).tables
    known = [cell.ours for cell in in_place.rows[0].cells]
    assert known == sorted(known)
    for row in on_top.rows:
        shares = [cell.ours for cell in row.cells[1:]]
        assert shares == sorted(shares)


@cache
def the_real_study() -> Replication:
    return deferral.study(made_up.the_real_literature())


def test_the_real_tables() -> None:
    found = the_real_study()
    in_place, on_top = found.tables
    shown = [[cell.text(cell.ours) for cell in row.cells] for row in in_place.rows]
    assert shown[0] == ["1.2", "2.3", "7.5", "13.8"]
    assert shown[3] == ["0.4", "1.1", "5.0", "9.1"]
    assert [cell.text(cell.ours) for cell in on_top.rows[1].cells] == [
        "135.7", "3.2", "4.7", "8.1", "12.4",
    ]  # fmt: skip


@pytest.mark.parametrize("place", [0, 1])
def test_the_page_shows_them(place: int) -> None:
    assert missing(the_real_study().tables[place]) == []
