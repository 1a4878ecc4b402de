"""The demo's live run: its fleet and its day, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from router.app.loading import load
from router.config import Config
from router.lab.demo import fleet as demo_fleet
from router.lab.demo.grid import Grid, replay_sources
from router.lab.demo.progress import DayProgress
from router.lab.loopback.children import free_ports
from router.lab.loopback.client import CallerCounts, CallOptions
from router.lab.loopback.console_recording import RECORDING, ConsoleRecorder
from router.lab.loopback.live import LiveInputs, LiveRunSpec, LiveView, run_live
from router.lab.loopback.watch import GridReading
from router.lab.replay.records import FleetEnergy
from router.lab.replay.timed import Period, TimedRequest

_DEADLINE_S = 60.0


class LiveDay(NamedTuple):
    """What is left when the processes are down. ``unrecorded``: why there is no recording, "" where
    there is one."""

    config: Config
    period: Period
    requests: Sequence[TimedRequest]
    grid: Grid
    counts: CallerCounts
    readings: Sequence[GridReading]
    drawn: FleetEnergy
    cpu_s: dict[str, float]
    unrecorded: str


async def run_day(out: Path, seconds: float, seed: int, console: Console) -> LiveDay:
    """Start the fleet and the gateway, send a day of requests, stop everything.

    Raises ChildError when a process fails; then, and when cancelled, nothing is left running.
    """
    ports = free_ports(demo_fleet.endpoint_count() + 3)
    listen, admin, metrics = ports[-3:]
    path = demo_fleet.write(out, demo_fleet.document(ports[:-3], listen, admin, metrics, seconds))
    loaded = load(path)
    console.print(
        f"Starting {len(loaded.fleet.endpoints)} emulated model servers and the gateway "
        f"(configuration: {path}) ..."
    )
    grids: list[Grid] = []

    async def prepare(period: Period) -> LiveInputs:
        requests = demo_fleet.traffic(loaded.fleet.priors, period, seed)
        grids.append(await replay_sources(loaded, period))
        return LiveInputs(requests, grids[0].actual)

    async def show(view: LiveView) -> None:
        console.print(
            f"Watch it in a browser while it runs: http://127.0.0.1:{admin}/", highlight=False
        )
        progress = DayProgress(loaded.fleet, view.period, view.offered, view.counts, view.watch)
        async with asyncio.TaskGroup() as shown:
            shown.create_task(recorder.run())
            shown.create_task(progress.run(console, view.start))

    recorder = ConsoleRecorder(f"http://127.0.0.1:{admin}")
    options = CallOptions(_DEADLINE_S, demo_fleet.STREAM_EVERY)
    done = await run_live(
        LiveRunSpec(loaded, demo_fleet.period(seconds), options, prepare, show), out
    )
    recorder.write(out / RECORDING)
    return LiveDay(
        loaded, done.period, done.inputs.requests, grids[0], done.counts, done.readings, done.drawn,
        done.cpu_s, recorder.problem,
    )  # fmt: skip
