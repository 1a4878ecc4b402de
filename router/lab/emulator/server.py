"""Emulated endpoints as real servers: one each, many to a process."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from router.app.loading import load
from router.errors import ConfigError
from router.lab.emulator import metrics, service
from router.lab.emulator.emulation import Emulation
from router.lab.emulator.faults import EmulatedFault
from router.lab.emulator.guard import OPEN, EmulatorGuard
from router.lab.emulator.http import service as http_service
from router.lab.emulator.lag import LoopLag
from router.lab.emulator.machine import Machine
from router.model import Endpoint, Fleet

# By `Endpoint.protocol`.
_LISTEN = {"oip": service.listen, "openai": http_service.listen}


@dataclass(frozen=True, slots=True)
class Options:
    """How to emulate. ``seed``: of drawn output lengths. ``stream_every``: tokens per response.

    ``fault``: shown by every call that does not name its own. ``tells_times``: as of `Emulation`.
    ``guard``: whom they answer.
    """

    seed: int = 0
    stream_every: int = 1
    fault: EmulatedFault | None = None
    tells_times: bool = False
    guard: EmulatorGuard = OPEN


class EmulatedEndpoint:
    """One endpoint's server. Port 0 in its address picks a free one; see ``address``."""

    def __init__(self, endpoint: Endpoint, fleet: Fleet, options: Options = Options()) -> None:
        self.endpoint = endpoint
        self.address = endpoint.address
        self.ready = asyncio.Event()
        self._fleet = fleet
        self._options = options
        self._rng = random.Random(f"{options.seed}/{endpoint.name}")
        self._emulation: Emulation | None = None

    def machines(self) -> Mapping[str, Machine]:
        """The endpoint's machines by model; empty while it is down."""
        if self._emulation is None:
            return {}
        return {name: model.machine for name, model in self._emulation.models.items()}

    async def serve(self, lag: LoopLag | None = None) -> None:
        """Serve until cancelled. A reset fault drops every connection, then it comes back empty.

        ``lag``: of the process, for a page of metrics on its own address. Raises ConfigError when
        the port is taken.
        """
        while True:
            crashed = asyncio.Event()
            emulation = Emulation(
                self.endpoint,
                self._fleet,
                self._rng,
                crashed.set,
                stream_every=self._options.stream_every,
                fault=self._options.fault,
                tells_times=self._options.tells_times,
                lag=lag,
                guard=self._options.guard,
            )
            try:
                listening = await _LISTEN[self.endpoint.protocol](emulation, self.address)
            except OSError as error:
                text = f"{self.address} cannot be listened on; choose a free port ({error})"
                raise ConfigError(self.endpoint.name, [("address", text)]) from error
            self.address = f"{self.address.rpartition(':')[0]}:{listening.port}"
            self._emulation = emulation
            self.ready.set()
            try:
                await crashed.wait()
            finally:
                self.ready.clear()
                self._emulation = None
                emulation.stop()
                await listening.stop()


async def serve_fleet(
    endpoints: Sequence[EmulatedEndpoint],
    stop: asyncio.Event,
    on_started: Callable[[], None],
    guard: EmulatorGuard = OPEN,
) -> None:
    """Serve them all until ``stop``; calls ``on_started`` once every one listens.

    ``guard``: of pages of metrics that are https.

    Raises ConfigError when a port is taken, OSError when a metrics port is.
    """
    sites = {
        emulated.endpoint.name: (emulated.endpoint, emulated.machines)
        for emulated in endpoints
        if emulated.endpoint.metrics_url
    }
    lag = LoopLag()
    runners = await metrics.start(sites, lag, guard)
    try:
        async with asyncio.TaskGroup() as tasks:
            serving = [tasks.create_task(emulated.serve(lag)) for emulated in endpoints]
            for emulated in endpoints:
                await emulated.ready.wait()
            on_started()
            serving.append(tasks.create_task(lag.run()))
            await stop.wait()
            for task in serving:
                task.cancel()
    except BaseExceptionGroup as group:
        wrong = group.subgroup(ConfigError)
        if wrong is None:
            raise
        raise wrong.exceptions[0] from group
    finally:
        for runner in runners:
            await runner.cleanup()


def run(
    config_path: Path,
    *,
    seed: int = 0,
    stream_every: int = 1,
    tells_times: bool = False,
    guard: EmulatorGuard = OPEN,
) -> int:
    """Emulate every endpoint that a configuration marks ``emulated``; until SIGTERM or SIGINT.

    Raises ConfigError when the file is wrong, names none, or a port is taken.
    """
    fleet = load(config_path).fleet
    marked = [endpoint for endpoint in fleet.endpoints if endpoint.emulated]
    problems = [
        (f"endpoints.{endpoint.name}.metrics.engine", "an emulated endpoint speaks vllm")
        for endpoint in marked
        if endpoint.engine not in ("", "vllm")
    ]
    if not marked:
        problems = [("endpoints", "none is marked `emulated: true`: nothing to emulate")]
    if problems:
        raise ConfigError(str(config_path), problems)
    options = Options(seed, stream_every, tells_times=tells_times, guard=guard)
    asyncio.run(_until_signal(marked, fleet, options))
    return 0


async def _until_signal(marked: Sequence[Endpoint], fleet: Fleet, options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    endpoints = [EmulatedEndpoint(endpoint, fleet, options) for endpoint in marked]

    def announce() -> None:
        print(f"emulating {len(endpoints)} endpoints", file=sys.stderr, flush=True)

    await serve_fleet(endpoints, stop, announce, options.guard)
