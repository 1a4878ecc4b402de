"""Faults at random times, from one seed: of servers and paths, of gateways, of Redis."""

import asyncio
import contextlib
import os
import signal
from typing import NamedTuple

from tests.e2e.faults.redis_faults import frozen, full, killed, read_only
from tests.e2e.faults.relay import Way
from tests.e2e.faults.soak.rig import GATEWAYS, PAIR, UNITS
from tests.e2e.harness import until

# In the mean, between two faults of a kind of thing, and how long they last.
SERVERS_EVERY_S, GATEWAYS_EVERY_S, REDIS_EVERY_S = 5.0, 20.0, 15.0
LASTS_S = (2.0, 6.0)
WAYS = (Way.REFUSE, Way.RESET, Way.HOLD, Way.DROP, Way.TRICKLE)
WRONG = (404, 429, 500, 503, "garbage", "nothing", "page")
# After which nothing is answered, so that what was there has to leave.
GONE = ("kill -9", "SIGSTOP", "region lost", *(way.name.lower() for way in WAYS))
_LOOK_S = 0.2


class Fault(NamedTuple):
    """One that was made, with times of the loop. ``left_s``: from when a gateway had a request
    there until none had any more, of those after which nothing is answered; 0 of others."""

    kind: str
    target: str
    began: float
    ended: float
    left_s: float = 0.0


