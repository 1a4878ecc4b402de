"""How late a meter is: exporters show what they read a while ago, and their pages do not say when.

DCGM exporter reads every 30 s, what the driver knew by then. Joules that are held against the work
of another time blur idleness and load. The lag is the one, of a minute at most, at which the
server's work explains most of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

from router.errors import DataError
from router.load.calibration.fit import CalibrationFit, fit
from router.load.calibration.series import EnergyReading, WorkSeries, series_of

_MOST_S: Final = 60.0
# Of what is unexplained at the best lag: a shorter one is as good.
_AS_GOOD: Final = 1.1


class LaggedFit(NamedTuple):
    """``lag_s``: of the meter behind the server's counters."""

    fit: CalibrationFit
    series: WorkSeries
    lag_s: float


def fit_lagged(readings: Sequence[EnergyReading], least_s: float) -> LaggedFit:
    """Raises DataError where nothing can be told at any lag: the reason at none."""
    found: list[LaggedFit] = []
    why: DataError | None = None
    usual_s = median([now.at - before.at for before, now in pairwise(readings)] or [_MOST_S])
    for back in range(_steps(usual_s, len(readings)) + 1):
        try:
            found.append(_fit(readings, back, back * usual_s, least_s))
        except DataError as error:
            why = why or error
    if why is not None and not found:
        raise why
    return _best(found)


def _steps(usual_s: float, readings: int) -> int:
    """No more than leave most of the readings."""
    return min(int(_MOST_S / usual_s), readings // 4) if usual_s > 0.0 else 0


def _fit(readings: Sequence[EnergyReading], back: int, lag_s: float, least_s: float) -> LaggedFit:
    series = series_of(_shifted(readings, back), least_s)
    return LaggedFit(fit(series), series, lag_s)


def _shifted(readings: Sequence[EnergyReading], back: int) -> Sequence[EnergyReading]:
    """Each meter's reading beside the work of ``back`` readings before."""
    if not back:
        return readings
    return [
        work._replace(meter=late.meter, watts=late.watts)
        for work, late in zip(readings, readings[back:], strict=False)
    ]


def _best(found: Sequence[LaggedFit]) -> LaggedFit:
    least = min(1.0 - one.fit.r2 for one in found)
    return next(one for one in found if 1.0 - one.fit.r2 <= _AS_GOOD * least)
