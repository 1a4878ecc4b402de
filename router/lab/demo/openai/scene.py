"""The scene's live run: servers and gateway up, questions asked, a server killed, all down."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import aiohttp
from rich.console import Console

from router.app.loading import load
from router.config import Config
from router.lab.demo.openai import fleet as scene_fleet
from router.lab.demo.openai.asking import AskedChat, ChatCaller, Ending
from router.lab.demo.openai.fleet import PLACES, PORTS, ChatQuestion, Ports
from router.lab.demo.openai.parts import SceneParts
from router.lab.loopback.children import Child, children, free_ports, guard, wait_until_ready
from router.lab.loopback.console_recording import RECORDING, ConsoleRecorder
from router.lab.loopback.live import opening
from router.lab.loopback.watch import GridReading, GridWatch, watched_grid
from router.lab.replay.timed import Period

_UP_S = 60.0
_TAIL_S = 60.0
_LINES = 12
_RECENT = 5
# The kill waits for a question that has been with a server for so long, and for that at most
# so long.
_UNDER_WAY_S = 0.05
_KILL_PATIENCE_S = 10.0
_LOOK_S = 0.005


class Kill(NamedTuple):
    """The end of one server. ``waiting``, ``streaming``: questions of which nothing had come, and
    of which something had, over all servers. ``reading``: what was known of the grid."""

    region: str
    reading: GridReading
    waiting: int
    streaming: int


class Scene(NamedTuple):
    """What is left when the processes are down. ``load``: the machine's load average over the last
    minute at the end, of all that ran there; ``cores``: how many it has; ``unrecorded``:
    why there is no recording of the console, "" where there is one."""

    config: Config
    period: Period
    asked: Sequence[AskedChat]
    readings: Sequence[GridReading]
    kill: Kill | None
    load: float
    cores: int
    unrecorded: str = ""


class _Stage(NamedTuple):
    """What runs. ``servers``: by region, those that live; ``running``: all that must live on;
    ``out``: the folder for all files."""

    out: Path
    console: Console
    config: Config
    ports: Ports
    servers: dict[str, Child]
    running: list[Child]


async def play(parts: SceneParts, out: Path, seconds: float, seed: int, console: Console) -> Scene:
    """Start everything, ask for ``seconds``, stop everything; logs go to ``out``.

    Raises ChildError when a process fails; then, and when cancelled, nothing is left running.
    """
    ports = Ports.of(free_ports(PORTS))
    path = scene_fleet.write(out, ports, scene_fleet.period(seconds))
    config = load(path)
    questions = scene_fleet.questions(seconds, seed)
    console.print(
        f"Starting {len(PLACES)} llama.cpp servers with {parts.model.name}, one thread each, and "
        f"the gateway (configuration: {path}) ...",
        highlight=False,
    )
    with children() as started:
        stage = _Stage(out, console, config, ports, {}, [])
        # It answers no call without a time limit of its own: a hang ends the scene.
        limit = aiohttp.ClientTimeout(total=_TAIL_S)
        async with aiohttp.ClientSession(timeout=limit) as session:
            await _start(stage, started, parts, out, session)
            async with watched_grid(f"127.0.0.1:{ports.listen}") as watch:
                return await _act(stage, session, watch, questions, scene_fleet.period(seconds))


async def _start(
    stage: _Stage,
    started: list[Child],
    parts: SceneParts,
    out: Path,
    session: aiohttp.ClientSession,
) -> None:
    ports = stage.ports
    for place, port, llama_port in zip(PLACES, ports.servers, ports.llama, strict=True):
        arguments = [
            str(port), str(llama_port), f"{scene_fleet.rtt_ms(place.name):g}", str(parts.model),
        ]  # fmt: skip
        log = out / f"llama-{place.name}.log"
        module = "router.lab.loopback.llama_server"
        child = Child(f"llama-{place.name}", arguments, log, module, parts.python)
        started.append(child)
        stage.running.append(child)
        stage.servers[place.name] = child
    for port, child in zip(ports.servers, stage.servers.values(), strict=True):
        await wait_until_ready(session, f"http://127.0.0.1:{port}/health", child, _UP_S)
    gateway = Child("gateway", ["serve", str(stage.config.file)], out / "gateway.log")
    started.append(gateway)
    stage.running.append(gateway)
    await wait_until_ready(session, f"http://127.0.0.1:{ports.admin}/readyz", gateway, _UP_S)


async def _act(
    stage: _Stage,
    session: aiohttp.ClientSession,
    watch: GridWatch,
    questions: Sequence[ChatQuestion],
    nominal: Period,
) -> Scene:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_UP_S):
        await watch.first.wait()
    start, period = opening(nominal, watch.readings[0], loop.time())
    caller = ChatCaller(session, f"http://127.0.0.1:{stage.ports.http}")
    stage.console.print(
        f"Watch it in a browser while it runs: http://127.0.0.1:{stage.ports.admin}/",
        highlight=False,
    )
    recorder = ConsoleRecorder(f"http://127.0.0.1:{stage.ports.admin}")
    async with asyncio.TaskGroup() as tasks:
        progress = _Progress(stage.console, period, len(questions), caller.asked, watch)
        background = [
            tasks.create_task(guard(stage.running)),
            tasks.create_task(progress.run(start)),
            tasks.create_task(recorder.run()),
        ]
        killing = tasks.create_task(
            _kill(stage, caller.asked, watch, start + scene_fleet.KILL_AT * period.seconds)
        )
        async with asyncio.timeout(max(0.0, start - loop.time()) + period.seconds + _TAIL_S):
            await caller.ask_all(questions, start)
            kill = await killing
            await caller.fetch_receipts()
        for task in background:
            task.cancel()
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    recorder.write(stage.out / RECORDING)
    return Scene(
        stage.config, period, caller.asked, watch.readings, kill, load, cores, recorder.problem
    )


async def _kill(stage: _Stage, asked: Sequence[AskedChat], watch: GridWatch, at: float) -> Kill:
    """SIGKILL for the server of the greenest grid, at loop second ``at`` or soon, amid work."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(max(0.0, at - loop.time()))
    # With nothing under way a kill would show nothing.
    while loop.time() < at + _KILL_PATIENCE_S:
        if any(one.waits and loop.time() - one.sent_at >= _UNDER_WAY_S for one in asked):
            break
        await asyncio.sleep(_LOOK_S)
    reading = watch.readings[-1]
    region = greenest(reading.g_per_kwh, stage.servers)
    child = stage.servers.pop(region)
    # It may end now.
    stage.running.remove(child)
    waiting = sum(one.waits for one in asked)
    streaming = sum(one.ending is Ending.OPEN for one in asked) - waiting
    child.kill()
    stage.console.print(
        f"Killed (SIGKILL): {child.name}, the greenest. Questions without a token yet: {waiting}; "
        f"answers that stream: {streaming}",
        style="bold",
        highlight=False,
    )
    return Kill(region, reading, waiting, streaming)


