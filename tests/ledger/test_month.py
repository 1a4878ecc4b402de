import pytest

from router.errors import ConfigError
from router.ledger.month import Month, hour_text


def test_a_month_is_whole_hours() -> None:
    month = Month.parse("2026-11")
    assert hour_text(month.first_hour) == "2026-11-01T00:00:00Z"
    assert hour_text(month.end_hour) == "2026-12-01T00:00:00Z"
    assert month.hours == 720
    assert str(month) == "2026-11"


@pytest.mark.parametrize(
    ("text", "hours"),
    # A leap day; the months in which clocks change, in Europe and in the United States.
    [("2028-02", 696), ("2027-02", 672), ("2026-03", 744), ("2026-10", 744), ("2026-11", 720)],
)
def test_every_day_has_24_hours_of_utc(text: str, hours: int) -> None:
    assert Month.parse(text).hours == hours


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "26-11", "2026-11-01", "", "٢٠٢٦-١١"])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no month"):
        Month.parse(text)


def test_rows_of_a_run_that_ends_in_the_next_month_are_read() -> None:
    first, last = Month.parse("2026-12").days_of_rows
    assert (first.isoformat(), last.isoformat()) == ("2026-12-01", "2027-01-01")
