"""The demo's picture: the grid over the day, where the traffic went, grams by policy."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from router.lab.demo.day import Day
from router.units import HOUR_S

_SIZE_IN = (10.0, 10.5)
_DPI = 130


def draw(day: Day, path: Path) -> Path:
    """Write the PNG; its path. Raises ImportError without matplotlib (extra ``plots``)."""
    # Heavy, optional, and the Agg backend needs no display.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (grid, traffic, grams) = pyplot.subplots(
        3, 1, figsize=_SIZE_IN, height_ratios=[1.0, 1.0, 1.1], layout="constrained"
    )
    names = list(day.fleet.regions)
    colors = {name: f"C{number}" for number, name in enumerate(names)}
    _draw_grid(grid, day, colors)
    _draw_traffic(traffic, day, colors)
    _draw_grams(grams, day)
    started = datetime.fromtimestamp(day.period.carbon_start, UTC)
    figure.suptitle(
        f"carbon-router demo, emulated fleet, grid of {started:%d %B %Y} (measured, EIA-930)"
    )
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)
    return path


def _edges(day: Day) -> list[float]:
    """Wall seconds that bound the hours of the carbon clock."""
    return [0.0, *day.period.boundaries()]


def _hour(day: Day, at_s: float) -> float:
    """Hours of the carbon clock since the start."""
    return at_s * day.period.speed / HOUR_S


def _ticks(axes: Any, day: Day) -> None:
    hours = range(0, 25, 3)
    axes.set_xticks(list(hours))
    start = day.period.carbon_start
    axes.set_xticklabels(
        [f"{datetime.fromtimestamp(start + hour * HOUR_S, UTC):%H:%M}" for hour in hours]
    )
    axes.set_xlim(0.0, _hour(day, day.period.seconds))
    axes.set_xlabel("UTC")


def _draw_grid(axes: Any, day: Day, colors: dict[str, str]) -> None:
    edges = _edges(day)
    for name, region in day.fleet.regions.items():
        forecast = day.actual[region.grid_zone]
        values = [
            forecast.at(day.period.carbon_time((left + right) / 2.0)).g_per_kwh
            for left, right in pairwise(edges)
        ]
        hours = [_hour(day, edge) for edge in edges]
        axes.stairs(
            values,
            hours,
            label=f"{name} ({region.grid_zone})",
            color=colors[name],
            lw=2,
            baseline=None,
        )
        known_hours, known = nowcast(day, region.grid_zone)
        axes.stairs(known, known_hours, color=colors[name], lw=1, ls="--", baseline=None)
    axes.set_ylabel("grid, gCO2e/kWh")
    axes.set_ylim(bottom=0.0)
    axes.set_title(
        "Grid carbon intensity (average, life-cycle): measured, and dashed what the router took it "
        "for (forecast)\nWhere dashed lines cross and the others do not, traffic moves for nothing",
        loc="left", fontsize="medium",
    )  # fmt: skip
    axes.legend(fontsize="small", ncols=3, loc="lower left")
    _ticks(axes, day)


def nowcast(day: Day, grid_zone: str) -> tuple[list[float], list[float]]:
    """What a router took the intensity for: edges in hours since the start, and g/kWh between.

    NaN where no source knew the grid zone.
    """
    edges = [*(_hour(day, view.at_s) for view in day.views), _hour(day, day.period.seconds)]
    values = []
    for view in day.views:
        forecast = view.forecasts.get(grid_zone)
        now = day.period.carbon_time(view.at_s)
        values.append(math.nan if forecast is None else forecast.at(now).g_per_kwh)
    return edges, values


def _draw_traffic(axes: Any, day: Day, colors: dict[str, str]) -> None:
    edges = _edges(day)
    spans = list(pairwise(edges))
    hours = [_hour(day, (left + right) / 2.0) for left, right in spans]
    shares = {name: [0.0] * len(spans) for name in colors}
    slot = 0
    for record in sorted(day.live.records, key=lambda record: record.at_s):
        while slot < len(spans) - 1 and record.at_s >= spans[slot][1]:
            slot += 1
        if record.region in shares:
            shares[record.region][slot] += 1.0
    totals = [sum(column) or 1.0 for column in zip(*shares.values(), strict=True)]
    stacked = [[c / total for c, total in zip(counts, totals, strict=True)]
               for counts in shares.values()]  # fmt: skip
    # Carried to the edges of the day: the first and last hour have no neighbour to slope to.
    wide = [0.0, *hours, _hour(day, edges[-1])]
    axes.stackplot(
        wide,
        *[[row[0], *row, row[-1]] for row in stacked],
        labels=list(shares),
        colors=[colors[name] for name in shares],
    )
    axes.set_ylim(0.0, 1.0)
    axes.set_ylabel("share of requests")
    axes.set_title("Where carbon-first sent the traffic (live, emulated servers)", loc="left")
    _ticks(axes, day)


def _draw_grams(axes: Any, day: Day) -> None:
    runs = [run for run in (day.live, *day.replays) if run.fleet is not None]
    rows = list(range(len(runs)))[::-1]
    busy = [run.fleet.busy_g for run in runs if run.fleet is not None]
    idle = [run.fleet.idle_g for run in runs if run.fleet is not None]
    axes.barh(rows, busy, color="tab:green", label="serving")
    axes.barh(rows, idle, left=busy, color="lightgrey", hatch="//", edgecolor="white",
              label="idle replicas kept on")  # fmt: skip
    for row, run, first, second in zip(rows, runs, busy, idle, strict=True):
        met = run.summary().met
        axes.text(first + second, row, f"  {first + second:.0f} g, SLO {met:.1%}", va="center")
    axes.set_yticks(rows)
    axes.set_yticklabels([run.policy for run in runs])
    axes.set_xlim(0.0, 1.3 * max(b + i for b, i in zip(busy, idle, strict=True)))
    axes.set_xlabel("gCO2e of the whole fleet over the day (PUE included)")
    axes.set_title(
        "The same requests under each policy: live above, the others replayed", loc="left"
    )
    axes.legend(fontsize="small", loc="lower right")
