"""The demo's run: processes up, a day of requests, processes down."""

from __future__ import annotations

import asyncio
import math
import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import aiohttp
import grpc.aio
from rich.console import Console

from router import config
from router.demo import fleet as demo_fleet
from router.demo.children import Child, ChildError, children, free_ports, wait_for_ports
from router.demo.client import Callers, Outcome
from router.demo.grid import Grid, play
from router.demo.progress import Progress
from router.demo.watch import GridWatch, Meter, Sight
from router.sim.records import FleetEnergy
from router.sim.workload import Period, TimedRequest

_UP_S = 60.0
_POLL_S = 0.1
_TAIL_S = 60.0


# What a failing run raises; `leaves` tells what went wrong.
FAILURES = (ChildError, TimeoutError, BaseExceptionGroup)


class Played(NamedTuple):
    """What is left when the processes are down."""

    config: config.Config
    period: Period
    requests: Sequence[TimedRequest]
    grid: Grid
    outcome: Outcome
    sights: Sequence[Sight]
    drawn: FleetEnergy
    cpu_s: dict[str, float]


async def play_day(out: Path, seconds: float, seed: int, console: Console) -> Played:
    """Start the fleet and the gateway, send a day of requests, stop everything.

    Raises ChildError when a process fails; then, and when cancelled, nothing is left running.
    """
    ports = free_ports(demo_fleet.endpoint_count() + 3)
    listen, admin, metrics = ports[-3:]
    path = demo_fleet.write(out, demo_fleet.document(ports[:-3], listen, admin, metrics, seconds))
    loaded = config.load(path)
    console.print(
        f"Starting {len(loaded.fleet.endpoints)} emulated model servers and the gateway "
        f"(configuration: {path}) ..."
    )
    with children() as started:
        emulator = Child("emulator", ["emulate", str(path)], out / "emulator.log")
        started.append(emulator)
        await wait_for_ports([*ports[:-3], metrics], emulator, _UP_S)
        gateway = Child("gateway", ["serve", str(path)], out / "gateway.log")
        started.append(gateway)
        async with aiohttp.ClientSession() as session:
            await _wait_until_ready(session, admin, gateway)
            target = f"127.0.0.1:{listen}"
            return await _drive(loaded, target, seconds, seed, console, session, started)


async def _drive(
    loaded: config.Config,
    target: str,
    seconds: float,
    seed: int,
    console: Console,
    session: aiohttp.ClientSession,
    started: Sequence[Child],
) -> Played:
    loop = asyncio.get_running_loop()
    nominal = demo_fleet.period(seconds)
    async with grpc.aio.insecure_channel(target) as channel, asyncio.TaskGroup() as tasks:
        watch = GridWatch(channel)
        background = [tasks.create_task(watch.run())]
        async with asyncio.timeout(_UP_S):
            await watch.first.wait()
        sight = watch.sights[0]
        # The gateway's carbon clock has been running since it started: begin when it says so.
        early_s = (nominal.carbon_start - sight.carbon_time) / nominal.speed
        start = max(sight.at + early_s, loop.time() + 0.2)
        begins = sight.carbon_time + (start - sight.at) * nominal.speed
        period = replace(nominal, carbon_start=begins)
        requests = demo_fleet.traffic(loaded.fleet.priors, period, seed)
        grid = await play(loaded, period)
        callers = Callers(target)
        meter = Meter(loaded.fleet, grid.actual, period)
        progress = Progress(loaded.fleet, period, len(requests), callers.outcome, watch)
        await asyncio.sleep(max(0.0, start - loop.time()))
        cpu_before = _cpu(started)
        background.append(tasks.create_task(progress.run(console, start)))
        background.append(tasks.create_task(_guard(started)))
        metering = tasks.create_task(meter.run(session, start))
        async with asyncio.timeout(seconds + _TAIL_S):
            await callers.drive(requests, start)
            await metering
            await meter.read(session, max(loop.time() - start, seconds + 1e-3))
        cpu = {name: used - cpu_before[name] for name, used in _cpu(started).items()}
        for task in background:
            task.cancel()
    return Played(
        loaded, period, requests, grid, callers.outcome, watch.sights, meter.energy(), cpu
    )


async def _wait_until_ready(session: aiohttp.ClientSession, admin: int, gateway: Child) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _UP_S
    why = "no answer"
    while loop.time() < deadline:
        gateway.check()
        try:
            async with session.get(f"http://127.0.0.1:{admin}/readyz") as answer:
                if answer.status == 200:
                    return
                why = (await answer.text())[:300]
        except aiohttp.ClientError as error:
            why = str(error)
        await asyncio.sleep(_POLL_S)
    raise ChildError(f"the gateway is not ready after {_UP_S:g} s: {why}; {gateway.last_words()}")


async def _guard(started: Sequence[Child]) -> None:
    """Raise as soon as a process ends early."""
    while True:
        for child in started:
            child.check()
        await asyncio.sleep(_POLL_S)


def _cpu(started: Sequence[Child]) -> dict[str, float]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    used = {child.name: child.cpu_s() for child in started}
    used["callers"] = own.ru_utime + own.ru_stime
    return {name: cpu_s for name, cpu_s in used.items() if not math.isnan(cpu_s)}


def leaves(failure: BaseException) -> list[BaseException]:
    """The errors inside an exception group, or the one error."""
    if isinstance(failure, BaseExceptionGroup):
        return [leaf for inner in failure.exceptions for leaf in leaves(inner)]
    return [failure]
