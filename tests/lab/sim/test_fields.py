import pytest
from pydantic import TypeAdapter, ValidationError

from router.lab.sim.fields import Duration, Moment, Period


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90.0), ("90s", 90.0), ("250ms", 0.25), ("1.5 m", 90.0), ("2min", 120.0),
        (" 24h ", 86_400.0), ("7d", 604_800.0), ("2w", 1_209_600.0), (0, 0.0),
    ],
)  # fmt: skip
def test_durations(text, seconds):
    assert TypeAdapter(Duration).validate_python(text) == seconds


@pytest.mark.parametrize("text", ["soon", "1.5", "h", "-1h", "1h30m", "1 hour", -1, "4000d"])
def test_what_is_no_duration(text):
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(text)


def test_a_period_is_longer_than_nothing():
    with pytest.raises(ValidationError, match="greater than 0"):
        TypeAdapter(Period).validate_python("0s")


def test_a_moment_is_a_date_or_a_time_since_the_start():
    moment = TypeAdapter(Moment)
    assert moment.validate_python("2022-05-14T00:00Z") == 1_652_486_400.0
    assert moment.validate_python("3h") == 10_800.0
