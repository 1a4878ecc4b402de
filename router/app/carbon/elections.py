"""The rhythm in which gateways that share a store say who calls which carbon provider."""

from __future__ import annotations

import asyncio

from router.app.runtime import Runtime
from router.carbon.polling.election import BEAT_S
from router.carbon.polling.source import PolledSource
from router.contract import Rng
from router.telemetry.carbon import CarbonMetrics


class ElectionRounds:
    """One beat of every live provider of the configuration in force; `supervise` repeats it."""

    def __init__(self, runtime: Runtime, metrics: CarbonMetrics, rng: Rng) -> None:
        self._runtime = runtime
        self._metrics = metrics
        self._rng = rng

    async def run(self) -> None:
        """Wait, then renew or seek each lease; who has come to lead refreshes at once."""
        await asyncio.sleep(BEAT_S * (0.9 + 0.2 * self._rng.random()))
        members = [member.source for member in self._runtime.carbon.all_members]
        sources = [source for source in members if isinstance(source, PolledSource)]
        beating = [source.beat() for source in sources]
        weather = self._runtime.carbon.weather
        if weather is not None:
            beating.append(weather.beat())
        if any(await asyncio.gather(*beating)):
            self._runtime.carbon_due.set()
        parts = {source.name: source.part for source in sources}
        self._metrics.divided(parts if weather is None else {**parts, **weather.parts})