class Breaking:
    """``faults``: those that are over."""

    def __init__(self, rig, rng):
        self._rig, self._rng = rig, rng
        self._loop = asyncio.get_running_loop()
        self._broken = set()
        self._odd = asyncio.Lock()
        self.faults = []

    async def run(self, stop):
        """Break things until the event ``stop`` is set; returns when all are well again."""
        async with asyncio.TaskGroup() as group:
            for every_s, make in (
                (SERVERS_EVERY_S, self._server),
                (GATEWAYS_EVERY_S, self._gateway),
                (REDIS_EVERY_S, self._redis),
            ):
                group.create_task(self._now_and_then(every_s, make, stop))

    async def _now_and_then(self, every_s, make, stop):
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._rng.expovariate(1.0 / every_s)):
                        await stop.wait()
                if not stop.is_set():
                    work = make()
                    if make == self._server:
                        # Two may be broken at once.
                        group.create_task(work)
                    else:
                        await work

    async def _lasts(self):
        await asyncio.sleep(self._rng.uniform(*LASTS_S))

    # Servers

    async def _server(self):
        if len(self._broken) > 1:
            return
        kind = self._rng.choice((*GONE, "flapping", "wrong answers", "wrong answers"))
        units = range(UNITS) if kind == "region lost" else [await self._busiest()]
        if self._broken.intersection(units):
            return
        self._broken.update(units)
        try:
            await self._break(kind, units)
        finally:
            self._broken.difference_update(units)

    async def _busiest(self):
        """Mostly where the traffic is."""
        if self._rng.random() < 0.3:
            return self._rng.randrange(UNITS)
        busy = [0] * UNITS
        for number in self._rig.up:
            with contextlib.suppress(OSError):
                seen = await self._rig.gateways[number].endpoints()
                for unit in range(UNITS):
                    busy[unit] += sum(seen[name]["in_flight"] for name in self._rig.unit(unit))
        return busy.index(max(busy))

    async def _break(self, kind, units):
        began, left_s = self._loop.time(), 0.0
        names = [name for unit in units for name in self._rig.unit(unit)]
        if kind == "flapping":
            await self._flap(names)
        elif kind == "wrong answers":
            # One server stands in for it, so it is one unit at a time.
            kind = f"answers {await self._wrong(units[0])}"
        elif kind in ("kill -9", "region lost", "SIGSTOP"):
            left_s = await self._stop_processes(kind, units, names)
        else:
            await self._put(names, Way[kind.upper()])
            left_s = await self._left(names)
            await self._put(names, Way.PASS)
        target = "region" if len(units) > 1 else f"server {units[0]}"
        self.faults.append(Fault(kind, target, began, self._loop.time(), left_s))

    async def _stop_processes(self, kind, units, names):
        for unit in units:
            stopped = signal.SIGSTOP if kind == "SIGSTOP" else signal.SIGKILL
            os.kill(self._rig.units[unit].pid, stopped)
        left_s = await self._left(names)
        for unit in units:
            if kind == "SIGSTOP":
                os.kill(self._rig.units[unit].pid, signal.SIGCONT)
            else:
                self._rig.units[unit].process.wait()
                await asyncio.to_thread(self._rig.start_unit, unit)
        return left_s

    async def _put(self, names, way):
        for name in names:
            await self._rig.relays[name].become(way)

    async def _flap(self, names):
        for _ in range(self._rng.randrange(2, 5)):
            await self._put(names, Way.REFUSE)
            await asyncio.sleep(0.5)
            await self._put(names, Way.PASS)
            await asyncio.sleep(0.5)

    async def _wrong(self, unit):
        async with self._odd:
            does = self._rng.choice(WRONG)
            self._rig.stand_in(unit, does)
            await self._lasts()
            self._rig.stand_in(unit, None)
        return does

    async def _left(self, names):
        """As `_lasts`; seconds from the first to the last request that one gateway was seen to have
        there meanwhile, of the one that took longest: each finds out for itself."""
        first, left_s = {}, 0.0
        until_s = self._loop.time() + self._rng.uniform(*LASTS_S)
        while self._loop.time() < until_s:
            for number in sorted(self._rig.up):
                asked_at = self._loop.time()
                with contextlib.suppress(OSError, KeyError):
                    seen = await self._rig.gateways[number].endpoints()
                    if any(seen[name]["in_flight"] for name in names):
                        since = first.setdefault(number, asked_at)
                        left_s = max(left_s, asked_at - since)
            await asyncio.sleep(_LOOK_S)
        return left_s

    # Gateways

    async def _gateway(self):
        kind = self._rng.choice(("kill -9", "SIGTERM", "SIGHUP", "SIGHUP", "refused file"))
        began = self._loop.time()
        # The first one lives through all of it: its memory is to be seen over time.
        ends = kind in ("kill -9", "SIGTERM")
        number = self._rng.randrange(1 if ends else 0, GATEWAYS)
        gateway = self._rig.gateways[number]
        if kind == "kill -9":
            self._rig.note_down(number, killed=True)
            gateway.process.kill()
            await asyncio.to_thread(gateway.process.wait)
        elif kind == "SIGTERM":
            self._rig.note_down(number, killed=False)
            # A balancer takes a moment to hear of it.
            await asyncio.sleep(0.3)
            gateway.tell(signal.SIGTERM)
            assert await asyncio.to_thread(gateway.wait, 60.0) == 0, gateway.tail
        elif kind == "SIGHUP":
            await self._reload(gateway, self._rng.choice(("carbon-first", "balanced")))
        else:
            gateway.path.write_text("nonsense: {")
            gateway.tell(signal.SIGHUP)
            await self._lasts()
            await self._reload(gateway, "carbon-first")
        if ends:
            await self._lasts()
            await self._rig.start_gateway(number)
        self.faults.append(Fault(kind, f"gateway {number}", began, self._loop.time()))

    async def _reload(self, gateway, policy):
        before = await gateway.total("reloads_total", outcome="applied")
        gateway.write(policy=policy)
        gateway.tell(signal.SIGHUP)

        async def done():
            return await gateway.total("reloads_total", outcome="applied") > before

        await until(done, "a reload")

    # Redis

    async def _redis(self):
        redis, began = self._rig.redis, self._loop.time()
        kind = self._rng.choice((killed, frozen, full, read_only, None))
        if kind is None:
            await asyncio.to_thread(redis.ask, "FLUSHALL")
        else:
            with kind(redis):
                await self._lasts()
        name = "flushed" if kind is None else kind.__name__
        self.faults.append(Fault(name, "redis", began, self._loop.time()))


async def whole_again(rig, trusted=False):
    """Return once every gateway knows its store, has nothing to complain of and holds no request.

    ``trusted``: and once no server is out. One that failed again and again may be for minutes.
    """

    async def well():
        for gateway in rig.gateways.values():
            _, readiness = await gateway.readiness()
            seen = (await gateway.endpoints()).values()
            out = trusted and any(one["state"] == "ejected" for one in seen)
            if readiness["reasons"] or out or any(one["in_flight"] for one in seen):
                return False
        return True

    await until(well, f"all being well ({PAIR})")
