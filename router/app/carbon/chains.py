"""The carbon chains in force and the sources behind them, as built by `router.app.carbon.build`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from router.app.carbon.live import wants
from router.app.carbon.weather import WeatherSources
from router.carbon.chain.attempt import SourceAttempt
from router.carbon.chain.chain import CarbonChain, SourceOrder
from router.carbon.forecast import Nowcast
from router.carbon.polling.source import PolledSource
from router.carbon.providers.provider import Provider, Want
from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import StaticSource
from router.carbon.tables.trace import TraceForecastSource, TraceSource
from router.config.settings import HistorySpec, LiveSpec, SourceSpec
from router.model import Intensity

Source: TypeAlias = TraceSource | TraceForecastSource | Climatology | StaticSource | PolledSource


class ConfiguredSource(NamedTuple):
    """A source with the name that the operator's file knows it by.

    ``provider``, ``keys``: a live one's, and a fingerprint of its keys.
    """

    name: str
    source: Source
    spec: SourceSpec
    keys: bytes = b""
    provider: Provider | None = None

    @property
    def publishes(self) -> bool:
        """Whether it may have a forecast for the coming hours."""
        if isinstance(self.spec, LiveSpec):
            offered = self.provider.wants if self.provider else frozenset()
            return Want.FORECAST in wants(self.spec) & offered
        return isinstance(self.source, TraceForecastSource)


class CarbonChains(NamedTuple):
    """The carbon chains of one configuration and the sources behind them, in order.

    ``orders``, ``marginal_orders``: of the sources, for each grid zone in use. ``marginal`` never
    decides; None when the operator wants none.
    """

    chain: CarbonChain
    members: tuple[ConfiguredSource, ...]
    orders: Mapping[str, SourceOrder]
    marginal: CarbonChain | None = None
    marginal_members: tuple[ConfiguredSource, ...] = ()
    marginal_orders: Mapping[str, SourceOrder] = MappingProxyType({})
    forecaster: Nowcast | None = None
    history: HistorySpec | None = None
    weather: WeatherSources | None = None

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources of the chain that decides."""
        return tuple(member.source for member in self.members)

    @property
    def all_members(self) -> tuple[ConfiguredSource, ...]:
        """Those of both chains."""
        return (*self.members, *self.marginal_members)

    @property
    def live(self) -> tuple[LiveSpec, ...]:
        """The live providers of both chains."""
        return tuple(m.spec for m in self.all_members if isinstance(m.spec, LiveSpec))

    async def refresh(self, zones: Sequence[str], now: float) -> None:
        """Refresh both chains and the weather, at the same time."""
        async with asyncio.TaskGroup() as tasks:
            if self.weather is not None:
                tasks.create_task(self.weather.refresh(zones, now), name="weather")
            tasks.create_task(self.chain.refresh(zones, now), name="carbon")
            if self.marginal is not None:
                tasks.create_task(self.marginal.refresh(zones, now), name="marginal carbon")

    def attempts(self) -> Mapping[str, tuple[SourceAttempt, ...]]:
        """Per grid zone who was asked in the last refresh, by both chains and for weather, and how
        it went."""
        beside = self.marginal.attempts if self.marginal is not None else {}
        weather = self.weather.attempts if self.weather is not None else {}
        return {
            zone: (*attempts, *beside.get(zone, ()), *weather.get(zone, ()))
            for zone, attempts in self.chain.attempts.items()
        }

    def marginals(self, zones: Sequence[str], now: float) -> dict[str, Intensity]:
        """The marginal intensity now of each grid zone where it is known."""
        if self.marginal is None:
            return {}
        views = self.marginal.view(zones, now, 1)
        return {zone: view.at(now) for zone, view in views.items()}

    async def close(self, stays: CarbonChains | None = None) -> None:
        """Let other gateways take over what this one asked for them, but for what ``stays``."""
        kept = {id(member.source) for member in stays.all_members} if stays else ()
        for member in self.all_members:
            if isinstance(member.source, PolledSource) and id(member.source) not in kept:
                await member.source.close()
        if self.weather is not None and (stays is None or stays.weather is not self.weather):
            await self.weather.close()
