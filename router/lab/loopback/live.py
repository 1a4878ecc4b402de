"""A live run: processes up, requests sent while the carbon clock passes, processes down."""

from __future__ import annotations

import asyncio
import math
import resource
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import grpc.aio

from router.config import Config
from router.lab.emulator.lag import LoopLag
from router.lab.loopback.children import (
    Child,
    children,
    guard,
    wait_for_ports,
    wait_until_ready,
)
from router.lab.loopback.client import CallerCounts, Callers, CallOptions
from router.lab.loopback.probe import PathProbe
from router.lab.loopback.watch import GridReading, GridWatch, Meter
from router.lab.replay.records import FleetEnergy
from router.lab.replay.timed import Period, TimedRequest
from router.model import Forecast

# Wall seconds that the gateway may take to come up before the period begins.
LEAD_S = 5.0
_UP_S = 60.0
_TAIL_S = 60.0


class LiveInputs(NamedTuple):
    """What goes in: the requests, and what the grids really emitted, by grid zone."""

    requests: Sequence[TimedRequest]
    actual: Mapping[str, Forecast]


class LiveView(NamedTuple):
    """What there is to be shown during a run. ``start``: loop seconds of its beginning."""

    period: Period
    offered: int
    counts: CallerCounts
    watch: GridWatch
    start: float


@dataclass(frozen=True, slots=True)
class LiveRunSpec:
    """What is to be run. ``config``: every endpoint emulated, with metrics, on loopback, and a
    replay clock that reaches the start of ``nominal`` after LEAD_S.

    ``prepare`` is called once the period is known: a gateway that comes up late begins late.
    ``show`` runs beside it until it is cancelled. ``probes``: measure what the loopback adds,
    meanwhile.
    """

    config: Config
    nominal: Period
    options: CallOptions
    prepare: Callable[[Period], Awaitable[LiveInputs]]
    show: Callable[[LiveView], Coroutine[None, None, None]]
    probes: bool = False


class Lags(NamedTuple):
    """How late callers and emulated servers woke up, as `router.lab.emulator.lag` counts it."""

    callers: Sequence[int]
    servers: Sequence[int]


class LiveResult(NamedTuple):
    """What is left when the processes are down. ``cpu_s``: CPU seconds by process; ``added_ms``:
    what each probe of the loopback took beyond its emulated time.
    """

    period: Period
    inputs: LiveInputs
    counts: CallerCounts
    readings: Sequence[GridReading]
    drawn: FleetEnergy
    cpu_s: dict[str, float]
    lags: Lags
    added_ms: Sequence[float]


async def run_live(spec: LiveRunSpec, out: Path) -> LiveResult:
    """Start the fleet and the gateway, send the requests, stop everything; logs go to ``out``.

    Raises ChildError when a process fails; then, and when cancelled, nothing is left running.
    """
    config = spec.config
    admin = f"127.0.0.1:{_port(config.settings.server.admin)}"
    with children() as started:
        emulator = Child("emulator", ["emulate", str(config.file)], out / "emulator.log")
        started.append(emulator)
        await wait_for_ports(_served_ports(config), emulator, _UP_S)
        gateway = Child("gateway", ["serve", str(config.file)], out / "gateway.log")
        started.append(gateway)
        async with aiohttp.ClientSession() as session:
            await wait_until_ready(session, f"http://{admin}/readyz", gateway, _UP_S)
            return await _drive(spec, session, started)


async def _drive(
    spec: LiveRunSpec, session: aiohttp.ClientSession, started: Sequence[Child]
) -> LiveResult:
    loop = asyncio.get_running_loop()
    target = f"127.0.0.1:{_port(spec.config.settings.server.listen)}"
    async with grpc.aio.insecure_channel(target) as channel, asyncio.TaskGroup() as tasks:
        watch = GridWatch(channel)
        background = [tasks.create_task(watch.run())]
        async with asyncio.timeout(_UP_S):
            await watch.first.wait()
        start, period = opening(spec.nominal, watch.readings[0], loop.time())
        inputs = await spec.prepare(period)
        callers = Callers(target, spec.options)
        meter = Meter(spec.config.fleet, inputs.actual, period)
        lag = LoopLag()
        await asyncio.sleep(max(0.0, start - loop.time()))
        cpu_before = _cpu(started)
        view = LiveView(period, len(inputs.requests), callers.counts, watch, start)
        background.append(tasks.create_task(spec.show(view)))
        background.append(tasks.create_task(guard(started)))
        background.append(tasks.create_task(lag.run()))
        probe = PathProbe(spec.config.fleet, sorted(spec.config.fleet.rtt_ms))
        if spec.probes:
            background.append(tasks.create_task(probe.run()))
        metering = tasks.create_task(meter.run(session, start))
        async with asyncio.timeout(period.seconds + _TAIL_S):
            await callers.drive(inputs.requests, start)
            await metering
            await meter.read(session, max(loop.time() - start, period.seconds + 1e-3))
        cpu = {name: used - cpu_before[name] for name, used in _cpu(started).items()}
        for task in background:
            task.cancel()
    return LiveResult(
        period, inputs, callers.counts, watch.readings, meter.energy(), cpu,
        Lags(lag.counts, meter.lag()), probe.added_ms,
    )  # fmt: skip


def opening(nominal: Period, reading: GridReading, now: float) -> tuple[float, Period]:
    """Loop seconds at which the period begins, and the period that it then is."""
    # The gateway's carbon clock has been running since it started: begin when it says so.
    early_s = (nominal.carbon_start - reading.carbon_time) / nominal.speed
    start = max(reading.at + early_s, now + 0.2)
    begins = reading.carbon_time + (start - reading.at) * nominal.speed
    return start, replace(nominal, carbon_start=begins)


def _served_ports(config: Config) -> list[int]:
    """Where the emulated servers listen, for requests and for scrapes."""
    ports = [_port(endpoint.address) for endpoint in config.fleet.endpoints]
    urls = {endpoint.metrics_url for endpoint in config.fleet.endpoints}
    return [*ports, *sorted({urlsplit(url).port or 80 for url in urls})]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _cpu(started: Sequence[Child]) -> dict[str, float]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    used = {child.name: child.cpu_s() for child in started}
    used["callers"] = own.ru_utime + own.ru_stime
    return {name: cpu_s for name, cpu_s in used.items() if not math.isnan(cpu_s)}
