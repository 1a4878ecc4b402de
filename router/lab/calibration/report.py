"""A comparison in the terminal."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.lab.calibration.comparison import Comparison
from router.lab.calibration.figures import Check, RegionFigures, Row
from router.unknown_figures import or_dash

_STYLES = {"within": "bold green", "outside": "bold red", "inconclusive": "bold yellow"}


def render(comparison: Comparison) -> RenderableType:
    """Every table and line, in order."""
    return Group(
        _regions(comparison),
        _checks(comparison),
        *(Text(note) for note in comparison.notes),
        *_lines(comparison),
        _verdict(comparison),
    )


def _regions(comparison: Comparison) -> Table:
    table = Table(
        title=f"{comparison.scenario} under {comparison.policy}: live / simulated",
        title_justify="left",
    )
    table.add_column("region")
    for name in (
        "share, %", "TTFT p50, ms", "TTFT p95, ms", "e2e p50, ms", "e2e p95, ms", "J a request",
        "gCO2e",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for row in comparison.rows:
        if row.name == "all":
            table.add_section()
        table.add_row(row.name, *_cells(row))
    table.caption = (
        "Live: the real gateway and callers on loopback, emulated model servers. Simulated: the "
        "same requests on a virtual clock. J: attributional, GPU and host, emulated; gCO2e: times "
        "PUE and the intensity that the scenario's file has for the time it ran."
    )
    table.caption_justify = "left"
    return table


def _cells(row: Row) -> list[str]:
    live, simulated = _shown(row.live), _shown(row.simulated)
    return ["-" if a == b == "-" else f"{a} / {b}" for a, b in zip(live, simulated, strict=True)]


def _shown(one: RegionFigures) -> list[str]:
    return [
        f"{one.share:.1%}".removesuffix("%"),
        *(or_dash(ms, "{:.0f}") for ms in (one.ttft_p50_ms, one.ttft_p95_ms)),
        *(or_dash(ms, "{:.0f}") for ms in (one.e2e_p50_ms, one.e2e_p95_ms)),
        or_dash(one.energy_j / one.answered if one.answered else math.nan, "{:.0f}"),
        or_dash(one.gco2e, "{:.4g}"),
    ]


def _checks(comparison: Comparison) -> Table:
    table = Table(title="Held to", title_justify="left")
    table.add_column("figure")
    for name in ("live", "simulated", "its draws", "difference", "without", "tolerance"):
        table.add_column(name, justify="right")
    table.add_column("")
    shares = comparison.checks[: len(comparison.rows) - 1]
    furthest = max(shares, key=lambda check: (not check.ok, abs(check.difference)))
    unaware = {check.what: check for check in comparison.unaware}
    for check in (furthest, *comparison.checks[len(shares) :]):
        style = "green" if check.ok else "red"
        text = Text("ok" if check.ok else "outside", style=style)
        table.add_row(*_check_cells(check, unaware[check.what]), text)
    table.caption = (
        f"Share: the furthest off of {len(shares)} regions. Its draws: least and greatest of "
        f"{comparison.draws} simulations that draw near-ties differently; the live run is one more "
        "such draw."
    )
    table.caption_justify = "left"
    return table


def _check_cells(check: Check, unaware: Check) -> list[str]:
    def shown(value: float) -> str:
        if check.unit:
            return or_dash(value, "{:.4g}" if abs(value) < 1e4 else "{:.0f}")
        return or_dash(value * 100.0, "{:.1f}")

    scale = "%" if check.unit else " points"
    return [
        f"{check.what}, {check.unit or '%'}",
        shown(check.live),
        shown(check.simulated),
        f"{shown(check.low)} .. {shown(check.high)}",
        or_dash(check.difference * 100.0, "{:+.1f}") + scale,
        or_dash(unaware.difference * 100.0, "{:+.1f}") + scale,
        f"{check.tolerance * 100.0:.0f}{scale}",
    ]


def _lines(comparison: Comparison) -> list[Text]:
    live, simulated = comparison.live, comparison.simulated
    lines = [
        f"Fleet, idle replicas kept on: live {live.fleet.busy_g:.2f} g serving and "
        f"{live.fleet.idle_g:.2f} g idle, simulated {simulated.fleet.busy_g:.2f} and "
        f"{simulated.fleet.idle_g:.2f} (emulated meters). Receipts said "
        f"{comparison.receipts_gco2e:.2f} g at once, from what was known of the grids.",
    ]
    for who, side in (("live", live), ("simulated", simulated)):
        if side.refused:
            reasons = ", ".join(f"{count} {reason}" for reason, count in side.refused.items())
            lines.append(f"Without an answer, {who}: {reasons}.")
    if not comparison.known_off_g_per_kwh <= 0.5:
        lines.append(
            f"The gateway's view of a grid was up to {comparison.known_off_g_per_kwh:.0f} g/kWh "
            "off the scenario's signal for a moment."
        )
    path, added_ms = comparison.path, comparison.rows[-1].added_ms
    lines.append(
        f"Loopback: {path.probes} probes past the gateway took {or_dash(path.p50_ms, '{:.1f}')} ms "
        f"longer than emulated at the median ({or_dash(path.p95_ms, '{:.1f}')} ms for 5 %). The "
        f"simulation is given {path.delay_ms:.1f} ms as a delay of every path, which its router "
        "has to learn as the live one does; without: without it."
    )
    lines.append(
        f"Beyond that, live, a first token took {or_dash(added_ms, '{:.1f}')} ms longer at the "
        "median: the gateway's own time, and this machine's."
    )
    machine = comparison.machine
    used = ", ".join(f"{name} {share:.0%}" for name, share in machine.cpu.items())
    lines.append(
        f"Machine: the callers woke up at most {machine.callers_lag_ms[1]:g} ms late 95 % of the "
        f"time, the emulated servers {machine.servers_lag_ms[1]:g} ms; CPU of one core: {used}."
    )
    return [Text(line) for line in lines]


def _verdict(comparison: Comparison) -> Text:
    verdict = comparison.verdict
    outside = [check.what for check in comparison.checks if not check.ok]
    text = "Within tolerance: the simulation tells what the gateway does."
    if verdict == "outside":
        text = f"Outside tolerance: {', '.join(outside)}."
    elif verdict == "inconclusive":
        why = "; ".join(comparison.shortcomings)
        text = f"No conclusion ({', '.join(outside)} outside tolerance): {why}."
    return Text(text, style=_STYLES[verdict])
