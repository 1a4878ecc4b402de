"""A meter that shows what was a while ago."""

import pytest

from router.errors import DataError
from router.load.calibration.fit import fit
from router.load.calibration.lag import fit_lagged
from router.load.calibration.series import series_of
from router.load.energy_meter import MeterReading
from tests.load.calibration.servers import LAW, readings


def late(found, steps):
    """The meter shows what it had so many readings ago."""
    return [
        one._replace(meter=before.meter) for one, before in zip(found[steps:], found, strict=False)
    ]


@pytest.mark.parametrize(("steps", "moves_s"), [(0, 0.0), (1, 0.0), (9, 0.0), (12, 30.0)])
def test_the_lag_at_which_work_explains_most_is_the_lag(steps, moves_s):
    found = fit_lagged(late(readings(5, 450, noise=0.01, moves_s=moves_s), steps), 4.0)
    assert found.lag_s == pytest.approx(2.0 * steps, abs=2.0 if moves_s else 0.0)
    for key in ("idle_w", "base_w"):
        assert found.fit.of(key).value == pytest.approx(LAW.figures[key], rel=0.03)


def test_without_it_nothing_could_be_told():
    with pytest.raises(DataError, match="something else is at work"):
        fit(series_of(late(readings(5), 9), 4.0))


def test_what_cannot_be_told_at_any_lag_is_told_as_at_none():
    still = [one._replace(meter=MeterReading({"gpu": 1.0})) for one in readings(count=300)]
    with pytest.raises(DataError, match="the meter stood still"):
        fit_lagged(still, 4.0)
    with pytest.raises(DataError, match="too few"):
        fit_lagged(readings(count=1), 4.0)


def test_a_meter_that_is_minutes_late_is_refused():
    with pytest.raises(DataError, match="something else is at work"):
        fit_lagged(late(readings(count=300), 60), 4.0)
