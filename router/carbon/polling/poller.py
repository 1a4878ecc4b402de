"""The calls of one provider: which grid zones are due, what the answers and failures mean.

Everything that was answered is kept with its true age; ``router.carbon.polling.source`` serves it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from router.carbon.chain.attempt import ROWS_DROPPED, SourceAttempt
from router.carbon.chain.chain import STEP_S
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

_OBSERVED: Final = (Kind.MEASURED, Kind.ESTIMATED)
# In the order of `Seen`.
_SEEN: Final = (Want.LATEST, Want.FORECAST, Want.HISTORY)
# Between two lines of the log on rows that a provider's answers lose; the metric has all of them.
_LINE_S: Final = HOUR_S

_log = logging.getLogger(__name__)

OnFetch: TypeAlias = Callable[[str, Want, str], None]
"""Called after every fetch: source, what for, and the reason of its failure or ""."""
OnDropped: TypeAlias = Callable[[str, Dropped], None]
"""Called for the rows of an answer that could not be used: source, and which."""


class PollTimes(NamedTuple):
    """How often a provider is called; seconds.

    ``retry_s``: shortest and longest wait after failures. ``refused_s``: a grid zone outside the
    plan. ``forecast_s``: between two forecasts; ``history_s``: between two readings of the last
    ``reread_h`` hours, for what was revised. ``concurrent``: calls at a time; ``call_s``: for one
    of them, however many requests it takes, so that whoever comes next is called too.
    """

    retry_s: tuple[float, float] = (60.0, 900.0)
    refused_s: float = 6 * HOUR_S
    forecast_s: float = 3 * HOUR_S
    history_s: float = 6 * HOUR_S
    reread_h: int = 48
    concurrent: int = 4
    call_s: float = 12.0


class ProviderPoller:
    """Calls a provider for what is due.

    ``known``: what it answered, and what went wrong last. ``unshared``: what was learned and not
    yet shared with other gateways.
    """

    def __init__(
        self,
        provider: Provider,
        rng: Rng,
        times: PollTimes,
        wants: Collection[Want],
        on_fetch: OnFetch,
        on_dropped: OnDropped,
        may_call: Callable[[], bool] = lambda: True,
    ) -> None:
        """``may_call``: whether it still does; asked before each call."""
        self.name = provider.name
        self.signal = provider.signal
        self.wants = provider.wants & frozenset(wants)
        self.known = AnswerCache(observes=Want.LATEST in self.wants)
        self.unshared: set[tuple[Want, str]] = set()
        self._provider = provider
        self._rng = rng
        self._times = times
        self._on_fetch = on_fetch
        self._on_dropped = on_dropped
        self._may_call = may_call
        self._line_at = self._looked_at = -math.inf
        self._news: dict[str, NewsPlan] = {}
        self._steady: dict[tuple[Want, str], EveryPlan] = {}
        self._rest = Rest(*times.retry_s)
        self._gate = asyncio.Semaphore(times.concurrent)
        self._under_way: dict[tuple[Want, str], asyncio.Event] = {}

    def look(self, now: float) -> None:
        """To be told of the time before each poll: where the clock has stepped back, what was
        planned by it goes along, else nobody would be called until time has caught up."""
        step_s = now - self._looked_at
        if step_s < -STEP_S:
            plans: list[NewsPlan | EveryPlan] = [*self._news.values(), *self._steady.values()]
            for plan in plans:
                plan.shift(step_s)
            self._rest.shift(step_s)
            self._line_at += step_s
        self._looked_at = now

    def plan(self, want: Want, zone: str) -> NewsPlan | EveryPlan:
        """When the zone is next called for; made when it is first spoken of."""
        return self._news_of(zone) if want is Want.LATEST else self._steady_of(want, zone)

    def _news_of(self, zone: str) -> NewsPlan:
        return self._news.setdefault(zone, NewsPlan(self._provider.publishes_every_s))

    def _steady_of(self, want: Want, zone: str) -> EveryPlan:
        forecast = want is Want.FORECAST
        every_s = self._times.forecast_s if forecast else self._times.history_s
        return self._steady.setdefault((want, zone), EveryPlan(every_s))

    async def poll_due(self, want: Want, zones: Collection[str], now: float, hours: int) -> None:
        """Call for what is due, oldest first; returns when what is under way has ended, too.

        Cut short, what is under way counts as failed and the rest stays due. Once all calls have
        ended, raises what one of them raised that no provider should.
        """
        plans = {zone: self.plan(want, zone) for zone in zones}
        order = sorted((plan.due_at, zone) for zone, plan in plans.items())
        due = sum(at <= now for at, _ in order)
        if not due or self._rest.until > now:
            await self._until_ended(want, zones)
            return
        size = max(1, self._provider.zones_per_call)
        # Whoever is due soon comes along for free.
        soon = now + self._provider.publishes_every_s / 12.0
        queue = [
            zone for at, zone in order if at <= now or (at <= soon and not plans[zone].failures)
        ][: math.ceil(due / size) * size]
        starts = range(0, len(queue), size)
        calls = (self._call(want, queue[first : first + size], now, hours) for first in starts)
        for ended in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        await self._until_ended(want, zones)

    async def _until_ended(self, want: Want, zones: Iterable[str]) -> None:
        """Until the calls that others have under way for these zones have ended."""
        for zone in zones:
            if ended := self._under_way.get((want, zone)):
                await ended.wait()

    async def _call(self, want: Want, batch: Sequence[str], now: float, hours: int) -> None:
        async with self._gate:
            plans = [self.plan(want, zone) for zone in batch]
            # Another call may have told us to wait, or have been for these, in the meantime.
            if self._rest.until > now or min(plan.due_at for plan in plans) > now:
                return
            if not self._may_call():
                return
            for plan in plans:
                # Not twice at a time; what comes of it says when next.
                plan.due_at = now + max(self._times.retry_s[0], self._times.call_s)
            ended = asyncio.Event()
            self._under_way.update(dict.fromkeys(((want, zone) for zone in batch), ended))
            try:
                depth_h = self._depth_h(want, batch, hours)
                async with asyncio.timeout(self._times.call_s):
                    answers = await self._provider.fetch(batch, want, now, depth_h)
            except BaseException as error:
                self._failed(want, batch, now, self._failure(error))
                if not isinstance(error, ProviderError | TimeoutError):
                    raise
            else:
                self._answered(want, batch, answers, now)
            finally:
                for zone in batch:
                    self._under_way.pop((want, zone), None)
                ended.set()

    def _depth_h(self, want: Want, batch: Sequence[str], hours: int) -> int:
        """How many hours to call for: a history that was read once is only read again lately."""
        if want is not Want.HISTORY:
            return hours
        once = (math.isfinite(self._steady_of(want, zone).asked_at) for zone in batch)
        return max(self._times.reread_h if read else hours for read in once)

    def _failure(self, error: BaseException) -> ProviderError:
        """What a call that ended with ``error`` counts as."""
        match error:
            case ProviderError():
                return error
            case TimeoutError():
                text = f"no answer within {self._times.call_s:g} s"
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
        self._on_fetch(self.name, want, "")
        self._rest.succeeded()
        for zone in batch:
            answer = answers.get(zone, NoDataError(f"{self.name}: no answer for {zone}"))
            try:
                if isinstance(answer, ProviderError):
                    raise answer
                self._take(want, zone, answer, now)
                self._count_dropped(want, zone, answer.dropped, now)
            except ProviderError as error:
                self._zone_failed(want, zone, now, error)
            except DataError as error:
                self._zone_failed(want, zone, now, ProviderAnswerError(str(error)))

    def _take(self, want: Want, zone: str, reading: Reading, now: float) -> None:
        """Keep a reading. Raises DataError when it cannot be true; then nothing is kept."""
        observed, forecast = reading.observed, reading.forecast
        if want is Want.FORECAST and forecast is None:
            raise NoDataError(f"{self.name}: no forecast for {zone}")
        if want is not Want.FORECAST and not observed:
            raise NoDataError(f"{self.name}: no value for {zone}")
        for value in observed:
            if value.signal != self.signal:
                raise DataError(f"{self.name}: {zone} answered in {'/'.join(value.signal)}")
            if not self._can_be(value, now):
                raise DataError(f"{self.name}: {zone}: a {value.kind} value for the time to come")
        if forecast is not None:
            if forecast.slots[0].signal != self.signal:
                raise DataError(f"{self.name}: {zone} forecast in another signal")
            if self.known.take_forecast(zone, forecast, now):
                self.unshared.add((Want.FORECAST, zone))
            self._heard(Want.FORECAST, zone, now)
        if observed:
            self._take_observed(want, zone, observed, now)

    def _can_be(self, value: Intensity, now: float) -> bool:
        """Whether it is an observation in the provider's signal, of a time that has begun."""
        latest = now + max(HOUR_S, self._provider.publishes_every_s)
        return (
            value.signal == self.signal and value.kind in _OBSERVED and value.observed_at <= latest
        )

    def _take_observed(
        self, want: Want, zone: str, observed: Sequence[Intensity], now: float
    ) -> None:
        before = self.known.newest(zone)
        if any([self.known.take(zone, value, now) for value in observed]):
            self.unshared.add((Want.LATEST, zone))
        newest, news = self.known.newest(zone) or observed[-1], self._news_of(zone)
        # A history tells nothing of when the newest slot was published, but that it was.
        if want is Want.LATEST or newest.observed_at > news.newest:
            news.heard(newest.observed_at, now, self._rng.random())
            self.known.attempts.pop((Want.LATEST, zone), None)
        if want is Want.HISTORY:
            self._heard(want, zone, now)
        elif before is not None:
            since = before.observed_at
            after = min((v.observed_at for v in observed if v.observed_at > since), default=since)
            if after - since > 1.5 * min(HOUR_S, self._provider.publishes_every_s):
                self._hasten_history(zone, now)

    def _count_dropped(
        self, want: Want, zone: str, dropped: Sequence[Dropped], now: float
    ) -> None:  # fmt: skip
        """Count, and note as the attempt, the rows that a good answer lost."""
        if not dropped:
            return
        for rows in dropped:
            self._on_dropped(self.name, rows)
        text = summary(dropped)
        self.known.attempts[want, zone] = SourceAttempt(self.name, True, text, ROWS_DROPPED)
        if now - self._line_at >= _LINE_S:
            self._line_at = now
            _log.warning("carbon provider %s, %s of %s: %s", self.name, want, zone, text)

    def _hasten_history(self, zone: str, now: float) -> None:
        plan = self._steady_of(Want.HISTORY, zone)
        plan.hasten(max(now, plan.asked_at + self._provider.publishes_every_s))

    def _heard(self, want: Want, zone: str, now: float) -> None:
        self._steady_of(want, zone).heard(now, self._rng.random())
        self.known.attempts.pop((want, zone), None)

    def _failed(self, want: Want, batch: Sequence[str], now: float, error: ProviderError) -> None:
        """A whole call failed."""
        self._on_fetch(self.name, want, error.reason)
        if isinstance(error, ProviderUnavailableError):
            self._rest.failed(now, self._rng.random())
        for zone in batch:
            self._zone_failed(want, zone, now, error)

    def _zone_failed(self, want: Want, zone: str, now: float, error: ProviderError) -> None:
        # Its name stands beside.
        text = str(error).removeprefix(self.name).lstrip(":, ")
        self.known.attempts[want, zone] = SourceAttempt(self.name, False, text, error.reason)
        plan, draw = self.plan(want, zone), self._rng.random()
        wait_s = backoff_s(plan.failures + 1, draw, *self._times.retry_s)
        if isinstance(error, ProviderBusyError | CallBudgetError):
            after_s = error.retry_after_s
            # By too long a wait that somebody states we would be silent for ever.
            self._rest.wait(wait_s if after_s is None else min(after_s, DAY_S), now)
            # Nothing is wrong with the zone: first in line when the source is called again.
            plan.due_at = now
            plan.failures += after_s is None
            return
        if want is Want.LATEST and isinstance(error, NoDataError | ProviderAnswerError):
            # It may know the hours before.
            self._hasten_history(zone, now)
        if isinstance(error, ProviderRefusedError):
            wait_s = self._times.refused_s * (0.9 + 0.2 * draw)
        plan.failed(wait_s, now)

    def seen(self) -> Mapping[str, Seen]:
        """Per grid zone, when it was last called for with success, and how it last failed."""
        well = SourceAttempt(self.name, True, "")
        found = {}
        for zone in {*self._news, *(zone for _, zone in self._steady)}:
            at = [max(0.0, self.plan(want, zone).asked_at) for want in _SEEN]
            last = self.known.attempts.get((Want.LATEST, zone), well)
            found[zone] = Seen(at[0], at[1], at[2], last.code, last.why)
        return found

    def adopt(
        self, zone: str, values: Sequence[Intensity], forecast: Forecast | None, now: float
    ) -> None:
        """Take over what another gateway was answered; what no provider may say is left out."""
        if (
            forecast is not None
            and forecast.slots[0].signal == self.signal
            and forecast.grid_zone == zone
        ):
            self.known.forecasts[zone] = forecast
        for value in values:
            if self._can_be(value, now):
                self.known.take(zone, value, now)

    def adopt_plans(self, zone: str, seen: Seen, now: float) -> None:
        """Count another gateway's calls as own ones, and its failures. Where its clock is ahead,
        they were made now."""
        newest, news = self.known.newest(zone), self._news_of(zone)
        latest_at = min(seen.latest_at, now)
        if newest is not None and latest_at > news.asked_at:
            news.heard(newest.observed_at, latest_at, self._rng.random())
        for want, at in ((Want.FORECAST, seen.forecast_at), (Want.HISTORY, seen.history_at)):
            plan = self._steady_of(want, zone)
            if min(at, now) > max(0.0, plan.asked_at):
                plan.heard(min(at, now), self._rng.random())
        self.known.attempts.pop((Want.LATEST, zone), None)
        if seen.code:
            last = SourceAttempt(self.name, seen.code == ROWS_DROPPED, seen.text, seen.code)
            self.known.attempts[Want.LATEST, zone] = last
