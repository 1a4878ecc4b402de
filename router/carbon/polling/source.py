"""From a provider that answers one call to a source that a chain can ask at any time.

``PolledSource`` calls its provider only when there may be news, keeps what was answered with its
true age, backs off when it is refused, and lets one gateway call for all that share a state store.

Calls of a provider with hourly values, 50 grid zones, one a call: 50 an hour for the values (one
in twenty hours a second try), 17 for forecasts, 9 to re-read the last two days: 80 an hour at any
refresh interval, 150 at the first refresh.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from router.carbon.chain.attempt import SourceAttempt
from router.carbon.chain.chain import HISTORY_H, HORIZON_H
from router.carbon.polling.cache import AnswerCache
from router.carbon.polling.codec import Index, Seen
from router.carbon.polling.election import Part
from router.carbon.polling.poller import OnDropped, OnFetch, PollTimes, ProviderPoller
from router.carbon.polling.shared import SharedReadings
from router.carbon.providers.provider import Provider, Want
from router.contract import Rng
from router.model import Forecast, Intensity

_TIMES: Final = PollTimes()
# What gateways want of a zone that only they have: hours by want.
_DEPTHS_H: Final = {Want.LATEST: 1, Want.FORECAST: HORIZON_H, Want.HISTORY: HISTORY_H}
# How often a leader stores all that it knows, whether or not it is new: whatever a former one may
# have left there lately is replaced.
_ALL_ANEW_S: Final = 900.0


class PolledSource:
    """A provider as CarbonSource, HistorySource and ForecastSource."""

    def __init__(
        self,
        provider: Provider,
        rng: Rng,
        times: PollTimes = _TIMES,
        *,
        wants: Collection[Want] = tuple(Want),
        shared: SharedReadings | None = None,
        on_fetch: OnFetch = lambda source, want, reason: None,
        on_dropped: OnDropped = lambda source, rows: None,
    ) -> None:
        """``wants``: what the operator lets it be called for, among what it offers. ``shared``:
        None when no other gateway shares the calls.
        """
        self.name = provider.name
        self.signal = provider.signal
        self.grid_zones = provider.grid_zones
        self._poller = ProviderPoller(
            provider, rng, times, wants, on_fetch, on_dropped, lambda: self.part is not Part.FOLLOWS
        )
        self._shared = shared
        self._sharing = asyncio.Lock()
        self._parted_at = math.nan
        self._published_at = math.nan
        self._foreign_at = math.nan
        # When all was stored last, and under which token; NaN for anew.
        self._all_at = math.nan
        self._token = 0
        self._mine: frozenset[str] = frozenset()
        self._foreign: frozenset[str] = frozenset()
        self._adopted: dict[str, Seen] = {}

    @property
    def part(self) -> Part:
        """Whether this gateway calls the provider for all, reads along, or calls for itself."""
        return Part.LEADS if self._shared is None else self._shared.part

    @property
    def patience_s(self) -> float:
        """How long it bears with a leader that says nothing; 0 when none shares the calls."""
        return self._shared.patience_s if self._shared else 0.0

    @property
    def sharing_trouble(self) -> str:
        """Why this gateway calls for itself although a store is shared, or ""."""
        return self._shared.trouble if self._shared else ""

    @property
    def known(self) -> AnswerCache:
        """What the provider has answered so far, read without a call."""
        return self._poller.known

    async def read(self, grid_zones: Sequence[str], now: float) -> Mapping[str, Intensity]:
        """The newest value per zone, however old, once what is due was called for."""
        await self.poll(Want.LATEST, grid_zones, now, 1)
        return await self.known.read(grid_zones, now)

    async def history(
        self, grid_zones: Sequence[str], now: float, hours: int
    ) -> Mapping[str, Sequence[Intensity]]:
        """The latest word on each slot of the last ``hours``, likewise."""
        await self.poll(Want.HISTORY, grid_zones, now, hours)
        return await self.known.history(grid_zones, now, hours)

    async def forecast(
        self, grid_zones: Sequence[str], now: float, horizon_h: int
    ) -> Mapping[str, Forecast]:
        """The newest issue from the hour containing ``now`` on, likewise."""
        await self.poll(Want.FORECAST, grid_zones, now, horizon_h)
        return await self.known.forecast(grid_zones, now, horizon_h)

    async def poll(self, want: Want, grid_zones: Sequence[str], now: float, hours: int) -> None:
        """Call for ``want`` of the zones that are due, ``hours`` of it; a call for these that is
        under way already is waited for, none else.

        Cut short, it has lost no answer and no count of its calls. What went wrong is told by
        ``last_attempt``; raises only what no provider should.
        """
        wants = self._poller.wants
        if want is Want.LATEST and want not in wants:
            # What it forecasts for now stands in; the next call for more is hours away.
            want, hours = Want.FORECAST, HORIZON_H
        if want not in wants:
            return
        self._poller.look(now)
        await self._divide(grid_zones, now)
        if self.part is not Part.FOLLOWS:
            zones = self.grid_zones.intersection(grid_zones)
            await self._poller.poll_due(want, zones, now, hours)
            await self._poll_foreign(now)
            await self._publish(now)

    async def beat(self) -> bool:
        """To be called every `election.BEAT_S`: stay or become the one that calls for all; True
        when it has become it, and a refresh is worth the while."""
        return self._shared is not None and await self._shared.beat(self._mine)

    def last_attempt(self, grid_zone: str, want: Want) -> SourceAttempt | None:
        """What went wrong when the zone was last asked for; None since it went well.

        Of code ``rows_dropped`` when it went well but for some rows.
        """
        return self.known.attempts.get((want, grid_zone))

    def due_at(self, grid_zone: str, want: Want) -> float:
        """When the zone is next worth a call; -inf when it never was asked for."""
        return self._poller.plan(want, grid_zone).due_at

    async def close(self) -> None:
        """Let another gateway take over at once."""
        if self._shared is not None:
            await self._shared.leave()

    async def _poll_foreign(self, now: float) -> None:
        """Once a refresh: call for all that is due of the zones that only others want."""
        if now != self._foreign_at and self.part is Part.LEADS:
            self._foreign_at = now
            for want in self._poller.wants:
                zones = self._foreign - self._mine
                await self._poller.poll_due(want, zones, now, _DEPTHS_H[want])

    async def _divide(self, zones: Iterable[str], now: float) -> None:
        """Once a refresh: who calls the provider, and what the others have learned."""
        shared = self._shared
        if shared is None:
            return
        async with self._sharing:
            if now == self._parted_at and self._mine.issuperset(zones):
                return
            self._parted_at = now
            self._mine |= self.grid_zones.intersection(zones)
            await shared.beat(self._mine)
            self._foreign = frozenset()
            if shared.part is Part.LEADS:
                self._foreign = self.grid_zones.intersection(shared.wanted)
                await self._succeed(shared, now)
            elif not shared.store_fails:
                await self._adopt(await shared.follow(), now)

    async def _succeed(self, shared: SharedReadings, now: float) -> None:
        """Lead on from what is stored: what the last leader learned need not be asked for again,
        and what lacks of what this one knows is stored anew."""
        index = await shared.index()
        if shared.token != self._token:
            await self._adopt(index, now)
            self._token = shared.token
        if index is None or index.token != shared.token or abs(now - self._all_at) > _ALL_ANEW_S:
            self._all_at = math.nan

    async def _adopt(self, index: Index | None, now: float) -> None:
        """Take over what another gateway was answered, as if this one had called."""
        if index is None or self._shared is None:
            return
        for zone in (self._mine | self._foreign).intersection(index.zones):
            seen, before = index.zones[zone], self._adopted.get(zone, Seen())
            if seen == before:
                continue
            if seen[:3] != before[:3]:
                values = await self._shared.observed(zone, index.token)
                forecast = await self._shared.forecast(zone, index.token)
                if not values and forecast is None:
                    continue
                self._poller.adopt(zone, values, forecast, now)
            self._poller.adopt_plans(zone, seen, now)
            self._adopted[zone] = seen

    async def _publish(self, now: float) -> None:
        """Store what is new for the gateways that follow, and that this one is alive."""
        unshared = self._poller.unshared
        if self._shared is None:
            unshared.clear()
            return
        anew = math.isnan(self._all_at)
        if self.part is not Part.LEADS or not (anew or unshared or self._published_at != now):
            return
        news, seen, issues = frozenset(unshared), self._poller.seen(), self.known.forecasts
        zones = seen.keys() if anew else {zone for _, zone in news}
        ahead = issues.keys() if anew else {zone for want, zone in news if want is Want.FORECAST}
        values = {zone: known for zone in zones if (known := self.known.since(zone, -math.inf))}
        forecasts = {zone: issues[zone] for zone in ahead}
        # Another call of the same refresh need not store the same again.
        self._published_at, self._all_at = now, now if anew else self._all_at
        if await self._shared.publish(values, forecasts, seen):
            unshared -= news
        else:
            self._all_at = math.nan
