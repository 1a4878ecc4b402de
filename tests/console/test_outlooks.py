"""What the console draws of a grid zone, held against what is known of it."""

from router.console.outlooks import HOURS, PastHours, ahead_document, errors_document, now_document
from router.core.learned import SkillLearned
from router.units import HOUR_S
from tests.factories import forecast, intensity

NOW = 1_700_000_000.0 // HOUR_S * HOUR_S + 1200.0


class Kept:
    """What is observed, by hour; ``asked``: for which."""

    def __init__(self):
        self.hours = {}
        self.asked = []

    def __call__(self, zone, start):
        self.asked.append(start)
        return self.hours.get(start)


def hour(back):
    return NOW - 1200.0 - HOUR_S * back


def test_hours_that_are_known_are_asked_for_once_but_for_the_newest():
    kept = Kept()
    kept.hours = {hour(back): intensity(100.0 + back) for back in range(1, HOURS + 1)}
    past = PastHours(kept)
    first = past.document("Z", NOW)
    assert first["g"] == [100.0 + back for back in range(HOURS, 0, -1)]
    assert (first["start"], len(kept.asked)) == (hour(HOURS), HOURS)
    kept.asked.clear()
    kept.hours[hour(1)] = intensity(7.0)
    assert past.document("Z", NOW)["g"][-1] == 7.0
    assert kept.asked == [hour(2), hour(1)]


def test_what_comes_hours_late_is_drawn_before_long_and_a_long_gap_takes_little_at_once():
    kept = Kept()
    past = PastHours(kept)
    assert past.document("Z", NOW)["g"] == [None] * HOURS
    kept.hours = {hour(back): intensity(50.0) for back in range(1, HOURS + 1)}
    for left in (19, 16, 13, 10, 7, 4, 1, 0):
        kept.asked.clear()
        assert past.document("Z", NOW)["g"].count(None) == left
        assert len(kept.asked) <= 5
    past.keep([])
    kept.asked.clear()
    past.document("Z", NOW)
    assert len(kept.asked) == HOURS


def test_the_day_ahead_begins_with_this_hour_and_ends_where_the_forecast_does():
    start = NOW - 1200.0 - 2 * HOUR_S
    told = ahead_document(forecast("Z", *range(30), start=start), NOW)
    assert (told["start"], told["g"]) == (NOW - 1200.0, [float(n) for n in range(2, 26)])
    told = ahead_document(forecast("Z", *range(5), start=start), NOW)
    assert told["g"] == [2.0, 3.0, 4.0]


def test_what_is_not_known_is_null_and_what_is_old_is_stale():
    assert now_document(None, NOW) is None
    known = intensity(40.0, expires_at=NOW)
    assert now_document(known, NOW)["stale"] and not now_document(known, NOW - 1.0)["stale"]


def test_errors_are_told_where_hours_were_met_alone():
    assert errors_document(None, (1,)) == {}
    learned = SkillLearned("average/lifecycle", "Z", ((0, 9.0, 9.0, 9.0), (3, 4.0, 5.0, 4.5)))
    told = {"24": {"hours": 3, "published": 4.0, "own": 5.0, "used": 4.5}}
    assert errors_document(learned, (1, 24)) == told
