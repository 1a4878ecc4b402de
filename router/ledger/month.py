"""A month of a ledger: whole hours in UTC, whatever clocks on walls do in it."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

from router.errors import ConfigError
from router.units import HOUR_S

US_PER_S: Final = 1_000_000
US_PER_HOUR: Final = round(HOUR_S) * US_PER_S
_TEXT: Final = re.compile(r"(\d{4})-(\d\d)", re.ASCII)


class Month(NamedTuple):
    """``year``, ``month`` (1 to 12) of the Gregorian calendar, UTC."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Of text such as 2026-11. Raises ConfigError for any other."""
        found = _TEXT.fullmatch(text.strip())
        year, month = (int(part) for part in found.groups()) if found else (0, 0)
        if not (1 <= month <= 12 and 1970 <= year <= 9998):
            raise ConfigError("--month", [("", f"{text!r} is no month; write it as 2026-11")])
        return cls(year, month)

    @property
    def first_day(self) -> date:
        """Its first."""
        return date(self.year, self.month, 1)

    @property
    def last_day(self) -> date:
        """Its last: the 29th in a February of a leap year."""
        return self.first_day.replace(day=calendar.monthrange(self.year, self.month)[1])

    @property
    def first_hour(self) -> int:
        """Hours since 1970 at which it starts."""
        start = datetime(self.year, self.month, 1, tzinfo=UTC)
        return int(start.timestamp()) // round(HOUR_S)

    @property
    def hours(self) -> int:
        """How many it has, 24 each day."""
        return 24 * self.last_day.day

    @property
    def end_hour(self) -> int:
        """Hours since 1970 at which the next one starts."""
        return self.first_hour + self.hours

    @property
    def span_us(self) -> tuple[int, int]:
        """Its start and its end, microseconds since 1970."""
        return self.first_hour * US_PER_HOUR, self.end_hour * US_PER_HOUR

    @property
    def days_of_rows(self) -> tuple[date, date]:
        """The days, first and last, in which rows ended whose runs may reach into the month."""
        return self.first_day, self.last_day + timedelta(days=1)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"


def hour_text(hour: int) -> str:
    """``hour``, of those since 1970, as ISO 8601: 2026-11-30T07:00:00Z."""
    return f"{datetime.fromtimestamp(hour * round(HOUR_S), UTC):%Y-%m-%dT%H:%M:%SZ}"
