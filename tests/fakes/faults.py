"""The ways in which a fake provider may misbehave, as windows on the world's clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class What(StrEnum):
    """One way of misbehaving; not every provider has every way."""

    # Of any HTTP server.
    DEAD = "dead"  # the connection breaks without an answer
    SLOW = "slow"  # no answer until ``Fake.release`` is set
    SERVER_ERROR = "server error"  # ``Fault.status``
    TOO_MANY = "too many requests"  # 429, ``Fault.retry_after_s``
    TRUNCATED = "truncated"  # the connection breaks half-way through the body
    INVALID = "invalid"  # a whole answer with half a body
    HTML = "html"  # 200, and somebody's error page
    EMPTY = "empty"  # 200 without a body
    HUGE = "huge"  # a valid body with megabytes of padding
    # Of a carbon API.
    KEY_REVOKED = "key revoked"
    OUTSIDE_PLAN = "outside plan"  # a valid key that does not include this
    NULL = "null"  # the values are null
    NO_DATA = "no data"  # the API's own words for having nothing
    NO_ROWS = "no rows"  # the usual envelope, and nothing in it
    WRONG_ZONE = "wrong zone"  # a valid answer for another zone
    FROZEN = "frozen"  # as it was when the window began
    OTHER_FACTORS = "other factors"  # direct where life-cycle was asked, or the reverse
    OTHER_UNIT = "other unit"  # a percentile where a rate was asked
    SHORT = "short forecast"  # only ``Fault.hours`` of it
    NO_MAIN_FUEL = "main fuel missing"  # it is left out of slots from the window on
    NAIVE_TIME = "naive time"  # stamps without a zone


@dataclass(frozen=True)
class Fault:
    """Misbehave in ``[start, end)`` for ``zone`` (the provider's id) at ``endpoint``; "": all."""

    what: What
    zone: str = ""
    endpoint: str = ""
    start: float = -math.inf
    end: float = math.inf
    status: int = 500
    retry_after_s: float | None = None
    as_date: bool = False
    hours: int = 1


class Limit(NamedTuple):
    """At most ``calls`` of ``endpoint`` ("": any) in ``per_s`` seconds of the world's clock."""

    calls: int
    per_s: float
    endpoint: str = ""
