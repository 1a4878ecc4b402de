"""``carbon-router demo``: a day of carbon in a minute, over real sockets and emulated servers."""

from __future__ import annotations

import asyncio
import json
import math
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from router.demo.day import Day

DEFAULT_SEED = 20220514
PIPE_COLUMNS = 110
INTERRUPTED, TERMINATED = 130, 143


def run(out: Path, seconds: float, seed: int = DEFAULT_SEED) -> int:
    """Play the demo into the folder ``out``; an exit code: 0 when the day was played to its end.

    1 when a process failed, or fewer than half of the requests were answered; what was refused is
    in the report. Nothing is left running, whichever way it ends.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_COLUMNS)
    try:
        return asyncio.run(_play(out, seconds, seed, console))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except asyncio.CancelledError:
        code = TERMINATED
    console.print("Interrupted; everything that had been started was stopped.")
    return code


async def _play(out: Path, seconds: float, seed: int, console: Console) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    # Imported here: they compile the cost kernel, once and for all, before the clock starts.
    from router.demo import day as demo_day
    from router.demo import report, stage

    out.mkdir(parents=True, exist_ok=True)
    try:
        played = await stage.play_day(out, seconds, seed, console)
    except stage.FAILURES as failure:
        for error in stage.leaves(failure):
            text = escape(str(error) or type(error).__name__)
            console.print(f"[red]The demo failed:[/red] {text}", highlight=False)
        return 1
    fleet = played.config.fleet
    offered = len(played.requests)
    live = demo_day.settle(played.outcome, offered, fleet, played.grid, played.period, played.drawn)
    console.print("Replaying the same requests under every policy ...")
    replays = demo_day.replay_all(played.config, played.requests, played.period, played.grid)
    told = (r.gco2e for r in played.outcome.records if not math.isnan(r.gco2e))
    kinds = {kind for sight in played.sights for kind in sight.kinds.values()}
    day = demo_day.Day(
        fleet=fleet,
        period=played.period,
        requests=played.requests,
        actual=played.grid.actual,
        live=live,
        receipts_g=math.fsum(told),
        known_as=", ".join(sorted(kinds)),
        replays=replays,
        cpu_s=played.cpu_s,
        wall_s=seconds,
    )
    console.print()
    console.print(report.render(day))
    (out / "results.json").write_text(json.dumps(report.as_json(day), indent=1), encoding="utf-8")
    _plot(day, out / "demo.png", console)
    return 0 if 2 * len(live.records) >= offered else 1


def _plot(day: Day, path: Path, console: Console) -> None:
    try:
        from router.demo.plot import draw

        console.print(f"Plot: {draw(day, path)}", highlight=False, soft_wrap=True)
    except ImportError:
        console.print("No plot: it needs matplotlib (pip install 'carbon-router[plot]').")
