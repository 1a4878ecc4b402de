"""Reading what a provider answered: typed pieces of decoded JSON, or ProviderAnswerError.

``where`` names provider and request in the error; the value found is shown only where it is short
and cannot be a key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from router.carbon.bands import half_width_g, with_band
from router.carbon.provider import Reading
from router.errors import NoDataError, ProviderAnswerError, ProviderError
from router.model import Factors, Forecast, Kind, Signal

# Above every grid's intensity: a unit was mistaken.
MOST_G_PER_KWH: Final = 5_000.0
# A provider's clock may run ahead of ours by this much.
SKEW_S: Final = 300.0


class Row(NamedTuple):
    """One value of a series: ``start`` of its slot (unix s), g/kWh."""

    start: float
    g_per_kwh: float


def mapping(value: Any, where: str, what: str) -> Mapping[str, Any]:
    """``value`` as a JSON object."""
    if not isinstance(value, dict):
        raise ProviderAnswerError(f"{where}: {what} is {_type(value)}, not an object")
    return value


def rows(value: Any, where: str, what: str) -> Sequence[Mapping[str, Any]]:
    """``value`` as a JSON list of objects."""
    if not isinstance(value, list):
        raise ProviderAnswerError(f"{where}: {what} is {_type(value)}, not a list")
    return [mapping(item, where, f"an item of {what}") for item in value]


def stamp(value: Any, where: str, what: str) -> float:
    """An ISO 8601 time in UTC as unix seconds; one without a zone, or in another, is an error."""
    if not isinstance(value, str):
        raise ProviderAnswerError(f"{where}: {what} is {_type(value)}, not a time")
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise ProviderAnswerError(f"{where}: {what} is no ISO 8601 time") from None
    if when.utcoffset() != timedelta(0):
        raise ProviderAnswerError(f"{where}: {what} is not in UTC")
    return when.timestamp()


def number(value: Any, where: str, what: str) -> float:
    """A finite number >= 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProviderAnswerError(f"{where}: {what} is {_type(value)}, not a number")
    if not 0.0 <= value <= 1e12:
        raise ProviderAnswerError(f"{where}: {what} is no number between 0 and 1e12")
    return float(value)


def intensity_g(value: Any, where: str, what: str, factors: Factors) -> float | None:
    """A carbon intensity in g/kWh; None when missing, for which 0 with life-cycle factors stands.

    Raises ProviderAnswerError for what no grid can have.
    """
    if value is None:
        return None
    g_per_kwh = number(value, where, what)
    if g_per_kwh > MOST_G_PER_KWH:
        raise ProviderAnswerError(f"{where}: {what} is {g_per_kwh:g}, no grid's g/kWh")
    return None if g_per_kwh == 0.0 and factors is Factors.LIFECYCLE else g_per_kwh


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
    grid_zone: str, series: Sequence[Row], issue: Issue, now: float, where: str
) -> Forecast:
    """The forecast that ``series`` (ascending) is, from its start to the first gap in it.

    What lies before a gap in the past is dropped. Raises NoDataError without a slot,
    ProviderAnswerError when all of it is in the past.
    """
    if not series:
        raise NoDataError(f"{where}: no forecast for this zone")
    issued_at = min(series[0].start if issue.issued_at is None else issue.issued_at, now)
    run: list[Row] = []
    for row in series:
        end = run[-1].start + issue.step_s if run else row.start
        if abs(row.start - end) > 1.0:
            if end > now:
                break
            run = []
        run.append(row)
    if run[-1].start + issue.step_s <= now:
        raise ProviderAnswerError(f"{where}: the forecast ended before now: frozen, or cut off")
    slots = tuple(
        with_band(
            row.g_per_kwh,
            issue.signal,
            Kind.FORECAST,
            issue.source,
            observed_at=issued_at,
            expires_at=issued_at + issue.fresh_s,
            half_g=half_width_g(row.g_per_kwh, issue.signal, Kind.FORECAST, row.start - issued_at),
        )
        for row in run
    )
    return Forecast(grid_zone, run[0].start, issue.step_s, slots)


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
