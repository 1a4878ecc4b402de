"""Weather forecasts on their way to the forecaster: which grid zones are due, who asks for them.

Forecasts change every few hours, so a zone is asked for as seldom. Gateways that share a store take
turns by a lease: one asks, the others read what it was answered. Where the store fails each asks
for itself, within its limits.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import numpy as np

from router.carbon.chain.attempt import ROWS_DROPPED, SourceAttempt
from router.carbon.polling.schedule import EveryPlan, Rest, backoff_s
from router.carbon.providers.rows import Dropped, summary
from router.carbon.weather.conditions import QUANTITIES, WeatherForecast
from router.carbon.weather.open_meteo import WeatherPoint
from router.contract import Rng, StateStore
from router.errors import (
    CallBudgetError,
    ProviderBusyError,
    ProviderError,
    ProviderUnavailableError,
    StateStoreError,
)
from router.units import DAY_S

_RETRY_S: Final = (60.0, 3600.0)
# Of one grid zone's calls, and how many zones are asked for at a time.
_ZONE_S: Final = 30.0
_CONCURRENT: Final = 4
_KEEP_S: Final = 2 * DAY_S
# A year of hours, 8 bytes a value in JSON's digits: more is nothing that was stored here.
_MOST_BYTES: Final = 2**20

_log = logging.getLogger(__name__)


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
        store: StateStore | None = None,
        holder: str = "",
        known: Mapping[str, float] | None = None,
    ) -> None:
        """``take``: given every newer forecast of a grid zone. ``known``: when what is known of one
        already was issued, so that it is not asked for again at once. ``store``, ``holder``: what
        gateways share, and a name that is unique to this process; None and "" for one alone.
        """
        self.attempts: dict[str, SourceAttempt] = {}
        self._provider = provider
        self._points = points
        self._take = take
        self._rng = rng
        self._refresh_s = refresh_s
        self._store = store
        self._holder = holder
        self._newest = dict(known or {})
        self._plans = {
            zone: EveryPlan(refresh_s, due_at=issued_at + refresh_s)
            for zone, issued_at in self._newest.items()
        }
        self._rest = Rest(*_RETRY_S)
        self._looked_at = -math.inf
        self._gate = asyncio.Semaphore(_CONCURRENT)

    async def refresh(self, grid_zones: Iterable[str], now: float) -> None:
        """Ask for what is due. Never raises for what a provider or the store does."""
        zones = [zone for zone in dict.fromkeys(grid_zones) if zone in self._points]
        self._look(now)
        due = [zone for zone in zones if self._plan(zone).due_at <= now]
        if not due or self._rest.until > now:
            return
        leads = await self._leads(now)
        async with asyncio.TaskGroup() as tasks:
            for zone in due:
                tasks.create_task(self._update(zone, now, leads), name="weather")

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

    async def _leads(self, now: float) -> bool:
        """Whether this process asks for all; it does where nobody can be asked who does."""
        if self._store is None:
            return True
        try:
            name, lease_s = f"weather/{self._provider.name}", 2.0 * _ZONE_S
            return bool(await self._store.acquire(name, self._holder, lease_s, now))
        except StateStoreError as error:
            _log.warning("weather is asked for without the others: %s", error)
            return True

    async def _update(self, zone: str, now: float, leads: bool) -> None:
        async with self._gate:
            if await self._adopt(zone, now):
                self._plan(zone).heard(now, self._rng.random())
                self.attempts[zone] = SourceAttempt(self._provider.name, True, "")
            elif leads and self._rest.until <= now:
                await self._ask(zone, now)

    async def _adopt(self, zone: str, now: float) -> bool:
        """Take what another gateway was answered since the last time."""
        if self._store is None:
            return False
        try:
            stored = decode(await self._store.get(self._key(zone), now), self._provider.name)
        except StateStoreError:
            return False
        newest = self._newest.get(zone, -math.inf)
        fresh = stored is not None and now - self._refresh_s < stored.issued_at <= now
        if stored is None or not fresh or stored.issued_at <= newest:
            return False
        self._newest[zone] = stored.issued_at
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
        if self._store is not None:
            try:
                await self._store.put(self._key(zone), encode(forecast), _KEEP_S, now)
            except StateStoreError as error:
                _log.warning("weather of %s was not shared: %s", zone, error)

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

    def _key(self, zone: str) -> str:
        return f"weather/{self._provider.name}/{zone}"


def encode(forecast: WeatherForecast) -> bytes:
    """As it is kept for other gateways."""
    rows = [[None if math.isnan(v) else round(v, 3) for v in row] for row in forecast.values]
    kept = {"issued_at": forecast.issued_at, "first_h": forecast.first_h, "values": rows}
    return json.dumps(kept, separators=(",", ":")).encode()


def decode(data: bytes | None, source: str) -> WeatherForecast | None:
    """What `encode` kept; None for anything else."""
    if data is None or len(data) > _MOST_BYTES:
        return None
    try:
        kept = json.loads(data)
        values = np.array(kept["values"], dtype=np.float64)
        issued_at, first_h = float(kept["issued_at"]), int(kept["first_h"])
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    if values.ndim != 2 or values.shape[1] != len(QUANTITIES) or not math.isfinite(issued_at):
        return None
    for place, quantity in enumerate(QUANTITIES):
        column = values[:, place]
        if not (np.isnan(column) | ((column >= quantity.least) & (column <= quantity.most))).all():
            return None
    return WeatherForecast(source, issued_at, first_h, values)
