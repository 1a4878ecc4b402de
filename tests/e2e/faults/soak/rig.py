"""Everything that a soak runs: three gateways on one Redis before two regions of servers.

In the clean region there are three servers over each front, a process for each two of them, behind
relays; in the dirty one there is a server over each front that nothing happens to: somebody can
always answer. A server over each front that the soak runs itself stands in for what answers wrong.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import NamedTuple

from tests.e2e.faults.fleet import FRONTS, FaultFleet, How, Pair, green
from tests.e2e.faults.relay import Relay, Way
from tests.e2e.faults.servers import serving
from tests.e2e.harness import Gateway
from tests.ports import free_ports
from tests.state.redis.servers import Server

PAIR = "talk"
UNITS = 3
GATEWAYS = 3
# Requests at once at each server: a few, so that several have some.
MOST = 6


class Down(NamedTuple):
    """A gateway was away, by the loop's clock; ``killed``: without a word."""

    gateway: int
    at: float
    killed: bool


class Rig:
    """What runs. ``up``: numbers of gateways that a balancer would send to."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.redis = Server()
        fleet = FaultFleet(
            {PAIR: Pair(How.RELAYED, count=UNITS, most=MOST)},
            state={"redis": {"url": self.redis.url}},
        )
        self.fleet = fleet
        self.units = {}
        self.relays = {}
        self.odd = {}
        self.gateways = {}
        self.up = set()
        self.downs = []
        self._configs = [self._config() for _ in range(GATEWAYS)]

    def _config(self):
        listen, admin, http = (f"127.0.0.1:{port}" for port in free_ports(3))
        server = {"listen": listen, "admin": admin, "http": http}
        return {**self.fleet.config, "server": server}

    @contextlib.asynccontextmanager
    async def running(self):
        """All of it, from the first server to the last gateway."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.redis.close)
            await asyncio.to_thread(self.redis.start)
            stack.push_async_callback(self._end)
            odd = [
                {"name": front, "protocol": front, "address": f"127.0.0.1:{port}"}
                for front, port in zip(FRONTS, free_ports(2), strict=True)
            ]
            self.odd = await stack.enter_async_context(serving(odd))
            for name, place in self.fleet.relayed().items():
                self.relays[name] = Relay(*place)
                stack.push_async_callback(self.relays[name].close)
                await self.relays[name].become(Way.PASS)
            starting = [asyncio.to_thread(self.start_unit, unit) for unit in range(UNITS)]
            well = asyncio.to_thread(self.fleet.emulate, self.folder, "well", self.fleet.browns)
            *_, self.units["well"] = await asyncio.gather(*starting, well)
            await asyncio.gather(*(self.start_gateway(number) for number in range(GATEWAYS)))
            yield self

    def unit(self, number):
        """Names of the endpoints of one unit, in the order of FRONTS."""
        return [green(PAIR, front, number) for front in FRONTS]

    def stand_in(self, number, does):
        """Another server answers for a unit, and does this; None: its own again."""
        behind = self.fleet.relayed()
        for front, name in zip(FRONTS, self.unit(number), strict=True):
            if does is not None:
                self.odd[front].does = does
            self.relays[name].redirect(behind[name][1] if does is None else self.odd[front].address)

    def start_unit(self, number):
        """Its process, on the ports that it had before."""
        mine = [one for one in self.fleet.greens[PAIR] if one["name"] in self.unit(number)]
        self.units[number] = self.fleet.emulate(self.folder, f"unit-{number}", mine)

    async def start_gateway(self, number):
        """Run it, on the ports that it had before; a balancer knows once it is ready."""
        folder = self.folder / f"gateway-{number}"
        folder.mkdir(exist_ok=True)
        self.gateways[number] = await asyncio.to_thread(Gateway, folder, self._configs[number])
        self.up.add(number)

    def note_down(self, number, killed):
        """A balancer sends nothing there any more."""
        self.up.discard(number)
        self.downs.append(Down(number, asyncio.get_running_loop().time(), killed))

    async def _end(self):
        for child in (*self.gateways.values(), *self.units.values()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGCONT)
            await asyncio.to_thread(child.stop)
