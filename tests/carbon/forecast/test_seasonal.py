from __future__ import annotations

import math

import numpy as np
import pytest

from router.carbon.forecast.seasonal import DECAY, WINDOW_H, at_level, predict

LEADS = np.arange(1, 49)


def wave(hours: int, swing: float = 100.0) -> np.ndarray:
    """A daily wave around 300 in the last hours of a window."""
    window = np.full(WINDOW_H, np.nan)
    window[-hours:] = 300.0 + swing * np.sin(np.arange(-hours, 0) * math.tau / 24.0)
    return window


def nothing() -> np.ndarray:
    return np.full(WINDOW_H + 48, np.nan)


def test_one_value_is_carried_forward() -> None:
    assert predict(wave(1, 0.0), nothing(), LEADS) == pytest.approx(300.0)


def test_a_daily_wave_is_continued() -> None:
    wanted = 300.0 + 100.0 * np.sin(np.arange(48) * math.tau / 24.0)
    assert predict(wave(72), nothing(), LEADS) == pytest.approx(wanted, abs=1e-6)


def test_the_last_departure_decays() -> None:
    window = wave(72, swing=0.0)
    window[-1] += 50.0
    wanted = 300.0 + 50.0 * DECAY ** LEADS[:6]
    assert predict(window, nothing(), LEADS[:6]) == pytest.approx(wanted)


def test_the_usual_gives_the_shape_at_the_level_that_was_seen() -> None:
    usual = 200.0 + 50.0 * np.cos(np.arange(WINDOW_H + 48) * math.tau / 24.0)
    window = np.full(WINDOW_H, np.nan)
    window[-24:] = 2.0 * usual[WINDOW_H - 24 : WINDOW_H]
    # One day seen is worth as much as the usual's own level.
    assert at_level(usual, window) == pytest.approx(1.5 * usual)
    assert at_level(usual, np.full(WINDOW_H, np.nan)) == pytest.approx(usual)
    assert predict(window, at_level(usual, window), LEADS) == pytest.approx(
        window[-24 + (LEADS - 1) % 24], rel=0.26
    )
