"""The ordered chain of carbon sources: who answers for which grid zone, and what if nobody does.

``refresh`` asks the sources, ``view`` says what is known; ``router.carbon.chain.outlook`` has the
rule.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from router.carbon.chain.attempt import SourceAttempt
from router.carbon.chain.combine import Combiner, MetHour, restorable_skills
from router.carbon.chain.outlook import Outlook
from router.carbon.chain.provenance import Served, ZoneProvenance, served
from router.carbon.chain.refresh import Refresh, judged, last_attempt, refused, silent_of
from router.carbon.chain.revisions import Revisions, Settled
from router.carbon.chain.sources import AnnualMeans, HistorySource, SlotSource
from router.carbon.providers.holes import is_stated
from router.carbon.providers.provider import Want
from router.contract import CarbonSource, Forecaster, ForecastSource
from router.core.learned import SkillLearned
from router.errors import DataError, MixedBasisError
from router.model import Factors, Forecast, Intensity, Kind, Signal
from router.units import HOUR_S

__all__ = ["CarbonChain", "Served", "SourceAttempt", "SourceOrder", "ZoneProvenance"]

_OBSERVED: Final = frozenset({Kind.MEASURED, Kind.ESTIMATED})
HISTORY_H: Final = 216
HORIZON_H: Final = 96
# As far as the forecaster learns its errors. Over a year of 11 grids that have a climatology, its
# mean absolute percentage error was below climatology's at every age up to this (DE: level with it
# at the end), by half at 24 h; so was the regret of picking the greenest of any three.
NOWCAST_MAX_AGE_S: Final = 96 * HOUR_S
# For all calls of one refresh. Longer than a single one may take by the file (a minute), so that
# whoever comes after a provider that does not answer is called, too.
REFRESH_TIMEOUT_S: Final = 90.0
# Estimates settle within two days; how often they are looked at again.
_REREAD_H: Final = 48
_REREAD_S: Final = 3 * HOUR_S
# A refresh may come late, or two may overtake each other: only beyond that a clock stepped back.
STEP_S: Final = 600.0
# Values that a forecaster learns from in a row: a few milliseconds, in which no request is served.
_AT_ONCE: Final = 12


class SourceOrder(NamedTuple):
    """Names of the sources to ask for one grid zone, in order, for each role."""

    measured: tuple[str, ...]
    forecast: tuple[str, ...]


class _Lane(NamedTuple):
    """The sources of a ``SourceOrder``; grid zones of the same ones are read together."""

    measured: tuple[CarbonSource, ...]
    forecast: tuple[ForecastSource, ...]


class CarbonChain:
    """Asks sources in order and remembers the last good answer of each grid zone.

    A source is asked only for the zones that no source before it answered freshly. ``observed_at``
    of a measured or estimated value must be the end of its slot; past ``now``, the slot contains
    ``now``. ``attempts`` tells, per grid zone, who was asked last time and how it went.
    ``revisions``: what is best known of each past slot.
    """

    def __init__(
        self,
        sources: Sequence[CarbonSource],
        forecaster: Forecaster,
        annual: AnnualMeans | None = None,
        *,
        orders: Mapping[str, SourceOrder] | None = None,
        combiner: Combiner | None = None,
        timeout_s: float = REFRESH_TIMEOUT_S,
        nowcast_max_age_s: float = NOWCAST_MAX_AGE_S,
    ) -> None:
        """``orders``: for grid zones that do not take all ``sources`` in their order.
        ``combiner``: None to take a published forecast as it is. ``timeout_s``: for one refresh.
        ``nowcast_max_age_s``: an older observation is no longer carried forward. Raises
        MixedBasisError unless all share one signal, DataError without a source or for an order that
        names none.
        """
        members: list[tuple[str, Signal]] = [(source.name, source.signal) for source in sources]
        if annual is not None:
            members.append(("annual means", annual.signal))
        if not members:
            raise DataError("a carbon chain needs at least one source")
        self.signal = members[0][1]
        if any(signal != self.signal for _, signal in members):
            listed = ", ".join(f"{name} is {'/'.join(signal)}" for name, signal in members)
            raise MixedBasisError(
                f"the sources of one chain must share basis and emission factors: {listed}"
            )
        self.attempts: Mapping[str, tuple[SourceAttempt, ...]] = {}
        self.revisions = Revisions()
        self._every = _Lane(tuple(sources), _publishers(sources))
        named = {source.name: source for source in sources}
        self._lanes = {zone: _lane(zone, order, named) for zone, order in (orders or {}).items()}
        self._outlook = Outlook(forecaster, combiner, annual, self.revisions, nowcast_max_age_s)
        self._forecaster = forecaster
        self._combiner = combiner
        self._annual = annual
        self._timeout_s = timeout_s
        # End of the newest slot that the forecaster was told of.
        self._fed: dict[str, float] = {}
        self._reread_at: dict[str, float] = {}
        self._refreshed_at = -math.inf

    def learned(self) -> tuple[SkillLearned, ...]:
        """How far forecasts were off, to be kept."""
        return () if self._combiner is None else self._combiner.learned("/".join(self.signal))

    def met(self, grid_zone: str) -> Mapping[int, Sequence[MetHour]]:
        """By lead, h: hours that were forecast and then observed, oldest first."""
        return {} if self._combiner is None else self._combiner.met(grid_zone)

    def restorable(
        self, learned: Iterable[SkillLearned], grid_zones: Iterable[str]
    ) -> tuple[SkillLearned, ...]:
        """Of what was learned before or elsewhere, what can be of this chain."""
        return restorable_skills(learned, "/".join(self.signal), grid_zones)

    def restore(self, learned: Iterable[SkillLearned]) -> None:
        """Go on from what `restorable` gave."""
        if self._combiner is not None:
            self._combiner.restore(learned)

    async def refresh(self, grid_zones: Sequence[str], now: float) -> None:
        """Ask the sources about ``grid_zones``; a failing or hanging one is noted and passed over.

        Values and forecasts, and grid zones of different orders, do not wait for one another. Who
        comes after a source that hangs to the end of the refresh still tells what it knows without
        a call. Never raises for what a source does.
        """
        if now < self._refreshed_at - STEP_S:
            self._step_back(now)
        self._refreshed_at = now
        refresh = Refresh(dict.fromkeys(grid_zones), now, self._timeout_s)
        lanes: dict[_Lane, list[str]] = {}
        for zone in dict.fromkeys(grid_zones):
            lanes.setdefault(self._lanes.get(zone, self._every), []).append(zone)
        async with asyncio.TaskGroup() as tasks:
            for lane, zones in lanes.items():
                tasks.create_task(self._read_values(lane, zones, refresh), name="carbon values")
                tasks.create_task(self._read_ahead(lane, zones, refresh), name="carbon forecasts")
        self._outlook.published.update(refresh.ahead)
        if self._combiner is not None:
            scored = self._keep_score(self._combiner, dict.fromkeys(grid_zones), refresh)
            await refresh.turn("forecast scores", Want.FORECAST, (), scored)
        self.attempts = {**self.attempts, **refresh.attempts()}

    def _step_back(self, now: float) -> None:
        """The clock was ahead: what was taken in of a time that has not come counts no more, so
        that it does not stand before what comes."""
        latest, outlook = now + HOUR_S, self._outlook
        for zone in {*self._fed, *outlook.observed}:
            observed = outlook.observed.get(zone)
            ends = (self._fed.get(zone, -math.inf), observed.observed_at if observed else -math.inf)
            if max(ends) <= latest:
                continue
            self.revisions.forget_after(zone, latest)
            self._forecaster.forget(zone)
            self._fed.pop(zone, None)
            outlook.observed.pop(zone, None)
            known = self.revisions.since(zone, -math.inf)
            if known:
                self._forecaster.learn(zone, known)
                self._fed[zone], outlook.observed[zone] = known[-1].observed_at, known[-1]
        self._reread_at = {zone: at for zone, at in self._reread_at.items() if at <= now}
        if self._combiner is not None:
            self._combiner.forget_after(now)

    def view(self, grid_zones: Sequence[str], now: float, hours: int) -> Mapping[str, Forecast]:
        """What is known now: ``hours`` hourly slots from the hour containing ``now``; pure.

        A zone that nobody knows is left out; one known for fewer hours has fewer slots.
        """
        start = math.floor(now / HOUR_S) * HOUR_S
        views = {}
        for zone in grid_zones if hours > 0 else ():
            slots = self._outlook.slots(zone, self._usual(zone), start, now, hours)
            if slots:
                views[zone] = Forecast(zone, start, HOUR_S, slots)
        return views

    def provenance(self, grid_zone: str, now: float, hours: int = 24) -> ZoneProvenance:
        """Who serves each of the coming ``hours`` and what the last refresh met on the way."""
        view = self.view([grid_zone], now, hours).get(grid_zone)
        return ZoneProvenance(grid_zone, served(view, now), self.attempts.get(grid_zone, ()))

    def settled(self, grid_zone: str, start: float, end: float) -> Settled | None:
        """The mean of what is best known from ``start`` to ``end``; None when any is missing."""
        return self.revisions.settled(grid_zone, start, end)

    def annual_mean(self, grid_zone: str) -> Intensity | None:
        """The annual mean of a grid zone, None when nobody states one."""
        return self._annual.mean(grid_zone) if self._annual else None

    def _usual(self, zone: str) -> list[SlotSource]:
        lane = self._lanes.get(zone, self._every)
        return [source for source in lane.measured if isinstance(source, SlotSource)]

    async def _read_values(self, lane: _Lane, zones: Sequence[str], refresh: Refresh) -> None:
        for rank, source in enumerate(lane.measured):
            unanswered = [zone for zone in zones if zone not in refresh.answered]
            taken = self._read(source, unanswered, refresh, rank)
            await refresh.turn(source.name, Want.LATEST, unanswered, taken)

    async def _read_ahead(self, lane: _Lane, zones: Sequence[str], refresh: Refresh) -> None:
        for source in lane.forecast:
            unforecast = [zone for zone in zones if zone not in refresh.forecast]
            taken = self._read_forecast(source, unforecast, refresh)
            await refresh.turn(source.name, Want.FORECAST, unforecast, taken)

    async def _read(
        self, source: CarbonSource, zones: Sequence[str], refresh: Refresh, rank: int
    ) -> None:
        now = refresh.now
        answer = await refresh.call(
            source, Want.LATEST, zones, 1, lambda known: known.read(zones, now)
        )
        good: dict[str, Intensity] = {}
        for zone, value in answer.items():
            last = last_attempt(source, zone, Want.LATEST)
            if why := self._defect(value):
                refresh.note(zone, Want.LATEST, refused(last, why, value, now))
                continue
            good[zone] = value
            attempt = judged(last, value, now)
            refresh.note(zone, Want.LATEST, attempt)
            if attempt.ok and value.kind in _OBSERVED:
                refresh.answered.add(zone)
        await self._catch_up(source, good, zones, refresh, rank)
        for zone, value in good.items():
            await self._take(zone, value, refresh, rank)

    async def _read_forecast(
        self, source: ForecastSource, zones: Sequence[str], refresh: Refresh
    ) -> None:  # fmt: skip
        now = refresh.now
        answer = await refresh.call(
            source, Want.FORECAST, zones, HORIZON_H,
            lambda known: known.forecast(zones, now, HORIZON_H),
        )  # fmt: skip
        for zone, forecast in answer.items():
            last = last_attempt(source, zone, Want.FORECAST)
            stated = filter(is_stated, forecast.slots)
            if why := next(filter(None, map(self._defect, stated)), ""):
                refresh.note(zone, Want.FORECAST, refused(last, why, forecast.slots[0], now))
            else:
                refresh.offer(zone, forecast, last)

    async def _catch_up(
        self,
        source: CarbonSource,
        values: Mapping[str, Intensity],
        zones: Sequence[str],
        refresh: Refresh,
        rank: int,
    ) -> None:
        """Feed what was published since the last observation, and at times what was revised.

        ``values``: what the source said of now; where it answered and said nothing, the newest
        that it published before is the observation to go by.
        """
        if not isinstance(source, HistorySource):
            return
        now = refresh.now
        silent = silent_of(source, zones)
        ends = {z: value.observed_at for z, value in values.items() if value.kind in _OBSERVED}
        ends.update(dict.fromkeys(silent, now))
        past: list[str] = []
        since = now - _REREAD_H * HOUR_S
        for zone, end in ends.items():
            known = self._outlook.observed.get(zone)
            last = -math.inf if known is None else known.observed_at
            if gap := end - last > HOUR_S:
                since = min(since, last)
            if gap or now - self._reread_at.get(zone, -math.inf) >= _REREAD_S:
                past.append(zone)
        hours = math.ceil(min(HISTORY_H, (now - since) / HOUR_S + 1))
        answer = await refresh.call(
            source, Want.HISTORY, past, hours, lambda known: known.history(past, now, hours)
        )
        for zone, observations in answer.items():
            usable = [value for value in observations if not self._defect(value)]
            await self._learn(zone, usable, refresh, rank)
            if zone in silent and usable:
                newest_known = max(usable, key=lambda value: value.observed_at)
                await self._take(zone, newest_known, refresh, rank)
            self._reread_at[zone] = now

    async def _learn(
        self, zone: str, values: Sequence[Intensity], refresh: Refresh, rank: int
    ) -> None:
        """Keep what is said of past slots; the forecaster learns of the new and of the revised."""
        revised: set[int] = set()
        for first in range(0, len(values), _AT_ONCE):
            if first:
                # Nine days of many zones take seconds: let requests through in between. If this is
                # cut short, what was taken has been learned, and the rest is still news.
                await asyncio.sleep(0)
            new = []
            for value in values[first : first + _AT_ONCE]:
                if not self.revisions.take(zone, value, refresh.now, rank):
                    continue
                refresh.news.add(zone)
                if value.observed_at > self._fed.get(zone, -math.inf):
                    self._fed[zone] = value.observed_at
                    new.append(value)
                else:
                    revised.add(math.ceil(value.observed_at / HOUR_S) - 1)
            if len(values) > 1:
                self._forecaster.learn(zone, new)
            elif new:
                self._forecaster.observe(zone, new[0])
        for hour in sorted(revised):
            # Whole hours only: a part of one does not stand for it.
            mean = self.revisions.mean(zone, hour * HOUR_S)
            if mean is not None:
                self._forecaster.observe(zone, mean)

    def _defect(self, value: Intensity) -> str:
        """Why a source's value cannot be used, or ""."""
        if value.signal != self.signal:
            return f"answered in {'/'.join(value.signal)}, not {'/'.join(self.signal)}"
        if value.g_per_kwh == 0.0 and value.signal.factors is Factors.LIFECYCLE:
            return "0 g/kWh with life-cycle factors: taken for a missing value"
        return ""

    async def _take(self, zone: str, value: Intensity, refresh: Refresh, rank: int) -> None:
        if value.kind not in _OBSERVED:
            self._outlook.take(zone, value, refresh.now)
            return
        await self._learn(zone, [value], refresh, rank)
        known = self._outlook.observed.get(zone)
        if known is None or value.observed_at >= known.observed_at:
            slot = self.revisions.slot(zone, value.observed_at)
            self._outlook.observed[zone] = value if slot is None else slot.best

    async def _keep_score(
        self, combiner: Combiner, zones: Iterable[str], refresh: Refresh
    ) -> None:  # fmt: skip
        """Score what was forecast by what was observed since, and note what is forecast now."""
        now = refresh.now
        start = math.floor(now / HOUR_S) * HOUR_S
        for zone in zones:
            for hour in combiner.awaiting(zone, now) if zone in refresh.news else ():
                observed = self.revisions.mean(zone, hour)
                if observed is not None:
                    combiner.score(zone, hour, observed.g_per_kwh)
            if zone in self._outlook.published and combiner.due(zone, start):
                published = self._outlook.issued(zone, start, now, HORIZON_H)
                own = self._outlook.nowcast(zone, start, now, HORIZON_H)
                combiner.issue(zone, published, own, start, now)
                await asyncio.sleep(0)


def _lane(zone: str, order: SourceOrder, named: Mapping[str, CarbonSource]) -> _Lane:
    for name in (*order.measured, *order.forecast):
        if name not in named:
            known = ", ".join(named)
            raise DataError(f"grid zone {zone} asks for {name!r}; its chain has {known}")
    measured, ahead = ([named[name] for name in dict.fromkeys(role)] for role in order)
    return _Lane(tuple(measured), _publishers(ahead))


def _publishers(sources: Iterable[CarbonSource]) -> tuple[ForecastSource, ...]:
    return tuple(source for source in sources if isinstance(source, ForecastSource))
