"""A fleet in which every fault has endpoints of its own, so that one gateway serves many tests.

A *pair* is a model over each front: endpoints in the clean region, which is where its requests go
and which a test breaks, and one in the dirty region, which stays well.
"""

import asyncio
import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from tests.e2e.faults.relay import Relays
from tests.e2e.faults.servers import serving
from tests.e2e.harness import PROFILE, Gateway, base, emulator, endpoint
from tests.ports import free_ports

FRONTS = ("oip", "openai")


class How(Enum):
    """Who answers for a pair's endpoints in the clean region."""

    CALM = "the shared emulator"
    PROCESS = "an emulator process of their own, to be killed or stopped"
    RELAYED = "the shared emulator, behind a relay"
    SERVED = "a server of the test itself, while it runs"


class Pair(NamedTuple):
    """``count``: of endpoints over each front. ``alone``: no dirty endpoint serves it, too.
    ``acts``: profile that clean ones run as, whatever the gateway takes them for. ``most``:
    requests at once at each."""

    how: How
    count: int = 1
    alone: bool = False
    acts: str = "fast@test"
    most: int = 512


# With the second a prompt takes as many milliseconds to be read as it has tokens, and an answer ten
# times as many to be written.
PROFILES = {
    "fast@test": PROFILE,
    "reading@test": {**PROFILE, "prefill_ms_per_token": 1, "tpot_base_ms": 10},
}


def model(pair, front):
    """A model is served over one protocol."""
    return pair if front == "oip" else f"{pair}-http"


def green(pair, front, number=0):
    """The endpoint that a test breaks."""
    return f"{pair}-{front}-{number}"


def brown(front):
    """The endpoint that stays well."""
    return f"brown-{front}"


class FaultFleet:
    """Configuration of a gateway and of its emulators. ``pairs``: by name."""

    def __init__(self, pairs, **changes):
        self.pairs = pairs
        count = sum(2 * pair.count for pair in pairs.values()) * 2 + len(FRONTS) + 1
        self._ports = iter(free_ports(count))
        self._behind = {}
        self.greens = {name: self._greens(name, pair) for name, pair in pairs.items()}
        shared = [name for name, pair in pairs.items() if not pair.alone]
        self.browns = [
            endpoint(
                brown(front), "here", self._address(), protocol=front,
                models=[_served(name, front) for name in shared], max_in_flight=512,
            )
            for front in FRONTS
            if shared
        ]  # fmt: skip
        endpoints = [one for made in self.greens.values() for one in made] + self.browns
        self.config = base(endpoints, profiles={"fast@test": PROFILE}, **changes)
        self.config["models"] = {
            model(name, front): {"input_tokens": 20, "output_tokens": 4, "output_tokens_p95": 12}
            for name in pairs
            for front in FRONTS
        }
        self.config["server"] = {**self.config["server"], "http": self._address()}

    def _address(self):
        return f"127.0.0.1:{next(self._ports)}"

    def _greens(self, name, pair):
        made = [
            endpoint(
                green(name, front, number), "north", self._address(), protocol=front,
                models=[_served(name, front)], max_in_flight=pair.most,
            )
            for front in FRONTS
            for number in range(pair.count)
        ]  # fmt: skip
        if pair.how is How.RELAYED:
            self._behind.update({one["name"]: self._address() for one in made})
        return made

    def relayed(self):
        """(address, behind) of each relayed endpoint, by name."""
        return {
            one["name"]: (one["address"], self._behind[one["name"]])
            for made in self.greens.values()
            for one in made
            if one["name"] in self._behind
        }

    def served(self):
        """Endpoints that the test itself serves."""
        return [
            one
            for name, pair in self.pairs.items()
            if pair.how is How.SERVED
            for one in self.greens[name]
        ]

    def emulate(self, folder, name, endpoints, acts="fast@test"):
        """An emulator process of these endpoints. ``acts``: see `Pair`."""
        models = {one["name"] for each in endpoints for one in each["models"]}
        mine = {
            **self.config,
            "endpoints": [
                {**one, "address": self._behind.get(one["name"], one["address"])}
                for one in endpoints
            ],
            "profiles": {"fast@test": PROFILES[acts]},
            "models": {n: about for n, about in self.config["models"].items() if n in models},
        }
        return emulator(folder, mine, name)

    def shared(self):
        """Endpoints of the one process of all that stays well, and of what is behind relays."""
        calm = [
            one
            for name, pair in self.pairs.items()
            if pair.how in (How.RELAYED, How.CALM)
            for one in self.greens[name]
        ]
        return [*self.browns, *calm]


def _served(name, front):
    return {"name": model(name, front), "profile": "fast@test", "context_tokens": 10_000_000}


class Running(NamedTuple):
    """A fleet and its gateway. ``emulators``: by pair, and "shared"; ``servers``: of the test, by
    endpoint."""

    fleet: FaultFleet
    gateway: Gateway
    relays: Relays
    emulators: dict
    folder: Path
    servers: dict

    def another_gateway(self, name, *arguments, kind=Gateway, **changes):
        """One more on the same fleet, with addresses of its own; to be ended by the caller.
        ``kind``: of process; ``changes``: of its configuration."""
        listen, admin, http = (f"127.0.0.1:{port}" for port in free_ports(3))
        config = {**self.fleet.config, **changes}
        config["server"] = {
            **changes.get("server", {}), "listen": listen, "admin": admin, "http": http
        }  # fmt: skip
        folder = self.folder / name
        folder.mkdir()
        return kind(folder, config, *arguments)

    def again(self, pair):
        """Start a pair's emulator process anew, on the ports that it had."""
        name = f"{pair}-again-{len(self.emulators)}"
        acts = self.fleet.pairs[pair].acts
        child = self.fleet.emulate(self.folder, name, self.fleet.greens[pair], acts)
        self.emulators[name] = child
        return child


@contextlib.asynccontextmanager
async def running_fleet(folder, fleet, *arguments):
    """The whole of it, servers first: one that was not there at first was out once already.
    ``arguments``: of ``carbon-router serve``."""
    async with serving(fleet.served()) as servers:
        # Beside the event loop, on which those servers answer.
        processes = _processes(folder, fleet, servers, arguments)
        made = await asyncio.to_thread(processes.__enter__)
        try:
            yield made
        finally:
            await asyncio.to_thread(processes.__exit__, None, None, None)


@contextlib.contextmanager
def _processes(folder, fleet, servers, arguments):
    alone = {
        name: (fleet.greens[name], pair.acts)
        for name, pair in fleet.pairs.items()
        if pair.how is How.PROCESS
    }
    if fleet.shared():
        alone["shared"] = (fleet.shared(), "fast@test")
    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor() as starting:
            started = {
                name: starting.submit(fleet.emulate, folder, name, *served)
                for name, served in alone.items()
            }
        emulators = {name: one.result() for name, one in started.items()}
        stack.callback(_end_all, emulators)
        relays = Relays(fleet.relayed())
        stack.callback(relays.close)
        gateway = Gateway(folder, fleet.config, *arguments)
        stack.callback(_end_all, {"gateway": gateway})
        yield Running(fleet, gateway, relays, emulators, folder, servers)


def _end_all(children):
    """Ends processes, also those that were stopped."""
    for child in children.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGCONT)
        child.stop()
