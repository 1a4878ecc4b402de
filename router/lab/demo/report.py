"""The demo's tables. Everything in them was emulated, and says so."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from router.lab.demo import fleet as demo_fleet
from router.lab.demo.day import PRODUCT, Day, by_region, intensity_range
from router.lab.replay.records import Record, RecordedRun, Summary, summarise
from router.lab.study.report.splits import LEGEND, split_table
from router.units import HOUR_S
from router.unknown_figures import or_dash, plain_values

SLO_TOLERANCE = 0.005
BUSY_GAP = 0.03
# An hour of the grid in less time than so many answers takes is too short to drain a replica in.
RUNS_PER_HOUR = 10.0


def render(day: Day) -> RenderableType:
    """Every table and line of the report, in order."""
    return Group(
        _live_table(day),
        _model_table(day),
        _policy_table(day),
        split_table(PRODUCT, day.splits, "emulated, replayed", day.seeds),
        Text(LEGEND, style="dim"),
        *(Text.from_markup(line) for line in (*_same_question(day), *_notes(day))),
    )


def _live_table(day: Day) -> Table:
    summary = day.live.summary()
    table = Table(
        title=f"carbon-first, live: {summary.completed} of {summary.offered} real gRPC requests "
        "answered by emulated servers",
        title_justify="left",
    )
    for name in ("region", "grid zone", "grid g/kWh", "share", "p95 e2e", "J", "mgCO2e", "SLO met"):
        table.add_column(name, justify="left" if name in ("region", "grid zone") else "right")
    grouped = by_region(day.live.records)
    for name, region in day.fleet.regions.items():
        low, high = intensity_range(day, name)
        records = grouped.get(name, [])
        part = summarise(records, len(records))
        share = len(records) / summary.completed if summary.completed else math.nan
        table.add_row(
            name, region.grid_zone, f"{low:.0f}-{high:.0f}", _percent(share), *_figures(part)
        )
    table.add_section()
    table.add_row("all", "", "", "100%" if summary.completed else "-", *_figures(summary))
    table.caption = (
        "Grid: measured (EIA-930), least and greatest hour of the day. Latency and J (GPU and "
        "host, a request): emulated; mgCO2e: J times PUE and the measured intensity while it ran."
    )
    table.caption_justify = "left"
    return table


def _model_table(day: Day) -> Table:
    table = Table(title="The same, by kind of request", title_justify="left")
    for name in ("request", "model", "count", "p95 TTFT", "p95 e2e", "J", "mgCO2e", "SLO met"):
        table.add_column(name, justify="left" if name in ("request", "model") else "right")
    kinds: dict[str, list[Record]] = {}
    models: dict[str, str] = {}
    offered: dict[str, int] = {}
    for timed in day.requests:
        offered[timed.label] = offered.get(timed.label, 0) + 1
        models[timed.label] = timed.request.model
    for record in day.live.records:
        kinds.setdefault(record.label, []).append(record)
    for label, count in offered.items():
        part = summarise(kinds.get(label, []), count)
        table.add_row(
            label, models[label], str(part.completed), _ms(part.ttft_p95_ms), *_figures(part)
        )
    return table


def _policy_table(day: Day) -> Table:
    table = Table(
        title=f"The same {len(day.requests)} requests, replicas and grid under each policy",
        title_justify="left",
    )
    columns = (
        "policy", "done", "SLO met", "p95 e2e", "TPOT p50, p95", "mg/request", "fleet g, idle on",
        "fleet g, idle off",
    )  # fmt: skip
    for name in columns:
        table.add_column(name, justify="left" if name == "policy" else "right")
    # Live, only streamed answers tell their pace, and those are of the small model.
    live = _policy_row(day.live)
    table.add_row(*live[:4], "-", *live[5:])
    table.add_section()
    for run in day.replays:
        table.add_row(*_policy_row(run))
    table.caption = (
        "All emulated. First row: live, fleet energy from the emulated meters. Others: replayed in "
        "virtual time by the same router code. mg/request is attributional; fleet g is "
        "consequential: all that the fleet drew, with idle replicas kept on, or released."
    )
    table.caption_justify = "left"
    return table


def _policy_row(run: RecordedRun) -> list[str]:
    summary = run.summary()
    cells = [or_dash(value, "{:.1f}") for value in _grams(run)]
    pace = f"{or_dash(summary.tpot_p50_ms, '{:.1f}')}, {_ms(summary.tpot_p95_ms)}"
    done = f"{summary.completed}"
    return [run.policy, done, _percent(summary.met, 1), _ms(summary.e2e_p95_ms), pace, *cells]


def _grams(run: RecordedRun) -> tuple[float, float, float]:
    """Milligrams a request; grams of the fleet with idle replicas kept on, and released."""
    per_request_mg = run.summary().g_per_request * 1e3
    if run.fleet is None:
        return per_request_mg, math.nan, math.nan
    return per_request_mg, run.fleet.total_g, run.fleet.busy_g


def _same_question(day: Day) -> list[str]:
    """What the same prompt emitted by place and hour."""
    asked = [record for record in day.live.records if record.label == demo_fleet.SAME]
    if not asked:
        return []
    least = min(asked, key=lambda record: record.gco2e)
    most = max(asked, key=lambda record: record.gco2e)
    lines = [
        f"[bold]The same question by place and hour[/bold] ({demo_fleet.SMALL}, "
        f"{demo_fleet.SAME_TOKENS} tokens, asked {len(asked)} times): least "
        f"{_asked(day, least)}; most {_asked(day, most)}."
    ]
    nearest = next((run for run in day.replays if run.policy == "latency-first"), None)
    elsewhere = [r.gco2e for r in (nearest.records if nearest else ()) if r.label == least.label]
    if elsewhere:
        lines.append(
            f"Under latency-first (replayed) the same questions emit {min(elsewhere) * 1e3:.2f} to "
            f"{max(elsewhere) * 1e3:.2f} mg."
        )
    ranges = {name: intensity_range(day, name) for name in day.fleet.regions}
    clean = min(ranges, key=lambda name: ranges[name][0])
    dirty = max(ranges, key=lambda name: ranges[name][1])
    ratio = ranges[dirty][1] / ranges[clean][0]
    virginia = ranges.get("west-virginia")
    text = (
        f"The grid alone: the same joules emit {ratio:.1f} times as much in {dirty} at its worst "
        f"hour as in {clean} at its best"
    )
    if virginia is not None:
        text += f", and {virginia[1] / ranges[clean][0]:.1f} times as much in west-virginia"
    return [*lines, f"{text}."]


def _asked(day: Day, record: Record) -> str:
    hour = datetime.fromtimestamp(day.period.carbon_time(record.at_s), UTC)
    return (
        f"[bold]{record.gco2e * 1e3:.2f} mg[/bold] in {record.region} at {hour:%H:%M} UTC "
        f"({record.energy_j:.0f} J)"
    )


def _notes(day: Day) -> list[str]:
    at_once, settled = day.receipts_g, day.live.summary().gco2e
    refused = sum(day.live.refused.values())
    lines = [
        f"Receipts said {at_once:.2f} g at once, the grid known as {day.known_as}; settled at the "
        f"measured intensity it was {settled:.2f} g ({at_once / settled - 1.0:+.1%})."
        if settled
        else "No request was answered.",
    ]
    lines += _short_hours(day)
    if refused:
        reasons = ", ".join(f"{count} {reason}" for reason, count in day.live.refused.items())
        lines.append(f"[red]Refused live: {escape(reasons)}.[/red]")
    if _met(day.replays[0]) - _met(day.live) > BUSY_GAP:
        lines.append(
            "[yellow]Live met fewer budgets than its replay: this machine was too busy to keep "
            "time. Compare the replayed rows.[/yellow]"
        )
    lines += _unequal(day)
    busy = ", ".join(f"{name} {cpu:.0f} s" for name, cpu in day.cpu_s.items())
    lines.append(f"CPU time in {day.wall_s:.0f} s of wall time: {busy}.")
    return lines


def _short_hours(day: Day) -> list[str]:
    """That hours pass too fast here for what following them would save, where they do."""
    hour_s, run_s = HOUR_S / day.period.speed, day.replays[0].summary().e2e_p95_ms / 1e3
    if not hour_s < RUNS_PER_HOUR * run_s:
        return []
    return [
        f"An hour of the grid lasts {hour_s:.1f} s here and an answer up to {run_s:.1f} s (p95): "
        "what still runs where the traffic has left costs what following the hours would save. A "
        "slower day (--seconds 600) shows more of it."
    ]


def _met(run: RecordedRun) -> float:
    """Share of the offered requests that were answered within their budgets."""
    return run.summary().met


def _unequal(day: Day) -> list[str]:
    """Rows that did less work or met fewer budgets than the product: their grams flatter them."""
    product = day.replays[0].summary()
    found = []
    for run in day.replays[1:]:
        summary = run.summary()
        if summary.completed < product.completed or summary.met < product.met - SLO_TOLERANCE:
            found.append(
                f"[yellow]{run.policy} answered {summary.completed} and met {summary.met:.1%}: "
                "not the same work, so compare its grams with care.[/yellow]"
            )
    return found


def _figures(part: Summary) -> list[str]:
    return [
        _ms(part.e2e_p95_ms),
        or_dash(part.j_per_request, "{:.0f}"),
        or_dash(part.g_per_request * 1e3, "{:.1f}"),
        _percent(part.met, 1),
    ]


def _ms(value: float) -> str:
    return or_dash(value, "{:.0f} ms")


def _percent(value: float, digits: int = 0) -> str:
    return or_dash(value * 100.0, f"{{:.{digits}f}}%")


def as_json(day: Day) -> dict[str, Any]:
    """The report's figures, for machines. Joules and grams of emulated servers."""
    return {
        "emulated": True,
        "carbon_start_unix_s": day.period.carbon_start,
        "carbon_speed": day.period.speed,
        "regions": {
            name: {
                "grid_zone": region.grid_zone,
                "g_per_kwh_min_max": intensity_range(day, name),
                "share": day.live.shares().get(name, 0.0),
            }
            for name, region in day.fleet.regions.items()
        },
        "saving_split": plain_values(day.splits),
        "seeds_of_split": day.seeds,
        "runs": [_run_json(run) for run in (day.live, *day.replays)],
        "cpu_s": dict(day.cpu_s),
        "wall_s": day.wall_s,
    }


def _run_json(run: RecordedRun) -> dict[str, Any]:
    fleet = None if run.fleet is None else asdict(run.fleet)
    return {
        "policy": run.policy,
        **plain_values(run.summary()),
        "refused": dict(run.refused),
        "shares": run.shares(),
        "fleet": fleet,
    }
