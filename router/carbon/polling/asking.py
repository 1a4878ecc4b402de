"""The calls of one provider: which grid zones are due, what the answers and failures mean.

Everything that was answered is kept with its true age; ``router.carbon.polling.poll`` serves it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from router.carbon.chain.attempt import ROWS_DROPPED, Attempt
from router.carbon.polling.cache import AnswerCache
from router.carbon.polling.codec import Seen
from router.carbon.polling.schedule import EveryPlan, NewsPlan, Rest, backoff_s
from router.carbon.providers.provider import Provider, Reading, Want
from router.carbon.providers.rows import Dropped, summary
from router.contract import Rng
from router.errors import (
    CallBudgetError,
    DataError,
    NoDataError,
    ProviderAnswerError,
    ProviderBusyError,
    ProviderError,
    ProviderRefusedError,
    ProviderUnavailableError,
)
from router.model import Forecast, Intensity, Kind
from router.units import DAY_S, HOUR_S

_LISTEN: Final = (Want.LATEST, Want.HISTORY)
_OBSERVED: Final = (Kind.MEASURED, Kind.ESTIMATED)
# Between two lines of the log on rows that a provider's answers lose; the metric has all of them.
_LINE_S: Final = HOUR_S

_log = logging.getLogger(__name__)

Plan: TypeAlias = NewsPlan | EveryPlan
Asked: TypeAlias = Callable[[str, Want, str], None]
"""Told of every call of a provider: source, what for, and the reason of its failure or ""."""
OnDropped: TypeAlias = Callable[[str, Dropped], None]
"""Told of the rows of an answer that could not be used: source, and which."""


class PollTimes(NamedTuple):
    """How often a provider is asked; seconds.

    ``retry_s``: shortest and longest wait after failures. ``refused_s``: a grid zone outside the
    plan. ``forecast_s``: between two forecasts; ``history_s``: between two readings of
    the last ``reread_h`` hours, for what was revised. ``concurrent``: calls at a time.
    """

    retry_s: tuple[float, float] = (60.0, 900.0)
    refused_s: float = 6 * HOUR_S
    forecast_s: float = 3 * HOUR_S
    history_s: float = 6 * HOUR_S
    reread_h: int = 48
    concurrent: int = 4


class Asker:
    """Calls a provider for what is due, and knows what it answered.

    ``known``: what it answered, and what went wrong last.
    ``unsaid``: what was learned and not yet shared with other gateways.
    """

    def __init__(
        self,
        provider: Provider,
        rng: Rng,
        times: PollTimes,
        wants: Collection[Want],
        asked: Asked,
        dropped: OnDropped = lambda source, rows: None,
    ) -> None:
        self.name = provider.name
        self.signal = provider.signal
        self.wants = provider.wants & frozenset(wants)
        self.known = AnswerCache(observes=Want.LATEST in self.wants)
        self.unsaid: set[tuple[Want, str]] = set()
        self._provider = provider
        self._rng = rng
        self._times = times
        self._asked = asked
        self._dropped = dropped
        self._line_at = -math.inf
        self._plans: dict[tuple[Want, str], Plan] = {}
        self._rest = Rest(*times.retry_s)
        self._gate = asyncio.Semaphore(times.concurrent)

    def seen(self) -> Mapping[str, Seen]:
        """Per grid zone, when it was last asked with success, and how it last failed."""
        zones = {zone for _, zone in self._plans}
        return {zone: self._seen(zone) for zone in zones}

    def adopt(
        self, zone: str, seen: Seen, values: Sequence[Intensity], forecast: Forecast | None
    ) -> None:
        """Take over what another gateway was told at the times in ``seen``."""
        if forecast is not None and forecast.slots[0].signal == self.signal:
            self.known.forecasts[zone] = forecast
        for value in values:
            if value.signal == self.signal:
                self.known.take(zone, value, max(seen.latest_at, seen.history_at))

    def heard_of(self, zone: str, seen: Seen) -> None:
        """Count another gateway's calls as own ones, and its failures."""
        newest = self.known.newest(zone)
        news = self.plan(Want.LATEST, zone)
        if newest is not None and isinstance(news, NewsPlan) and seen.latest_at > news.asked_at:
            news.heard(newest.observed_at, seen.latest_at, self._rng.random())
        for want, at in ((Want.FORECAST, seen.forecast_at), (Want.HISTORY, seen.history_at)):
            plan = self.plan(want, zone)
            if isinstance(plan, EveryPlan) and at > max(0.0, plan.asked_at):
                plan.heard(at, self._rng.random())
        self.known.attempts.pop((Want.LATEST, zone), None)
        if seen.code:
            self.known.attempts[Want.LATEST, zone] = Attempt(
                self.name, seen.code == ROWS_DROPPED, seen.text, seen.code
            )

    async def ask_due(self, want: Want, zones: Collection[str], now: float, hours: int) -> None:
        """Call for what is due, oldest first.

        Cut short, what is under way counts as failed and the rest stays due. Once all calls have
        ended, raises what one of them raised that no provider should.
        """
        if self._rest.until > now:
            return
        plans = {zone: self.plan(want, zone) for zone in zones}
        due = sorted((plan.due_at, zone) for zone, plan in plans.items() if plan.due_at <= now)
        if not due:
            return
        queue = [zone for _, zone in due]
        size = max(1, self._provider.zones_per_call)
        if spare := -len(queue) % size:
            # Whoever is due soon comes along for free.
            soon = now + self._provider.publishes_every_s / 12.0
            near = sorted((plan.due_at, zone) for zone, plan in plans.items())
            queue += [zone for at, zone in near if now < at <= soon and not plans[zone].failures][
                :spare
            ]
        starts = range(0, len(queue), size)
        calls = (self._call(want, queue[first : first + size], now, hours) for first in starts)
        for ended in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _call(self, want: Want, batch: Sequence[str], now: float, hours: int) -> None:
        async with self._gate:
            plans = [self.plan(want, zone) for zone in batch]
            # Another call may have told us to wait, or have asked for these, in the meantime.
            if self._rest.until > now or all(plan.due_at > now for plan in plans):
                return
            for plan in plans:
                # Not twice at a time; what comes of it says when next.
                plan.due_at = now + self._times.retry_s[0]
            deep = max((self._depth(want, zone, hours) for zone in batch), default=hours)
            try:
                answers = await self._provider.fetch(batch, want, now, deep)
            except BaseException as error:
                self._failed(want, batch, now, self._failure(error))
                if not isinstance(error, ProviderError | TimeoutError):
                    raise
            else:
                self._answered(want, batch, answers, now)

    def _failure(self, error: BaseException) -> ProviderError:
        """What a call that ended with ``error`` counts as."""
        match error:
            case ProviderError():
                return error
            case TimeoutError():
                text = "no answer in time"
            case asyncio.CancelledError():
                text = "the call was cut short"
            case _:
                text = f"internal error: {type(error).__name__}"
        return ProviderUnavailableError(f"{self.name}: {text}")

    def _answered(
        self,
        want: Want,
        batch: Sequence[str],
        answers: Mapping[str, Reading | ProviderError],
        now: float,
    ) -> None:
        self._asked(self.name, want, "")
        self._rest.succeeded()
        for zone in batch:
            answer = answers.get(zone, NoDataError(f"{self.name}: no answer for {zone}"))
            if isinstance(answer, Reading):
                try:
                    self._take(want, zone, answer, now)
                    self._lacks(want, zone, answer.dropped, now)
                    continue
                except ProviderError as error:
                    answer = error
                except DataError as error:
                    answer = ProviderAnswerError(str(error))
            self._zone_failed(want, zone, now, answer)

    def _take(self, want: Want, zone: str, reading: Reading, now: float) -> None:
        """Keep a reading. Raises DataError when it cannot be true; then nothing is kept."""
        forecast = reading.forecast
        if want is Want.FORECAST and forecast is None:
            raise NoDataError(f"{self.name}: no forecast for {zone}")
        if want in _LISTEN and not reading.observed:
            raise NoDataError(f"{self.name}: no value for {zone}")
        reach_s = max(HOUR_S, self._provider.publishes_every_s)
        for value in reading.observed:
            if value.signal != self.signal:
                raise DataError(f"{self.name}: {zone} answered in {'/'.join(value.signal)}")
            if value.kind not in _OBSERVED or not value.observed_at <= now + reach_s:
                raise DataError(f"{self.name}: {zone}: a {value.kind} value for the time to come")
        if forecast is not None:
            if forecast.slots[0].signal != self.signal:
                raise DataError(f"{self.name}: {zone} forecast in another signal")
            self._take_forecast(zone, forecast, now)
        if reading.observed:
            self._take_observed(want, zone, reading.observed, now)

    def _lacks(self, want: Want, zone: str, dropped: Sequence[Dropped], now: float) -> None:
        """Count and tell the rows that a good answer lost."""
        if not dropped:
            return
        for rows in dropped:
            self._dropped(self.name, rows)
        text = summary(dropped)
        self.known.attempts[want, zone] = Attempt(self.name, True, text, ROWS_DROPPED)
        if now - self._line_at >= _LINE_S:
            self._line_at = now
            _log.warning("carbon provider %s, %s of %s: %s", self.name, want, zone, text)

    def _take_observed(
        self, want: Want, zone: str, observed: Sequence[Intensity], now: float
    ) -> None:
        before = self.known.newest(zone)
        if any([self.known.take(zone, value, now) for value in observed]):
            self.unsaid.add((Want.LATEST, zone))
        newest = self.known.newest(zone)
        if newest is not None and Want.LATEST in self.wants:
            plan = self.plan(Want.LATEST, zone)
            # A history tells nothing of when the newest slot was published, but that it was.
            if isinstance(plan, NewsPlan) and (
                want is Want.LATEST or newest.observed_at > plan.newest
            ):
                plan.heard(newest.observed_at, now, self._rng.random())
                self.known.attempts.pop((Want.LATEST, zone), None)
        if want is Want.HISTORY:
            self._heard(want, zone, now)
        elif before is not None and Want.HISTORY in self.wants:
            step_s = min(HOUR_S, self._provider.publishes_every_s)
            after = [v.observed_at for v in observed if v.observed_at > before.observed_at]
            if after and min(after) - before.observed_at > 1.5 * step_s:
                self._hasten_history(zone, now)

    def _hasten_history(self, zone: str, now: float) -> None:
        plan = self.plan(Want.HISTORY, zone)
        if isinstance(plan, EveryPlan):
            plan.hasten(max(now, plan.asked_at + self._provider.publishes_every_s))

    def _take_forecast(self, zone: str, forecast: Forecast, now: float) -> None:
        if self.known.take_forecast(zone, forecast):
            self.unsaid.add((Want.FORECAST, zone))
        self._heard(Want.FORECAST, zone, now)

    def _heard(self, want: Want, zone: str, now: float) -> None:
        plan = self.plan(want, zone)
        if isinstance(plan, EveryPlan):
            plan.heard(now, self._rng.random())
            self.known.attempts.pop((want, zone), None)

    def _failed(self, want: Want, batch: Sequence[str], now: float, error: ProviderError) -> None:
        """A whole call failed."""
        self._asked(self.name, want, error.reason)
        if isinstance(error, ProviderUnavailableError):
            self._rest.failed(now, self._rng.random())
        for zone in batch:
            self._zone_failed(want, zone, now, error)

    def _zone_failed(self, want: Want, zone: str, now: float, error: ProviderError) -> None:
        # Its name is told beside.
        text = str(error).removeprefix(self.name).lstrip(":, ")
        self.known.attempts[want, zone] = Attempt(self.name, False, text, error.reason)
        plan, draw = self.plan(want, zone), self._rng.random()
        wait_s = backoff_s(plan.failures + 1, draw, *self._times.retry_s)
        if isinstance(error, ProviderBusyError | CallBudgetError):
            told_s = error.retry_after_s
            # Told so much too long a time, we would be silent for ever.
            self._rest.wait(wait_s if told_s is None else min(told_s, DAY_S), now)
            # Nothing is wrong with the zone: first in line when the source is asked again.
            plan.due_at = now
            if told_s is None:
                plan.failures += 1
            return
        if want is Want.LATEST and isinstance(error, NoDataError | ProviderAnswerError):
            # It may know the hours before.
            self._hasten_history(zone, now)
        if isinstance(error, ProviderRefusedError):
            wait_s = self._times.refused_s * (0.9 + 0.2 * draw)
        plan.failed(wait_s, now)

    def plan(self, want: Want, zone: str) -> Plan:
        """When the zone is next asked for; made when it is first spoken of."""
        plan = self._plans.get((want, zone))
        if plan is None:
            if want is Want.LATEST:
                plan = NewsPlan(self._provider.publishes_every_s)
            elif want is Want.FORECAST:
                plan = EveryPlan(self._times.forecast_s)
            else:
                plan = EveryPlan(self._times.history_s)
            self._plans[want, zone] = plan
        return plan

    def _depth(self, want: Want, zone: str, hours: int) -> int:
        """How many hours to ask for: a history that was read once is only read again lately."""
        plan = self._plans.get((want, zone))
        read_once = isinstance(plan, EveryPlan) and math.isfinite(plan.asked_at)
        return self._times.reread_h if want is Want.HISTORY and read_once else hours

    def _seen(self, zone: str) -> Seen:
        at = []
        for want in (Want.LATEST, Want.FORECAST, Want.HISTORY):
            plan = self._plans.get((want, zone))
            at.append(0.0 if plan is None else max(0.0, plan.asked_at))
        last = self.known.attempts.get((Want.LATEST, zone), Attempt(self.name, True, ""))
        return Seen(at[0], at[1], at[2], last.code, last.why)
