import math

import numpy as np
import pytest

from router.core.deferral.outlook import DeferralOutlook
from router.errors import DataError, MixedBasisError
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal
from router.units import HOUR_S
from tests.core.deferral.made_up import NOW, outlook

AVERAGE = Signal(Basis.AVERAGE, Factors.LIFECYCLE)


def forecast(values, start=NOW, signal=AVERAGE, step_s=HOUR_S):
    slots = tuple(
        Intensity(g, g / 2, g * 2, signal, Kind.FORECAST, "test", NOW, math.inf) for g in values
    )
    return Forecast("zone", start, step_s, slots)


def test_the_mean_of_quantiles_is_above_a_value_whose_upper_tail_is_longer():
    one = outlook([[100.0]], g_per_kwh=np.array([[[80.0]], [[100.0]], [[200.0]]]))
    assert one.mean_g_per_kwh[0, 0] == pytest.approx(0.185 * 280 + 63)


def test_pue_counts():
    assert outlook([[100.0]], pue=np.array([1.5])).mean_g_per_kwh[0, 0] == pytest.approx(150)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"pue": np.array([0.5])}, "pue must be finite and 1 or more"),
        ({"pue": np.ones(2)}, "pue has shape"),
        ({"awake_places": np.full((1, 1, 2), np.nan)}, "awake_places must be finite"),
        ({"woken_ratio": np.full((1, 1), 0.5)}, "woken_ratio"),
        ({"step_s": 0.0}, "a slot of more than 0 s"),
        ({"g_per_kwh": np.array([[[3.0, 3.0]], [[2.0, 2.0]], [[4.0, 4.0]]])}, "must rise"),
    ],
)
def test_what_makes_no_sense_is_refused(other, says):
    with pytest.raises(DataError, match=says):
        outlook([[1.0, 2.0]], **other)


def steady(forecasts, **other):
    places = np.full((1, len(forecasts)), 4.0)
    pue = dict.fromkeys(forecasts, 1.1)
    return DeferralOutlook.steady(
        forecasts, pue, ["m"], now=NOW + HOUR_S + 60, awake_places=places, **other
    )


def test_a_steady_outlook_begins_with_the_hour_that_it_is_and_ends_with_the_shortest_forecast():
    made = steady({"a": forecast([9, 1, 2, 3]), "b": forecast([9, 5, 6])})
    assert made.start == NOW + HOUR_S
    assert made.g_per_kwh[1].tolist() == [[1, 2], [5, 6]]
    assert made.g_per_kwh[0].tolist() == [[0.5, 1], [2.5, 3]]
    assert made.awake_places.shape == (1, 2, 2)
    assert (made.least_places == 2.0).all()
    assert (made.asleep_places == 0.0).all()
    assert (made.woken_ratio == 1.0).all()


def test_forecasts_that_miss_the_present_or_do_not_compare_are_refused():
    marginal = Signal(Basis.MARGINAL, Factors.NONE)
    with pytest.raises(DataError, match="does not cover the present"):
        steady({"a": forecast([1])})
    with pytest.raises(MixedBasisError):
        steady({"a": forecast([1, 2]), "b": forecast([1, 2], signal=marginal)})
    with pytest.raises(DataError, match="steps of an hour"):
        steady({"a": forecast([1, 2, 3, 4, 5, 6], step_s=1800.0)})
    with pytest.raises(DataError, match="needs the forecast of a region"):
        steady({})
