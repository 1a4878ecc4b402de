"""A study in the terminal: progress while it runs (silent in a pipe), then tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from router.lab.study.execute import TaskProgress
from router.lab.study.report.distances import distance_table
from router.lab.study.report.splits import LEGEND, how, split_table
from router.lab.study.report.units import grams, milliseconds, percent, signed_percent
from router.units import HOUR_S

_COLUMNS = (
    "policy", "done", "SLO met", "p95 TTFT", "p95 e2e", "gCO2e", "over bound", "fleet gCO2e",
    "over bound", "moved/update",
)  # fmt: skip


@contextmanager
def progress_bars() -> Iterator[TaskProgress]:
    """A bar a policy on stderr while a study runs; nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        tasks: list[TaskID] = []

        def begin(names: Sequence[str]) -> None:
            tasks.extend(bars.add_task(name, total=1.0) for name in names)

        def show(shares: Sequence[float]) -> None:
            for task, share in zip(tasks, shares, strict=True):
                bars.update(task, completed=share)

        yield TaskProgress(begin, show)


def render(summary: Mapping[str, Any]) -> RenderableType:
    """Every policy's figures, savings of the asked ones, and what is to be known of them."""
    scenario, policies = summary["scenario"], summary["policies"]
    head = (
        f"{scenario['name']}: {summary['demand']['requests']:,} requests from {scenario['start']}, "
        f"{scenario['duration_s'] / HOUR_S:g} h, seed {scenario['seed']}; "
        f"everything {how(summary)}, grid: {_grid(summary)}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(_COLUMNS[0], no_wrap=True)
    asked = summary["asked"]
    for title in _COLUMNS[1:]:
        table.add_column(title, justify="right", no_wrap=True)
    sized = any(figures["variants"] for figures in policies.values())
    if sized:
        table.add_column("quality", justify="right", no_wrap=True)
    for name, figures in policies.items():
        quality = [f"{figures['mean_quality']:.3f}"] if sized else []
        table.add_row(*_row(name, figures), *quality, style="bold" if name in asked else "")
    seeds = len(scenario["seeds_of_split"])
    splits = [
        split_table(name, policies[name]["saving_split"], how(summary), seeds) for name in asked
    ]
    notes = [Text(line, style="yellow") for line in warnings(summary)]
    lines = [Text(f"note: {note}", style="dim") for note in summary["notes"]]
    lines += [Text(notice, style="dim") for notice in summary["notices"]]
    legend = (
        "gCO2e: attributional, of the requests; fleet: consequential, idle replicas included; "
        "over bound: above the clairvoyant lower bound (estimated)"
    )
    dim = [Text(text, style="dim") for text in (legend, LEGEND)]
    distances = distance_table(summary)
    between = [distances] if distances else []
    return Group(Text(head, style="bold"), table, *between, *splits, *notes, *dim, *lines)


def _grid(summary: Mapping[str, Any]) -> str:
    file = next(one["file"] for one in summary["scenario"]["files"] if one["role"] == "carbon.file")
    return f"{file}, {summary['carbon_signal']['basis']}, {summary['carbon_signal']['factors']}"


def _row(name: str, figures: Mapping[str, Any]) -> list[str]:
    regret = figures["regret"]
    sign = "" if regret["valid"] else "*"
    return [
        name,
        f"{figures['completed']:,}",
        percent(figures["slo_attainment"], 2),
        milliseconds(figures["ttft_ms"]["p95"]),
        milliseconds(figures["e2e_ms"]["p95"]),
        grams(figures["gco2e_attributional"]),
        signed_percent(regret["attributional"]) + sign,
        grams(figures["gco2e_consequential"]),
        signed_percent(regret["consequential"]) + sign,
        percent(figures["moved_share"]["mean"]),
    ]


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """Where a figure must not be read at face value."""
    found = []
    for name, figures in summary["policies"].items():
        lost = figures["shed"] + figures["failed"]
        if lost:
            reasons = ", ".join(f"{n:,} {why}" for why, n in figures["shed_reasons"].items())
            also = f"{figures['failed']:,} lost with their replica" if figures["failed"] else ""
            detail = "; ".join(part for part in (reasons, also) if part)
            found.append(f"{name}: {lost:,} of {figures['requests']:,} not answered ({detail})")
        relaxed = {rung: n for rung, n in figures["relaxed"].items() if n}
        if relaxed:
            detail = ", ".join(f"{rung} {n:,} times" for rung, n in relaxed.items())
            found.append(f"{name}: nothing was feasible, so the ladder dropped: {detail}")
        if not figures["regret"]["valid"]:
            found.append(
                f"* {name}: not all of the work, or not within its budgets: its grams may lie "
                "below what the work costs"
            )
    for name in summary["asked"]:
        found += _unequal(name, summary["policies"][name]["saving_against"])
    return found


def _unequal(name: str, savings: Mapping[str, Any]) -> list[str]:
    found = []
    for other, saved in savings.items():
        if saved["equal_work"] and saved["other_did_equal_work"]:
            continue
        found.append(
            f"* {name} against {other} is no saving at equal work: completed "
            f"{percent(saved['completed_share'], 2)} and {percent(saved['slo_attainment'], 2)} "
            f"within budgets, against {percent(saved['completed_share_of_other'], 2)} and "
            f"{percent(saved['slo_attainment_of_other'], 2)}"
        )
    return found
