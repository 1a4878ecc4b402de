"""``carbon-router demo``: a day of carbon in a minute, over real sockets and emulated servers."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from router.extras import missing
from router.lab.loopback.ending import cancel_on_sigterm, conclude, open_console

if TYPE_CHECKING:
    from router.lab.demo.day import Day

DEFAULT_SEED = 20220514
DEFAULT_SEEDS = 5


def run(out: Path, seconds: float, seed: int = DEFAULT_SEED, seeds: int = DEFAULT_SEEDS) -> int:
    """Play the demo into the folder ``out``; an exit code: 0 when the day was played to its end.

    ``seeds``: with how many, from ``seed`` on, it is replayed to split what is saved by cause.
    1 when a process failed, or fewer than half of the requests were answered; what was refused is
    in the report. Nothing is left running, whichever way it ends.
    """
    console = open_console()
    return conclude(
        lambda: asyncio.run(_play(out, seconds, seed, seeds, console)), console, "The demo"
    )


async def _play(out: Path, seconds: float, seed: int, seeds: int, console: Console) -> int:
    cancel_on_sigterm()
    # Imported here: they compile the cost kernel, once and for all, before the clock starts.
    from router.lab.demo import day as demo_day
    from router.lab.demo import report
    from router.lab.demo.live import run_day
    from router.lab.demo.savings import split_day
    from router.lab.loopback.console_recording import tell_recording

    out.mkdir(parents=True, exist_ok=True)
    result = await run_day(out, seconds, seed, console)
    fleet = result.config.fleet
    offered = len(result.requests)
    live = demo_day.settle(result.counts, offered, fleet, result.grid, result.period, result.drawn)
    console.print(f"Replaying the same requests under every policy, then {seeds - 1} more days ...")
    replays = demo_day.replay_all(result.config, result.requests, result.period, result.grid, seed)
    splits = split_day(
        result.config, result.period, result.grid, replays, range(seed, seed + seeds)
    )
    at_once = (r.gco2e for r in result.counts.records if not math.isnan(r.gco2e))
    kinds = {kind for reading in result.readings for kind in reading.kinds.values()}
    day = demo_day.Day(
        fleet=fleet,
        period=result.period,
        requests=result.requests,
        actual=result.grid.actual,
        views=result.grid.views,
        live=live,
        receipts_g=math.fsum(at_once),
        known_as=", ".join(sorted(kinds)),
        replays=replays,
        splits=splits,
        seeds=seeds,
        cpu_s=result.cpu_s,
        wall_s=seconds,
    )
    console.print()
    console.print(report.render(day))
    (out / "results.json").write_text(json.dumps(report.as_json(day), indent=1), encoding="utf-8")
    _plot(day, out / "demo.png", console)
    tell_recording(console, out, result.unrecorded)
    return 0 if 2 * len(live.records) >= offered else 1


def _plot(day: Day, path: Path, console: Console) -> None:
    try:
        from router.lab.demo.plot import draw

        console.print(f"Plot: {draw(day, path)}", highlight=False, soft_wrap=True)
    except ImportError:
        console.print(f"No plot: {missing('it', 'plots')}", markup=False)
