"""Several gateways over one store, each with its own clock and its own link to the provider."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

from router.carbon.polling.election import BEAT_S
from router.carbon.polling.shared import SharedReadings
from router.carbon.polling.source import PolledSource
from router.carbon.providers.budget import CallLimit
from router.carbon.providers.provider import Reading, Want
from router.contract import StateStore
from router.errors import CallBudgetError, ProviderError
from router.model import Forecast, Intensity
from router.state.memory import MemoryStore
from tests.carbon.stub_provider import HOUR, SIGNAL, StubProvider

T0 = 1_652_486_400.0
ZONES = ("A", "B", "C")
STEP = 60.0
PATIENCE = 180.0


class World:
    """The time that passes everywhere."""

    def __init__(self) -> None:
        self.now = T0


class WorldStore(MemoryStore):
    """A store with a time of its own, as one on another machine has; fails as it is told to."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.error: Exception | None = None
        self.hangs = False
        self.calls = 0

    async def _turn(self) -> float:
        self.calls += 1
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return self.world.now

    def flush(self) -> None:
        """Restarted empty: it has forgotten even the tokens that it gave."""
        super().__init__()

    async def put(self, key: str, value: bytes, ttl_s: float, now: float) -> None:
        await super().put(key, value, ttl_s, await self._turn())

    async def get(self, key: str, now: float) -> bytes | None:
        return await super().get(key, await self._turn())

    async def add(self, counter: str, amount: int, ttl_s: float, now: float) -> int:
        return await super().add(counter, amount, ttl_s, await self._turn())

    async def acquire(self, name: str, holder: str, ttl_s: float, now: float) -> int:
        return await super().acquire(name, holder, ttl_s, await self._turn())

    async def release(self, name: str, holder: str) -> None:
        await self._turn()
        await super().release(name, holder)

    async def exchange(
        self, room: str, member: str, row: bytes, ttl_s: float, now: float
    ) -> Mapping[str, bytes]:
        return await super().exchange(room, member, row, ttl_s, await self._turn())


class OwnClock:
    """One machine's: off by ``skew_s`` from the world's."""

    def __init__(self, world: World, skew_s: float = 0.0) -> None:
        self.world = world
        self.skew_s = skew_s

    def now(self) -> float:
        return self.world.now + self.skew_s

    def monotonic(self) -> float:
        return self.world.now - T0 + 7.0


class LimitedStub(StubProvider):
    """A stub that keeps to a limit on calls, as a provider over HTTP does."""

    def __init__(self, gateway: Gateway, limits: Sequence[CallLimit]) -> None:
        super().__init__(("A", "B", "C", "D"))
        self.allowance = gateway.shared.calls(limits)
        self.gateway = gateway

    async def fetch(
        self, grid_zones: Sequence[str], want: Want, now: float, hours: int
    ) -> Mapping[str, Reading | ProviderError]:
        wait_s = await self.allowance.spend(self.gateway.clock.monotonic())
        if wait_s > 0.0:
            raise CallBudgetError("stub: the limit of calls is spent", wait_s)
        return await super().fetch(grid_zones, want, now, hours)


class Gateway:
    """One gateway: it refreshes every `STEP`, and beats in between."""

    def __init__(
        self,
        holder: str,
        store: StateStore,
        world: World,
        zones: Sequence[str] = ZONES,
        *,
        skew_s: float = 0.0,
        limits: Sequence[CallLimit] = (),
    ) -> None:
        self.zones = zones
        self.clock = OwnClock(world, skew_s)
        rng = random.Random(holder)
        self.shared = SharedReadings(
            store, "stub", SIGNAL, holder, self.clock, rng, patience_s=PATIENCE
        )
        self.provider = LimitedStub(self, limits) if limits else StubProvider(("A", "B", "C", "D"))
        self.source = PolledSource(self.provider, rng, shared=self.shared)
        self.values: Mapping[str, Intensity] = {}
        self.ahead: Mapping[str, Forecast] = {}
        self.past: Mapping[str, Sequence[Intensity]] = {}

    async def refresh(self) -> None:
        now = self.clock.now()
        self.values = await self.source.read(self.zones, now)
        self.ahead = await self.source.forecast(self.zones, now, 96)
        self.past = await self.source.history(self.zones, now, 216)


async def beats(world: World, seconds: float, *gateways: Gateway, every_s: float = BEAT_S) -> None:
    """Let time pass without a refresh."""
    end = world.now + seconds
    while world.now < end:
        world.now = min(world.now + every_s, end)
        for gateway in gateways:
            await gateway.source.beat()


async def run(world: World, hours: float, *gateways: Gateway) -> None:
    """Each refreshes in its turn, and all beat."""
    for _ in range(round(hours * HOUR / STEP)):
        for gateway in gateways:
            await gateway.refresh()
        # A beat that is late by what a lease bears, so that hours take a second.
        await beats(world, STEP, *gateways, every_s=4.0)
