"""CPU seconds that polling grid zones costs per hour of virtual time.

    python -m benchmarks.carbon_poll [--zones 200] [--hours 48] [--refresh-s 300] [--loopback]
        [--forecaster]

A stub provider answers at once, one grid zone a call: what is measured is the schedule, the chain,
the books and the shared store. With ``--loopback`` every call is one HTTP request to a server in a
child process, whose CPU does not count, and its answer is decoded from JSON. With ``--forecaster``
the real one learns along; otherwise it is replaced by one that only remembers the newest value.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import multiprocessing
import random
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection

from aiohttp import web

from router.carbon.chain.chain import CarbonChain
from router.carbon.chain.combine import Combiner
from router.carbon.forecast import Nowcast
from router.carbon.polling.shared import SharedReadings
from router.carbon.polling.source import PolledSource
from router.carbon.providers.http import HttpClient, open_session
from router.carbon.providers.provider import Http, Reading, Want
from router.carbon.tables.climatology import Climatology
from router.clock import WallClock
from router.contract import Forecaster
from router.errors import MissingIntensityError, ProviderError
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal
from router.state.memory import MemoryStore

HOUR = 3600.0
START = 1_767_225_600.0
LAG_S = 1500.0
SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)


class Stub:
    """Publishes every hour, ``LAG_S`` after the end of a slot; forecasts 72 h ahead."""

    name = "stub"
    signal = SIGNAL
    wants = frozenset(Want)
    zones_per_call = 1
    publishes_every_s = HOUR

    def __init__(self, zones: Sequence[str], http: Http | None = None) -> None:
        self.http = http
        self.grid_zones = frozenset(zones)
        self.calls = dict.fromkeys(Want, 0)

    async def fetch(
        self, grid_zones: Sequence[str], want: Want, now: float, hours: int
    ) -> Mapping[str, Reading | ProviderError]:
        self.calls[want] += 1
        if self.http is None:
            await asyncio.sleep(0)
        else:
            count = {Want.LATEST: 1, Want.FORECAST: 72, Want.HISTORY: hours}[want]
            body = await self.http.get_json("/values", params={"rows": str(count)})
            assert len(body["history"]) == count
        if want is Want.FORECAST:
            start = math.floor(now / HOUR) * HOUR
            slots = tuple(
                value(start + (i + 1) * HOUR, Kind.FORECAST, start) for i in range(min(hours, 72))
            )
            return {zone: Reading((), Forecast(zone, start, HOUR, slots)) for zone in grid_zones}
        newest = math.floor((now - LAG_S) / HOUR) * HOUR
        depth = hours if want is Want.HISTORY else 1
        past = tuple(value(newest - i * HOUR, Kind.MEASURED) for i in range(depth))[::-1]
        return {zone: Reading(past) for zone in grid_zones}


class Newest:
    """A forecaster that costs nothing."""

    def __init__(self) -> None:
        self._last: dict[str, Intensity] = {}

    def observe(self, grid_zone: str, intensity: Intensity) -> None:
        self._last[grid_zone] = intensity

    def learn(self, grid_zone: str, past: Sequence[Intensity]) -> None:
        self._last[grid_zone] = past[-1]

    def forecast(self, grid_zone: str, now: float, horizon_h: int) -> Forecast:
        if grid_zone not in self._last:
            raise MissingIntensityError(grid_zone)
        start = math.floor(now / HOUR) * HOUR
        return Forecast(grid_zone, start, HOUR, (self._last[grid_zone],) * horizon_h)


def value(end: float, kind: Kind, seen: float | None = None) -> Intensity:
    g = 300.0 + 100.0 * math.sin(end / HOUR / 24 * 2 * math.pi)
    at = end if seen is None else seen
    return Intensity(g, 0.9 * g, 1.1 * g, SIGNAL, kind, "stub", at, at + 30 * HOUR)


def serve(tell: Connection) -> None:
    """Rows as a provider sends them, for as long as the parent lives."""

    async def values(request: web.Request) -> web.Response:
        row = {
            "zone": "DE",
            "carbonIntensity": 302,
            "datetime": "2026-01-01T00:00:00.000Z",
            "updatedAt": "2026-01-01T00:47:11.000Z",
            "emissionFactorType": "lifecycle",
            "isEstimated": True,
            "estimationMethod": "TIME_SLICER_AVERAGE",
        }
        return web.json_response({"history": [row] * int(request.query["rows"])})

    async def forever() -> None:
        app = web.Application()
        app.router.add_get("/values", values)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        tell.send(runner.addresses[0][1])
        await asyncio.sleep(3600)

    asyncio.run(forever())


class Stopped:
    """A clock by which no lease ends, however far the refreshes jump."""

    def now(self) -> float:
        return START

    def monotonic(self) -> float:
        return 0.0


async def over_loopback(zones: int, hours: int, refresh_s: float, real: bool) -> None:
    context = multiprocessing.get_context("spawn")
    hear, tell = context.Pipe()
    server = context.Process(target=serve, args=(tell,), daemon=True)
    server.start()
    try:
        port = await asyncio.to_thread(hear.recv)
        async with open_session() as session:
            url = f"http://127.0.0.1:{port}"
            http = HttpClient(lambda: session, url, provider="stub", clock=WallClock())
            await run(zones, hours, refresh_s, real, http)
    finally:
        server.terminate()
        server.join()


async def run(
    zones: int, hours: int, refresh_s: float, real: bool, http: Http | None = None
) -> None:
    names = [f"Z{place:03d}" for place in range(zones)]
    provider = Stub(names, http)
    rng = random.Random(1)
    clock = Stopped()
    shared = SharedReadings(
        MemoryStore(), "stub", SIGNAL, "bench", clock, rng, patience_s=3 * refresh_s
    )
    source = PolledSource(provider, rng, shared=shared)
    usual = Climatology.load()
    forecaster: Forecaster = Nowcast(usual) if real else Newest()
    chain = CarbonChain([source, usual], forecaster, combiner=Combiner())
    began = time.process_time()
    await chain.refresh(names, START)
    chain.view(names, START, 24)
    print(f"first refresh: {time.process_time() - began:.2f} CPU s")
    costs = []
    for hour in range(hours):
        spent = time.process_time()
        for step in range(int(HOUR / refresh_s)):
            now = START + hour * HOUR + (step + 1) * refresh_s
            await chain.refresh(names, now)
            chain.view(names, now, 24)
        costs.append(time.process_time() - spent)
    costs.sort()
    mean = sum(costs) / len(costs)
    calls = {str(want): count for want, count in provider.calls.items()}
    print(f"{zones} zones, {hours} h, every {refresh_s:g} s, calls {calls}")
    print(f"CPU s per hour: mean {mean:.2f}, median {costs[len(costs) // 2]:.2f}")
    print(f"share of a core: {100.0 * mean / HOUR:.3f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zones", type=int, default=200)
    parser.add_argument("--hours", type=int, default=48)
    parser.add_argument("--refresh-s", type=float, default=300.0)
    parser.add_argument("--loopback", action="store_true")
    parser.add_argument("--forecaster", action="store_true")
    given = parser.parse_args()
    work = over_loopback if given.loopback else run
    asyncio.run(work(given.zones, given.hours, given.refresh_s, given.forecaster))


if __name__ == "__main__":
    main()
