"""What is shown while the day passes: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from router.lab.loopback.client import CallerCounts
from router.lab.loopback.watch import GridWatch
from router.lab.replay.records import percentile
from router.lab.replay.timed import Period
from router.model import Fleet

_FRAME_S = 0.25
_LINES = 12
_RECENT = 300
_BAR = 30


class DayProgress:
    """Looks at the callers' counts and the gateway's grid, and draws both."""

    def __init__(
        self, fleet: Fleet, period: Period, offered: int, counts: CallerCounts, grid: GridWatch
    ) -> None:
        self._fleet = fleet
        self._period = period
        self._offered = offered
        self._counts = counts
        self._grid = grid

    async def run(self, console: Console, start: float) -> None:
        """Draw until cancelled; ``start``: loop seconds of the day's beginning."""
        loop = asyncio.get_running_loop()
        if not console.is_terminal:
            while True:
                await asyncio.sleep(self._period.seconds / _LINES)
                console.print(self.line(loop.time() - start), highlight=False)
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self.frame(loop.time() - start), refresh=True)
                await asyncio.sleep(_FRAME_S)

    def line(self, at_s: float) -> str:
        """One line: the time of the day, what was answered, where it goes now."""
        counts = self._counts
        recent = Counter(record.region for record in counts.records[-_RECENT:])
        places = ", ".join(
            f"{name} {count / max(1, recent.total()):.0%}" for name, count in recent.most_common(3)
        )
        return (
            f"{self._clock(at_s)}  {len(counts.records)}/{self._offered} answered, "
            f"{counts.in_flight} in flight, {counts.refused.total()} refused; now: {places}"
        )

    def frame(self, at_s: float) -> Group:
        """The table of this moment."""
        counts = self._counts
        recent = counts.records[-_RECENT:]
        shares = Counter(record.region for record in recent)
        reading = self._grid.readings[-1] if self._grid.readings else None
        table = Table(title=f"{self._clock(at_s)}, emulated fleet", title_justify="left")
        for name in ("region", "grid zone", "g/kWh now", "known as", "share now", ""):
            table.add_column(
                name, justify="right" if name in ("g/kWh now", "share now") else "left"
            )
        known = reading.g_per_kwh if reading else {}
        greenest = min(known.values(), default=math.nan)
        for name, region in self._fleet.regions.items():
            value = known.get(name, math.nan)
            share = shares[name] / max(1, len(recent))
            table.add_row(
                name,
                region.grid_zone,
                Text(f"{value:.0f}", style="bold green" if value == greenest else ""),
                reading.kinds.get(name, "") if reading else "",
                f"{share:.0%}",
                Text("█" * round(share * _BAR), style="green" if value == greenest else "cyan"),
            )
        e2e = sorted(record.e2e_ms for record in recent)
        met = sum(record.met for record in recent) / max(1, len(recent))
        grams = math.fsum(r.gco2e for r in counts.records if not math.isnan(r.gco2e))
        text = (
            f"{len(counts.records)}/{self._offered} answered, {counts.in_flight} in flight, "
            f"{counts.refused.total()} refused; p95 {percentile(e2e, 0.95):.0f} ms, SLO met "
            f"{met:.1%}; {grams:.1f} gCO2e so far (receipts)"
        )
        return Group(table, Text(text))

    def _clock(self, at_s: float) -> str:
        now = datetime.fromtimestamp(self._period.carbon_time(max(0.0, at_s)), UTC)
        return f"{now:%d %b %Y %H:%M} UTC"
