"""Deadlines pass by no clock that leapt ahead a moment ago."""

from hypothesis import given
from hypothesis import strategies as st

from router.deferral.clock_leaps import ClockMark, believed

YEAR = 366 * 86_400.0
BOOT = "b"


def test_a_clock_that_goes_as_time_does_is_believed():
    mark = believed(None, BOOT, 10.0, 1000.0)
    assert believed(mark, BOOT, 70.0, 1060.5).wall == 1060.5
    assert believed(mark, BOOT, 70.0, 900.0).wall == 900.0


def test_one_that_leapt_is_not_until_it_has_stood():
    mark = believed(None, BOOT, 0.0, 1000.0)
    for ticks in (10.0, 1800.0, 3600.0):
        mark = believed(mark, BOOT, ticks, 1000.0 + ticks + YEAR)
        assert mark.wall == 1000.0 + ticks and mark.leapt_at == 10.0
    mark = believed(mark, BOOT, 3610.0, 4610.0 + YEAR)
    assert mark == ClockMark(BOOT, 3610.0, 4610.0 + YEAR)


def test_one_that_was_set_right_again_never_leapt():
    mark = believed(ClockMark(BOOT, 0.0, 1000.0), BOOT, 10.0, 1000.0 + YEAR)
    mark = believed(mark, BOOT, 20.0, 1020.0)
    assert mark == ClockMark(BOOT, 20.0, 1020.0)
    assert believed(mark, BOOT, 4000.0, 5000.0 + YEAR).wall == 5000.0


def test_of_another_boot_nothing_is_known():
    mark = ClockMark("a", 10.0, 1000.0)
    assert believed(mark, BOOT, 20.0, YEAR).wall == YEAR
    assert believed(mark, "a", 5.0, YEAR).wall == YEAR


@given(st.lists(st.tuples(st.floats(0.0, 900.0), st.floats(-YEAR, YEAR)), max_size=30))
def test_in_an_hour_no_clock_gets_ahead_by_more_than_it_may(steps):
    mark, ticks = believed(None, BOOT, 0.0, 0.0), 0.0
    ahead = 0.0
    for after, wrong in steps[:3]:
        ticks += after
        mark = believed(mark, BOOT, ticks, ticks + wrong)
        ahead += 300.0
        assert mark.wall <= ticks + ahead
