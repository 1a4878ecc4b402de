import math

import pytest

from router.core.usual_load import MOST_SITES, SLOTS, UsualLoads, UsualSlot

HOUR, DAY = 3600.0, 86_400.0
# 2026-11-30 00:00 UTC, a Monday.
MONDAY = 1_795_996_800.0
WEST, EAST = ("llama", "west"), ("llama", "east")


def hours(loads, day, places, site=WEST, every_s=60.0):
    """A day of looks; ``places``: by hour."""
    for hour in range(24):
        start = MONDAY + day * DAY + hour * HOUR
        at = start
        while at < start + HOUR:
            loads.note(site, places(hour), at)
            at += every_s


def morning(hour):
    return 40.0 if 8 <= hour < 18 else 2.0


def test_two_days_say_what_is_usual_and_one_does_not():
    loads = UsualLoads()
    hours(loads, 0, morning)
    assert math.isnan(loads.places(WEST, MONDAY + DAY + 8.5 * HOUR))
    hours(loads, 1, morning)
    loads.note(WEST, 2.0, MONDAY + 2 * DAY)
    assert loads.places(WEST, MONDAY + 2 * DAY + 8.5 * HOUR) == 40.0
    assert loads.places(WEST, MONDAY + 2 * DAY + 7.5 * HOUR) == 2.0
    # Of a Saturday nobody has seen one.
    assert math.isnan(loads.places(WEST, MONDAY + 5 * DAY + 8.5 * HOUR))


def test_weekends_are_apart():
    loads = UsualLoads()
    for day in range(14):
        hours(loads, day, lambda hour, day=day: 5.0 if day % 7 >= 5 else morning(hour))
    loads.note(WEST, 2.0, MONDAY + 14 * DAY)
    assert loads.places(WEST, MONDAY + 14 * DAY + 9 * HOUR) == pytest.approx(40.0)
    # 2026-12-19 is one; the last hour before was as usual.
    assert loads.places(WEST, MONDAY + 19 * DAY + 9 * HOUR) == pytest.approx(5.0)


def test_the_peak_of_an_hour_counts_and_the_last_week_most():
    loads = UsualLoads()
    for day, places in enumerate((10.0, 20.0)):
        start = MONDAY + day * DAY
        for at in range(0, 3600, 300):
            loads.note(WEST, places if at == 1800 else 1.0, start + at)
        assert loads.note(WEST, 0.0, start + HOUR) is True
    told = loads.taken()[WEST]
    assert told[0] == UsualSlot(15.0, 2)
    assert set(told[1:]) == {UsualSlot()}


def test_an_hour_that_was_seen_in_part_is_not_learned():
    loads = UsualLoads()
    loads.note(WEST, 9.0, MONDAY + 400.0)
    loads.note(WEST, 9.0, MONDAY + 3590.0)
    assert loads.note(WEST, 9.0, MONDAY + HOUR) is False
    # Nor one whose end nobody saw, nor one before a clock was set back.
    assert loads.note(WEST, 9.0, MONDAY + 2 * HOUR) is False
    assert loads.note(WEST, 9.0, MONDAY) is False
    assert loads.taken() == {}


def test_today_is_told_by_the_last_hour_within_bounds():
    loads = UsualLoads()
    for day in range(2):
        hours(loads, day, morning)
        hours(loads, day, morning, EAST)
    # Work has moved from east to west: in all it is as usual.
    today = MONDAY + 2 * DAY
    for at in range(0, 3600, 60):
        loads.note(WEST, 4.0, today + at)
        loads.note(EAST, 0.0, today + at)
    loads.note(WEST, 2.0, today + HOUR)
    loads.note(EAST, 2.0, today + HOUR)
    assert loads.places(WEST, today + 8.5 * HOUR) == pytest.approx(40.0)
    # An hour with ten times as much is a day with twice as much.
    for at in range(3600, 7200, 60):
        loads.note(WEST, 40.0, today + at)
        loads.note(EAST, 0.0, today + at)
    loads.note(WEST, 2.0, today + 2 * HOUR)
    loads.note(EAST, 2.0, today + 2 * HOUR)
    assert loads.places(WEST, today + 8.5 * HOUR) == pytest.approx(80.0)


def test_what_was_kept_goes_on_and_what_cannot_be_is_left_out():
    loads = UsualLoads()
    hours(loads, 0, morning)
    hours(loads, 1, morning)
    loads.note(WEST, 2.0, MONDAY + 2 * DAY)
    kept = loads.taken()
    later = UsualLoads()
    slot = UsualSlot(1.0, 3)
    later.take_up({
        **kept, ("llama", "short"): [slot], ("llama", "bad"): [UsualSlot(math.nan, 3)] * SLOTS,
        ("llama", "worse"): [UsualSlot(1.0, 99)] * SLOTS, EAST: [slot] * SLOTS,
    })  # fmt: skip
    assert later.places(WEST, MONDAY + 2 * DAY + 9 * HOUR) == 40.0
    assert later.taken().keys() == {WEST, EAST}
    # What is known of more days stands.
    later.take_up({EAST: [UsualSlot(9.0, 2)] * SLOTS})
    assert later.places(EAST, MONDAY) == 1.0
    later.forget(EAST)
    assert math.isnan(later.places(EAST, MONDAY))


def test_no_more_sites_are_kept_than_there_can_be():
    loads = UsualLoads()
    slots = [UsualSlot(1.0, 2)] * SLOTS
    loads.take_up({("llama", str(at)): slots for at in range(MOST_SITES + 5)})
    assert len(loads.taken()) == MOST_SITES
    assert loads.note(("llama", "one more"), 1.0, MONDAY) is False


def test_an_hour_with_a_gap_is_not_learned():
    """A machine stood still for most of each of three days' hours, and looked on around that."""
    loads = UsualLoads()
    for day in range(3):
        start = MONDAY + day * DAY
        for minute in (0, 1, 2, 57, 58, 59, 60):
            loads.note(WEST, 0.0, start + minute * 60.0)
    assert math.isnan(loads.places(WEST, MONDAY + 3 * DAY))
    for day in range(3, 5):
        start = MONDAY + day * DAY
        for minute in range(0, 61, 4):
            loads.note(WEST, 3.0, start + minute * 60.0)
    assert loads.places(WEST, MONDAY + 4 * DAY) == 3.0
