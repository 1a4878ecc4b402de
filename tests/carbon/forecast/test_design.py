from __future__ import annotations

import numpy as np
import pytest

from router.carbon.forecast.design import (
    HOURLY_YEAR,
    PLAIN_YEAR,
    SINE_SCALE,
    WINDOW_H,
    build_rows,
)
from tests.carbon.forecast.series import H0, grid


def windows(count: int) -> np.ndarray:
    logs = np.log(grid(WINDOW_H + count))
    return np.lib.stride_tricks.sliding_window_view(logs, WINDOW_H)[:count]


def test_a_row_is_the_same_alone_and_among_others() -> None:
    several = build_rows(windows(5), H0 + np.arange(5))
    for index in range(5):
        alone = build_rows(windows(5)[index : index + 1], np.array([H0 + index]))
        assert alone.hourly[0] == pytest.approx(several.hourly[index], abs=1e-12)
        assert alone.plain[0] == pytest.approx(several.plain[index], abs=1e-12)


def test_another_level_moves_the_base_and_nothing_else() -> None:
    rows = build_rows(windows(1), np.array([H0]))
    moved = build_rows(windows(1) + 0.7, np.array([H0]))
    assert moved.base[0] == pytest.approx(rows.base[0] + 0.7)
    assert moved.hourly == pytest.approx(rows.hourly, abs=1e-9)
    assert moved.plain == pytest.approx(rows.plain, abs=1e-9)


def test_what_is_not_known_counts_as_no_departure() -> None:
    window = np.full((1, WINDOW_H), np.nan)
    window[0, -30:] = 5.0
    rows = build_rows(window, np.array([H0]))
    assert rows.base[0] == 5.0
    assert np.isfinite(rows.hourly).all() and np.isfinite(rows.plain).all()
    assert (rows.hourly[0, :30] == 0.0).all()


@pytest.mark.parametrize("blank", [[-1], list(range(-24, -16))])
def test_too_thin_a_day_has_no_base(blank: list[int]) -> None:
    window = windows(1).copy()
    window[0, blank] = np.nan
    assert np.isnan(build_rows(window, np.array([H0])).base[0])


def test_the_year_stands_where_its_penalty_is_put() -> None:
    hours = H0 + np.array([0, 24 * 91])
    rows = build_rows(np.repeat(windows(1), 2, axis=0), hours)
    phase = hours * 2.0 * np.pi / (365.25 * 24.0)
    wanted = SINE_SCALE * np.stack(
        [np.sin(phase), np.sin(2 * phase), np.cos(phase), np.cos(2 * phase)], axis=1
    )
    assert rows.hourly[:, HOURLY_YEAR] == pytest.approx(wanted)
    assert rows.plain[:, PLAIN_YEAR] == pytest.approx(wanted)


def test_restless_days_weigh_less() -> None:
    calm = windows(1).copy()
    wild = calm.copy()
    wild[0, -48::2] += 0.5
    weights = [build_rows(w, np.array([H0])).weight[0] for w in (calm, wild)]
    assert weights[1] < 0.5 * weights[0]
