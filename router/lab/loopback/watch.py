"""What is watched during a run: the gateway's view of the grid, and the fleet's meters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import aiohttp
import grpc.aio

from router._pb import router_pb2 as pb
from router.core.columns import mean_over
from router.lab.emulator.metrics import LAG
from router.lab.loopback.children import ChildError
from router.lab.replay.records import FleetEnergy
from router.lab.replay.timed import Period
from router.model import Fleet, Forecast
from router.units import grams

_WATCH = "/carbonrouter.v1.CarbonRouter/WatchRegions"
_TOTAL = "emulated:energy_joules_total{"
_IDLE = "emulated:idle_joules_total{"
_LAG = f"{LAG}_bucket{{"


class GridReading(NamedTuple):
    """One look at the grid through the gateway. ``g_per_kwh`` by region, where it is known."""

    at: float
    carbon_time: float
    g_per_kwh: Mapping[str, float]
    kinds: Mapping[str, str]


class GridWatch:
    """Follows WatchRegions. ``readings``: everything seen, oldest first."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.readings: list[GridReading] = []
        self.first = asyncio.Event()
        self._watch: Any = channel.unary_stream(
            _WATCH,
            request_serializer=lambda message: bytes(message.SerializeToString()),
            response_deserializer=pb.WatchRegionsResponse.FromString,
        )

    async def run(self) -> None:
        """Follow until cancelled. Raises ChildError when the gateway ends the stream."""
        try:
            await self._follow()
        except grpc.aio.AioRpcError as error:
            raise ChildError(f"WatchRegions ended: {error.code().name} {error.details()}") from None

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        async for answer in self._watch(pb.WatchRegionsRequest()):
            regions = [region for region in answer.regions if region.HasField("intensity")]
            kinds = {
                region.name: pb.IntensityKind.Name(region.intensity.kind)
                .removeprefix("INTENSITY_KIND_")
                .lower()
                for region in regions
            }
            known = {region.name: region.intensity.g_per_kwh for region in regions}
            self.readings.append(GridReading(loop.time(), answer.at_unix_s, known, kinds))
            self.first.set()


@asynccontextmanager
async def watched_grid(target: str) -> AsyncIterator[GridWatch]:
    """What the gateway at ``target`` (``host:port``) knows of the grid, followed in the block."""
    async with grpc.aio.insecure_channel(target) as channel, asyncio.TaskGroup() as tasks:
        watch = GridWatch(channel)
        following = tasks.create_task(watch.run())
        yield watch
        following.cancel()


class Meter:
    """Reads what the emulated fleet drew, hour by hour of the carbon clock."""

    def __init__(self, fleet: Fleet, actual: Mapping[str, Forecast], period: Period) -> None:
        self._fleet = fleet
        self._actual = actual
        self._period = period
        self._seen: dict[str, tuple[float, float]] = {}
        self._read_at_s = 0.0
        self._sums = [0.0, 0.0, 0.0, 0.0]
        self._lags: list[list[int]] = []

    async def run(self, session: aiohttp.ClientSession, start: float) -> None:
        """Read at the end of every carbon hour of the period, from loop second ``start`` on."""
        loop = asyncio.get_running_loop()
        await self.read(session, 0.0)
        for at_s in self._period.boundaries():
            await asyncio.sleep(max(0.0, start + at_s - loop.time()))
            await self.read(session, at_s)

    async def read(self, session: aiohttp.ClientSession, at_s: float) -> None:
        """Book what was drawn since the last reading; after the period without idle draw."""
        count_idle = at_s <= self._period.seconds
        text = ""
        for endpoint in self._fleet.endpoints:
            async with session.get(endpoint.metrics_url) as answer:
                text = await answer.text()
            total_j, idle_j = joules(text)
            before = self._seen.get(endpoint.name)
            self._seen[endpoint.name] = (total_j, idle_j)
            if before is None or at_s <= self._read_at_s:
                continue
            region = self._fleet.regions[endpoint.region]
            g_per_kwh = mean_over(
                self._actual[region.grid_zone],
                self._period.carbon_time(self._read_at_s),
                (at_s - self._read_at_s) * self._period.speed,
            )
            new_idle_j = (idle_j - before[1]) * region.pue
            new_busy_j = (total_j - before[0]) * region.pue - new_idle_j
            amounts = (new_busy_j, new_idle_j if count_idle else 0.0)
            for place, amount_j in enumerate(amounts):
                self._sums[place] += amount_j
                self._sums[place + 2] += grams(amount_j, g_per_kwh)
        self._read_at_s = at_s
        self._lags.append(lag_counts(text))

    def lag(self) -> list[int]:
        """Counts of `router.lab.emulator.lag` between the first and the last reading."""
        if not self._lags:
            return []
        return [last - first for first, last in zip(self._lags[0], self._lags[-1], strict=True)]

    def energy(self) -> FleetEnergy:
        """What was booked so far."""
        return FleetEnergy(*self._sums)


def joules(text: str) -> tuple[float, float]:
    """Total and idle joules of an endpoint's metrics, over its models."""
    total_j = idle_j = 0.0
    for line in text.splitlines():
        if line.startswith(_TOTAL):
            total_j += float(line.rpartition(" ")[2])
        elif line.startswith(_IDLE):
            idle_j += float(line.rpartition(" ")[2])
    return total_j, idle_j


def lag_counts(text: str) -> list[int]:
    """How late the emulating process woke up: samples by bin of `router.lab.emulator.lag`."""
    seen = [int(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(_LAG)]
    return [after - before for before, after in pairwise([0, *seen])]
