"""Weather forecasts on their way to the forecaster: which grid zones are due, who asks for them.

Forecasts change every few hours, so a zone is asked for as seldom. Of gateways that share a store
one asks, and the others read what it was answered. Where the store fails each asks for itself,
within its part of the limits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from router.carbon.chain.attempt import ROWS_DROPPED, SourceAttempt
from router.carbon.polling.election import Part
from router.carbon.polling.schedule import EveryPlan, Rest, backoff_s
from router.carbon.polling.shared_weather import SharedWeather
from router.carbon.providers.rows import Dropped, summary
from router.carbon.weather.conditions import WeatherForecast
from router.carbon.weather.open_meteo import WeatherPoint
from router.contract import Rng
from router.errors import (
    CallBudgetError,
    ProviderBusyError,
    ProviderError,
    ProviderUnavailableError,
)
from router.units import DAY_S

_RETRY_S: Final = (60.0, 3600.0)
# Of one grid zone's calls, and how many zones are asked for at a time.
_ZONE_S: Final = 30.0
_CONCURRENT: Final = 4


class WeatherProvider(Protocol):
    """Who is asked; `router.carbon.weather.open_meteo` is one."""

    name: str

    async def fetch(
        self, grid_zone: str, points: Sequence[WeatherPoint], now: float
    ) -> tuple[WeatherForecast, tuple[Dropped, ...]]:
        """The weather of a grid zone, and what could not be used. Raises ProviderError leaves."""
        ...


class WeatherFeed:
    """``attempts``: how the last call for a grid zone went."""

    def __init__(
        self,
        provider: WeatherProvider,
        points: Mapping[str, Sequence[WeatherPoint]],
        take: Callable[[str, WeatherForecast], None],
        rng: Rng,
        refresh_s: float,
        *,
        shared: SharedWeather | None = None,
        known: Mapping[str, float] | None = None,
    ) -> None:
        """``take``: given every newer forecast of a grid zone. ``known``: when what is known of one
        already was issued, so that it is not asked for again at once. ``shared``: None when no
        other gateway shares the calls.
        """
        self.attempts: dict[str, SourceAttempt] = {}
        self._provider = provider
        self._points = points
        self._take = take
        self._rng = rng
        self._refresh_s = refresh_s
        self._shared = shared
        self._mine: frozenset[str] = frozenset()
        # What the others have not been told yet.
        self._unshared: dict[str, WeatherForecast] = {}
        self._newest = dict(known or {})
        self._plans = {
            zone: EveryPlan(refresh_s, due_at=issued_at + refresh_s)
            for zone, issued_at in self._newest.items()
        }
        self._rest = Rest(*_RETRY_S)
        self._looked_at = -math.inf
        self._gate = asyncio.Semaphore(_CONCURRENT)

    @property
    def part(self) -> Part:
        """Whether this gateway asks for all, reads along, or asks for itself."""
        return Part.LEADS if self._shared is None else self._shared.part

    @property
    def name(self) -> str:
        """The provider's."""
        return self._provider.name

    async def refresh(self, grid_zones: Iterable[str], now: float) -> None:
        """Ask for what is due. Never raises for what a provider or the store does."""
        self._mine = frozenset(self._points).intersection(grid_zones)
        self._look(now)
        wanted = set(self._mine)
        if self._shared is not None:
            await self._shared.beat(self._mine)
            if self.part is Part.LEADS:
                wanted |= self._shared.wanted.intersection(self._points)
        async with asyncio.TaskGroup() as tasks:
            for zone in sorted(wanted):
                if self._plan(zone).due_at <= now:
                    tasks.create_task(self._update(zone, now), name="weather")
        await self._share()

    async def beat(self) -> bool:
        """To be called every `election.BEAT_S`: stay or become the one that asks for all; True when
        it has become it, and a refresh is worth the while."""
        return self._shared is not None and await self._shared.beat(self._mine)

    async def close(self) -> None:
        """Let another gateway take over at once."""
        if self._shared is not None:
            await self._shared.leave()

    def _look(self, now: float) -> None:
        """Where the clock stepped back, what was planned by it goes along."""
        step_s = now - self._looked_at
        if step_s < -self._refresh_s:
            for plan in self._plans.values():
                plan.shift(step_s)
            self._rest.shift(step_s)
        self._looked_at = now

    def _plan(self, zone: str) -> EveryPlan:
        return self._plans.setdefault(zone, EveryPlan(self._refresh_s))

    async def _update(self, zone: str, now: float) -> None:
        async with self._gate:
            if await self._adopt(zone, now):
                self._plan(zone).heard(self._newest[zone], self._rng.random())
                self.attempts[zone] = SourceAttempt(self._provider.name, True, "")
            elif self.part is not Part.FOLLOWS and self._rest.until <= now:
                await self._ask(zone, now)

    async def _adopt(self, zone: str, now: float) -> bool:
        """Take what another gateway was answered since the last time."""
        stored = await self._shared.get(zone) if self._shared is not None else None
        newest = self._newest.get(zone, -math.inf)
        fresh = stored is not None and now - self._refresh_s < stored.issued_at <= now
        if stored is None or not fresh or stored.issued_at <= newest:
            return False
        self._newest[zone] = stored.issued_at
        self._unshared.pop(zone, None)
        self._take(zone, stored)
        return True

    async def _ask(self, zone: str, now: float) -> None:
        try:
            async with asyncio.timeout(_ZONE_S):
                forecast, dropped = await self._provider.fetch(zone, self._points[zone], now)
        except TimeoutError:
            text = f"{self._provider.name}: no answer within {_ZONE_S:g} s"
            self._failed(zone, now, ProviderUnavailableError(text))
            return
        except ProviderError as error:
            self._failed(zone, now, error)
            return
        self._rest.succeeded()
        self._plan(zone).heard(now, self._rng.random())
        self._newest[zone] = forecast.issued_at
        code = ROWS_DROPPED if dropped else ""
        self.attempts[zone] = SourceAttempt(self._provider.name, True, summary(dropped), code)
        self._take(zone, forecast)
        self._unshared[zone] = forecast

    async def _share(self) -> None:
        """Tell the others, again where the store failed the last time."""
        if self._shared is None:
            self._unshared.clear()
            return
        for zone, forecast in list(self._unshared.items()):
            stored = await self._shared.get(zone)
            newer = stored is not None and stored.issued_at >= forecast.issued_at
            if newer or await self._shared.put(zone, forecast):
                del self._unshared[zone]

    def _failed(self, zone: str, now: float, error: ProviderError) -> None:
        name, draw = self._provider.name, self._rng.random()
        text = str(error).removeprefix(name).lstrip(":, ")
        self.attempts[zone] = SourceAttempt(name, False, text, error.reason)
        plan = self._plan(zone)
        wait_s = backoff_s(plan.failures + 1, draw, *_RETRY_S)
        if isinstance(error, ProviderBusyError | CallBudgetError):
            after_s = error.retry_after_s
            self._rest.wait(wait_s if after_s is None else min(after_s, DAY_S), now)
        elif isinstance(error, ProviderUnavailableError):
            self._rest.failed(now, draw)
        plan.failed(wait_s, now)
