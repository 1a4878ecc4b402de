"""The demo's run: its fleet and its day on the loopback stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from router.app.loading import load
from router.config import Config
from router.lab.demo import fleet as demo_fleet
from router.lab.demo.grid import Grid, play
from router.lab.demo.progress import Progress
from router.lab.loopback.children import free_ports
from router.lab.loopback.client import Manner, Outcome
from router.lab.loopback.stage import Cast, Play, Scene, perform
from router.lab.loopback.watch import Sight
from router.lab.replay.records import FleetEnergy
from router.lab.replay.timed import Period, TimedRequest

_DEADLINE_S = 60.0


class Played(NamedTuple):
    """What is left when the processes are down."""

    config: Config
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
    loaded = load(path)
    console.print(
        f"Starting {len(loaded.fleet.endpoints)} emulated model servers and the gateway "
        f"(configuration: {path}) ..."
    )
    grids: list[Grid] = []

    async def cast(period: Period) -> Cast:
        requests = demo_fleet.traffic(loaded.fleet.priors, period, seed)
        grids.append(await play(loaded, period))
        return Cast(requests, grids[0].actual)

    async def show(scene: Scene) -> None:
        progress = Progress(loaded.fleet, scene.period, scene.offered, scene.outcome, scene.watch)
        await progress.run(console, scene.start)

    manner = Manner(_DEADLINE_S, demo_fleet.STREAM_EVERY)
    done = await perform(Play(loaded, demo_fleet.period(seconds), manner, cast, show), out)
    return Played(
        loaded, done.period, done.cast.requests, grids[0], done.outcome, done.sights, done.drawn,
        done.cpu_s,
    )  # fmt: skip
