"""Emulated endpoints as real gRPC servers: one each, many to a process."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from router.app.loading import load
from router.errors import ConfigError
from router.lab.emulator import metrics
from router.lab.emulator.faults import EmulatedFault
from router.lab.emulator.lag import LoopLag
from router.lab.emulator.machine import Machine
from router.lab.emulator.service import EmulatedService
from router.model import Endpoint, Fleet

MAX_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Options:
    """How to emulate. ``seed``: of drawn output lengths. ``stream_every``: tokens per response.

    ``fault``: shown by every call that does not name its own.
    """

    seed: int = 0
    stream_every: int = 1
    fault: EmulatedFault | None = None


class EmulatedEndpoint:
    """One endpoint's server. Port 0 in its address picks a free one; see ``address``."""

    def __init__(self, endpoint: Endpoint, fleet: Fleet, options: Options = Options()) -> None:
        self.endpoint = endpoint
        self.address = endpoint.address
        self.ready = asyncio.Event()
        self._fleet = fleet
        self._options = options
        self._rng = random.Random(f"{options.seed}/{endpoint.name}")
        self._service: EmulatedService | None = None

    def machines(self) -> Mapping[str, Machine]:
        """The endpoint's machines by model; empty while it is down."""
        if self._service is None:
            return {}
        return {name: served.machine for name, served in self._service.served.items()}

    async def serve(self) -> None:
        """Serve until cancelled. A reset fault drops every connection, then it comes back empty.

        Raises ConfigError when the port is taken.
        """
        while True:
            crashed = asyncio.Event()
            service = EmulatedService(
                self.endpoint,
                self._fleet,
                self._rng,
                crashed.set,
                stream_every=self._options.stream_every,
                fault=self._options.fault,
            )
            server = self._listen(service)
            await server.start()
            self._service = service
            self.ready.set()
            try:
                await crashed.wait()
            finally:
                self.ready.clear()
                self._service = None
                service.stop()
                await server.stop(None)

    def _listen(self, service: EmulatedService) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                # Two endpoints on one port would share its requests in silence.
                ("grpc.so_reuseport", 0),
            ]
        )
        server.add_generic_rpc_handlers((service.handler(),))
        try:
            port = server.add_insecure_port(self.address)
        except RuntimeError as error:
            text = f"{self.address} cannot be listened on; choose a free port ({error})"
            raise ConfigError(self.endpoint.name, [("address", text)]) from error
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        return server


async def serve_fleet(
    endpoints: Sequence[EmulatedEndpoint], stop: asyncio.Event, on_started: Callable[[], None]
) -> None:
    """Serve them all until ``stop``; calls ``on_started`` once every one listens.

    Raises ConfigError when a port is taken, OSError when a metrics port is.
    """
    sites = {
        emulated.endpoint.name: (emulated.endpoint, emulated.machines)
        for emulated in endpoints
        if emulated.endpoint.metrics_url
    }
    lag = LoopLag()
    runners = await metrics.start(sites, lag)
    try:
        async with asyncio.TaskGroup() as tasks:
            serving = [tasks.create_task(emulated.serve()) for emulated in endpoints]
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


def run(config_path: Path, *, seed: int = 0, stream_every: int = 1) -> int:
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
    asyncio.run(_until_signal(marked, fleet, Options(seed, stream_every)))
    return 0


async def _until_signal(marked: Sequence[Endpoint], fleet: Fleet, options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    endpoints = [EmulatedEndpoint(endpoint, fleet, options) for endpoint in marked]

    def announce() -> None:
        print(f"emulating {len(endpoints)} endpoints", file=sys.stderr, flush=True)

    await serve_fleet(endpoints, stop, announce)