def greenest(g_per_kwh: Mapping[str, float], servers: Mapping[str, Child]) -> str:
    """The region of a living server whose grid is known to emit least."""
    return min(servers, key=lambda region: g_per_kwh.get(region, float("inf")))


class _Progress:
    """Prints a line now and then."""

    def __init__(
        self,
        console: Console,
        period: Period,
        offered: int,
        asked: Sequence[AskedChat],
        watch: GridWatch,
    ) -> None:
        self._console = console
        self._period = period
        self._offered = offered
        self._asked = asked
        self._watch = watch

    async def run(self, start: float) -> None:
        """Until cancelled; ``start``: loop seconds of the period's beginning."""
        loop = asyncio.get_running_loop()
        for number in range(1, _LINES + 1):
            at_s = self._period.seconds * number / _LINES
            await asyncio.sleep(max(0.0, start + at_s - loop.time()))
            self._console.print(self.line(at_s), highlight=False)

    def line(self, at_s: float) -> str:
        """The time of the day, the grid, what was answered, and where of late."""
        now = datetime.fromtimestamp(self._period.carbon_time(at_s), UTC)
        grid = ", ".join(
            f"{name} {g:.0f}" for name, g in sorted(self._watch.readings[-1].g_per_kwh.items())
        )
        endings = Counter(one.ending for one in self._asked)
        recent = Counter([one.region for one in self._asked if one.region][-_RECENT:])
        places = ", ".join(f"{name} {count}" for name, count in recent.most_common())
        return (
            f"{now:%d %b %Y %H:%M} UTC  g/kWh: {grid}; {endings[Ending.ANSWERED]}/{self._offered} "
            f"answered; the last {recent.total()}: {places}"
        )
