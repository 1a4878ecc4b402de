"""What a forecaster is told of the past at the start."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from router.carbon.tables.history import warm
from router.carbon.tables.table import TraceTable
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal

LIFECYCLE = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
HOUR = 3600.0
START = 1_700_000_000.0 // HOUR * HOUR


class Pupil:
    """A forecaster that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Intensity]] = []

    def observe(self, grid_zone: str, intensity: Intensity) -> None:
        self.told.append((grid_zone, intensity))

    def learn(self, grid_zone: str, past: Sequence[Intensity]) -> None:
        self.told += [(grid_zone, intensity) for intensity in past]

    def forget(self, grid_zone: str) -> None:
        raise NotImplementedError

    def forecast(self, grid_zone: str, now: float, horizon_h: int) -> Forecast:
        raise NotImplementedError


def taught(now: float, hours: int = 100, zones: tuple[str, ...] = ("DE", "FR")) -> Pupil:
    rows = np.array([[100.0 + i, math.nan if i == 2 else 50.0] for i in range(6)])
    table = TraceTable("past.csv", ("DE", "FR"), START, HOUR, rows)
    pupil = Pupil()
    known = warm(pupil, table, LIFECYCLE, zones, now, hours)
    assert known == {zone for zone, _ in pupil.told}
    return pupil


def test_values_come_in_order_with_the_end_of_their_slot() -> None:
    told = [value for zone, value in taught(START + 10 * HOUR).told if zone == "DE"]
    assert [value.g_per_kwh for value in told] == [100.0, 101.0, 102.0, 103.0, 104.0, 105.0]
    assert told[0].observed_at == START + HOUR
    assert {(v.kind, v.source, v.signal) for v in told} == {
        (Kind.MEASURED, "history:past.csv", LIFECYCLE)
    }


def test_a_blank_is_unknown_and_never_0() -> None:
    told = [value.observed_at for zone, value in taught(START + 10 * HOUR).told if zone == "FR"]
    assert START + 3 * HOUR not in told
    assert len(told) == 5


def test_nothing_of_the_future_is_told() -> None:
    now = START + 2.5 * HOUR
    assert max(value.observed_at for _, value in taught(now).told) <= now
    assert taught(START - HOUR).told == []


def test_only_the_last_hours_of_zones_in_use_and_in_the_table() -> None:
    told = taught(START + 6 * HOUR, hours=2, zones=("DE", "MARS")).told
    assert [(zone, value.g_per_kwh) for zone, value in told] == [("DE", 104.0), ("DE", 105.0)]
