"""What may happen to a meter, a counter and a clock, and what is left then."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import DataError
from router.load.calibration.series import series_of
from router.load.energy_meter import NO_READING, MeterReading
from tests.load.calibration.servers import readings


def changed(found, place, /, **values):
    """``found`` with one reading changed."""
    return [one._replace(**values) if i == place else one for i, one in enumerate(found)]


def restarted(meter, last):
    """It counts from nothing since ``last``."""
    return MeterReading({"gpu": meter.joules["gpu"] - last.joules["gpu"]})


def from_then(found, at, change):
    return [*found[:at], *map(change, found[at:])]


def test_spans_add_up_to_what_was_counted():
    found = readings(count=100)
    series = series_of(found, 4.0)
    assert series.seconds == pytest.approx(found[-1].at - found[1].at, abs=4.0)
    first = found[1].meter.joules["gpu"]
    assert math.fsum(span.energy_j for span in series.spans) == pytest.approx(
        found[-1].meter.joules["gpu"] - first, rel=0.02
    )
    assert (series.by_watts, series.dropped) == (False, {})
    assert min(span.seconds for span in series.spans) >= 4.0


def test_spans_of_a_meter_that_moves_rarely_begin_and_end_where_it_moves():
    found = readings(count=300, moves_s=30.0)
    moves = {one.at for a, one in pairwise(found) if a.meter != one.meter}
    series = series_of(found, 4.0)
    assert {round(span.seconds) for span in series.spans} == {30}
    assert len(series.spans) == len(moves) - 1


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (
            lambda f: from_then(
                f, 50, lambda one: one._replace(meter=restarted(one.meter, f[49].meter))
            ),
            "the meter began anew, or its GPUs changed",
        ),
        (
            lambda f: from_then(
                f, 50, lambda one: one._replace(
                    meter=MeterReading({**one.meter.joules, "gpu-1": 1e9 + 100.0 * one.at})
                )
            ),
            "the meter began anew, or its GPUs changed",
        ),
        (
            lambda f: from_then(
                f, 50, lambda one: one._replace(
                    work=one.work._replace(
                        answer_tokens=one.work.answer_tokens - f[49].work.answer_tokens - 0.5
                    )
                ),
            ),
            "answer_tokens began anew",
        ),
        (lambda f: changed(f, 50, meter=NO_READING), "the meter told nothing"),
        (
            lambda f: changed(f, 50, work=f[50].work._replace(iterations=math.nan)),
            "iterations was not told",
        ),
        (lambda f: changed(f, 50, at=f[40].at), "the clock stood still, or went back"),
        (
            lambda f: from_then(f, 50, lambda one: one._replace(at=one.at + 3600.0)),
            "a gap, or a clock that was set",
        ),
        (lambda f: [*f[:40], *f[60:]], "a gap, or a clock that was set"),
        (
            lambda f: [
                *f[:30],
                *(one._replace(meter=f[30].meter) for one in f[30:100]),
                *(
                    one._replace(meter=MeterReading({"gpu": one.meter.joules["gpu"]}))
                    for one in f[100:]
                ),
            ],
            "the meter stood still",
        ),
    ],
)  # fmt: skip
def test_what_breaks_costs_its_own_time(break_it, why):
    whole = series_of(readings(count=150), 4.0)
    series = series_of(break_it(readings(count=150)), 4.0)
    assert why in series.dropped
    assert 0.4 * whole.seconds < series.seconds < whole.seconds
    # What is left is as it was.
    lost = {round(span.energy_j, 6) for span in series.spans}
    assert len(lost - {round(span.energy_j, 6) for span in whole.spans}) <= len(lost) * 0.75
    assert all(40.0 < span.energy_j / span.seconds < 900.0 for span in series.spans)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (readings(count=2), "too few"),
        (
            [one._replace(meter=NO_READING) for one in readings(count=50)],
            "neither joules nor watts",
        ),
        (
            [one._replace(meter=MeterReading({"gpu": 5.0})) for one in readings(count=200)],
            r"no span .*the meter stood still",
        ),
        (
            [
                one._replace(meter=MeterReading({"gpu": one.meter.joules["gpu"] * 1000.0}))
                for one in readings(count=50)
            ],
            r"what no server draws: is the meter's unit smaller than taken \(mJ for J",
        ),
        (
            [
                one._replace(meter=MeterReading({"gpu": one.meter.joules["gpu"] / 1000.0}))
                for one in readings(count=50)
            ],
            r"what no server draws: is the meter's unit larger than taken \(J for mJ",
        ),
    ],
)
def test_what_is_no_meter_is_refused(found, why):
    with pytest.raises(DataError, match=why):
        series_of(found, 4.0)


def test_watts_are_added_up():
    found = [
        one._replace(meter=NO_READING, watts=100.0 + 50.0 * (place % 2))
        for place, one in enumerate(readings(count=60))
    ]
    series = series_of(found, 4.0)
    assert series.by_watts
    assert series.mean_w == pytest.approx(125.0)
    assert series.seconds == pytest.approx(found[-1].at, abs=4.0)


@given(st.data())
def test_whatever_is_read_is_refused_or_makes_spans_that_can_be(data):
    floats = st.floats(-1e12, 1e12) | st.just(math.nan)
    found = readings(count=12)
    for place in data.draw(st.lists(st.integers(0, 11), max_size=6)):
        joules = data.draw(floats)
        meter = NO_READING if math.isnan(joules) else MeterReading({"gpu": joules})
        work = found[place].work._replace(
            prompt_tokens=data.draw(floats), running=data.draw(floats)
        )
        found = changed(found, place, meter=meter, work=work, at=data.draw(st.floats(0.0, 60.0)))
    try:
        series = series_of(found, 4.0)
    except DataError:
        return
    for span in series.spans:
        assert span.energy_j >= 0.0 and span.seconds >= 4.0
        assert all(step.seconds > 0.0 for step in span.steps)
        counted = (span.total("answer_tokens"), span.total("iterations"))
        assert min(counted) >= 0.0
