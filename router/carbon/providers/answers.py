"""Reading what a provider answered: typed pieces of decoded JSON, or an error.

ProviderAnswerError where the whole answer is not what was asked for, ProviderRowError where one
row is not.

``where`` names provider and request in the error; the value found is shown only where it is short
and cannot be a key.
"""

from __future__ import annotations

import email.utils
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from router.carbon.providers.bands import half_width_g, with_band
from router.carbon.providers.holes import bridged
from router.carbon.providers.provider import Reading
from router.carbon.providers.rows import Fault, RowReader
from router.errors import ProviderAnswerError, ProviderError, ProviderRowError
from router.model import Factors, Forecast, Intensity, Kind, Signal
from router.units import DAY_S

# What an hour of a grid can have, g/kWh. Over: twice the highest figure for coal (910, IPCC AR5 WG3
# Annex III, Table A.III.2), so another unit or a slip. Life-cycle below 1: less than any plant's
# (wind's lowest is 7 there), so kg/kWh or a slip.
MOST_G_PER_KWH: Final = 2_000.0
LEAST_LIFECYCLE_G_PER_KWH: Final = 1.0
# A provider's clock may run ahead of ours by this much.
SKEW_S: Final = 300.0
_LONGEST_RETRY_S: Final = DAY_S


def mapping(value: Any, where: str, what: str) -> Mapping[str, Any]:
    """``value`` as a JSON object."""
    if not isinstance(value, dict):
        raise ProviderAnswerError(f"{where}: {what} is {_type(value)}, not an object")
    return value


def listed(value: Any, where: str, what: str) -> list[Any]:
    """``value`` as a JSON list; its items are read by a `RowReader`."""
    if not isinstance(value, list):
        raise ProviderAnswerError(f"{where}: {what} is {_type(value)}, not a list")
    return value


def stamp(value: Any, where: str, what: str) -> float:
    """An ISO 8601 time in UTC as unix seconds; one without a zone, or in another, is an error.

    Raises ProviderRowError, as all that follow.
    """
    if not isinstance(value, str):
        raise ProviderRowError(f"{where}: {what} is {_type(value)}, not a time")
    try:
        when = datetime.fromisoformat(value)
        if when.utcoffset() != timedelta(0):
            raise ProviderRowError(f"{where}: {what} is not in UTC", value=value)
        return when.timestamp()
    except (ValueError, OverflowError):
        raise ProviderRowError(f"{where}: {what} is no ISO 8601 time", value=value) from None


def number(value: Any, where: str, what: str) -> float:
    """A finite number from 0 to 1e12."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProviderRowError(f"{where}: {what} is {_type(value)}, not a number", value=value)
    if not 0.0 <= value <= 1e12:
        text = f"{where}: {what} is no number between 0 and 1e12"
        raise ProviderRowError(text, Fault.OUT_OF_RANGE, value)
    return float(value)


def flag(value: Any, where: str, what: str) -> bool | None:
    """True, False, or None where it is missing."""
    if not isinstance(value, bool | None):
        raise ProviderRowError(f"{where}: {what} is neither true nor false", value=value)
    return value


def intensity_g(value: Any, where: str, what: str, factors: Factors) -> float | None:
    """A carbon intensity in g/kWh; None when missing, for which 0 with life-cycle factors stands.

    Raises ProviderRowError for what no grid can have.
    """
    if value is None:
        return None
    g_per_kwh = number(value, where, what)
    lifecycle = factors is Factors.LIFECYCLE
    if lifecycle and g_per_kwh == 0.0:
        return None
    least = LEAST_LIFECYCLE_G_PER_KWH if lifecycle else 0.0
    if not least <= g_per_kwh <= MOST_G_PER_KWH:
        text = f"{where}: {what} is {g_per_kwh:g}, no grid's g/kWh"
        raise ProviderRowError(text, Fault.OUT_OF_RANGE)
    return g_per_kwh


def iso(when: float) -> str:
    """Unix seconds as ISO 8601 in UTC, whole seconds."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def spans(start: float, end: float, longest_s: float) -> Iterator[tuple[float, float]]:
    """``start`` .. ``end`` in consecutive pieces of at most ``longest_s``, oldest first."""
    while start < end:
        stop = min(start + longest_s, end)
        yield start, stop
        start = stop


class Issue(NamedTuple):
    """What all slots of one published forecast share.

    ``issued_at`` None: not said; then no later than the start of the first slot, so that a forecast
    that is given out again and again ages. It expires ``fresh_s`` after its issue.
    """

    source: str
    signal: Signal
    step_s: float
    issued_at: float | None
    fresh_s: float


def published_forecast(
    grid_zone: str, series: Mapping[float, float], issue: Issue, now: float, reader: RowReader
) -> Forecast:
    """The forecast that ``series`` (g/kWh by start of slot) is, with holes where it says nothing.

    Raises the reader's error without a slot, ProviderAnswerError when all of it is in the past.
    """
    stated = reader.in_step(series, issue.step_s, now)
    if not stated:
        raise reader.nothing("no forecast for this zone")
    start, last = min(stated), max(stated)
    if last + issue.step_s <= now:
        text = "the forecast ended before now: frozen, or cut off"
        raise ProviderAnswerError(f"{reader.where}: {text}")
    issued_at = min(start if issue.issued_at is None else issue.issued_at, now)
    slots: list[Intensity | None] = [None] * (round((last - start) / issue.step_s) + 1)
    for at, g_per_kwh in stated.items():
        slots[round((at - start) / issue.step_s)] = with_band(
            g_per_kwh,
            issue.signal,
            Kind.FORECAST,
            issue.source,
            observed_at=issued_at,
            expires_at=issued_at + issue.fresh_s,
            half_g=half_width_g(g_per_kwh, issue.signal, Kind.FORECAST, at - issued_at),
        )
    return Forecast(grid_zone, start, issue.step_s, bridged(slots))


async def fetch_each(
    grid_zones: Sequence[str], fetch: Callable[[str], Awaitable[Reading]]
) -> Mapping[str, Reading | ProviderError]:
    """``fetch`` for one zone after the other; raises the last error when none has a reading."""
    answers: dict[str, Reading | ProviderError] = {}
    failure: ProviderError | None = None
    for zone in grid_zones:
        try:
            answers[zone] = await fetch(zone)
        except ProviderError as error:
            answers[zone] = failure = error
    if failure is not None and not any(isinstance(found, Reading) for found in answers.values()):
        raise failure
    return answers


def _type(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def retry_after_s(header: str, now: float) -> float | None:
    """Seconds to wait by a Retry-After header, in seconds or as an HTTP date; None if neither.

    At most a day: a longer wait is taken for a mistake.
    """
    header = header.strip()
    try:
        if header.replace(".", "", 1).isdecimal():
            after_s = float(header)
        else:
            when = email.utils.parsedate_to_datetime(header)
            after_s = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(after_s, 0.0), _LONGEST_RETRY_S) if math.isfinite(after_s) else None
