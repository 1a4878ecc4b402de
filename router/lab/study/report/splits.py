"""The split of savings as people read it: one table for the terminal, two for the page.

A row for each order of `router.lab.study.causes`, and one where both come to the same. With several
seeds a figure has the half width of its 90 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.lab.study.attribution import (
    CHOSEN_IN_BOTH,
    IN_BOTH,
    NO_ALIASES,
    NOT_CONFIGURED,
    NOTHING_WAITS,
)
from router.lab.study.causes import ChainOrder, SavingCause
from router.lab.study.report.units import percent

TITLES: Final = {cause: str(cause).replace("_", " ") for cause in SavingCause} | {
    SavingCause.SCALE_DOWN: "scale-down"
}
ORDER_TITLES: Final = {
    ChainOrder.PACKING_FIRST: "packing first",
    ChainOrder.PACKING_LAST: "packing last",
}
PACE_TITLE: Final = "TPOT p50, p95"
LEGEND: Final = (
    "saves: share of the baseline's gCO2e of the whole fleet per completed request; by cause: one "
    "thing changed at a time, packing counted first, then last (docs/simulate.md); TPOT: time per "
    "output token of a request, the baseline's -> this policy's; * not at equal work"
)


def split_table(asked: str, splits: Mapping[str, Any], how: str, seeds: int) -> RenderableType:
    """What ``asked`` saves against each baseline, by cause. ``splits``: of `attribution.split`."""
    many = f"mean of {seeds} seeds with its 90 % interval" if seeds > 1 else "one seed: no interval"
    table = Table(
        box=None, pad_edge=False, header_style="bold", title_justify="left", title_style="bold",
        title=f"What {asked} saves, and what by ({how}; {many})",
    )  # fmt: skip
    shown = [cause for cause in SavingCause if any(cause not in one["absent"] for one in
             splits.values())]  # fmt: skip
    table.add_column("against", no_wrap=True)
    table.add_column("order", no_wrap=True)
    for title in ("saves", *(TITLES[cause] for cause in shown), PACE_TITLE):
        table.add_column(title, justify="right", no_wrap=True)
    for baseline, one in splits.items():
        for row in split_rows(baseline, one, shown):
            table.add_row(*row)
    return Group(table, Text("; ".join(absent_words(splits)), style="dim"))


def absent_words(splits: Mapping[str, Any]) -> list[str]:
    """Of each cause that no row can have, why: "which model: no aliases in this scenario"."""
    reasons = [one["absent"] for one in splits.values()]
    return [
        f"{TITLES[cause]}: {reasons[0][cause]}"
        for cause in SavingCause
        if reasons and all(cause in one for one in reasons)
    ]


def split_rows(
    baseline: str,
    split: Mapping[str, Any],
    causes: Sequence[SavingCause],
    kind: str = "consequential",
) -> list[tuple[str, ...]]:
    """One for each order, or one for both: baseline, order, total, each of ``causes``, TPOT."""
    star = "" if split["equal_work"] else " *"
    total = with_interval(split["total"][kind]) + star
    baseline += quality_words(split.get("quality_of_baseline"), split.get("quality"))
    pace = _pace(split["tpot_ms_of_baseline"], split["tpot_ms"])
    cells = {
        title: [cause_cell(split, cause, order, kind) for cause in causes]
        for order, title in ORDER_TITLES.items()
    }
    first, last = cells.values()
    if first == last:
        return [(baseline, "either", total, *first, pace)]
    titles = [_order_title(split, order) for order in ChainOrder]
    return [(baseline, titles[0], total, *first, pace), ("", titles[1], "", *last, "")]


def _order_title(split: Mapping[str, Any], order: ChainOrder) -> str:
    """Of a policy against itself: what is counted first, so what that is worth alone."""
    causes = [SavingCause(step["cause"]) for step in split[str(order)]["steps"]]
    alone = causes and set(causes) <= {SavingCause.WAITING, SavingCause.WHICH_MODEL}
    return f"{TITLES[causes[0]]} first" if alone else ORDER_TITLES[order]


def quality_words(before: float | None, after: float | None) -> str:
    """Beside grams, where a scenario has aliases: the mean quality, before and after; "" of one
    that has none, and of a summary that was written before there were any."""
    if before is None or after is None or math.isnan(before + after):
        return ""
    return f" (quality {before:.3f} -> {after:.3f})"


def cause_cell(
    split: Mapping[str, Any], cause: SavingCause, order: ChainOrder, kind: str = "consequential"
) -> str:
    """What a cause saved, or why there is nothing."""
    reason: str | None = split["absent"].get(cause)
    if reason is not None:
        return SHORT.get(reason, reason)
    return with_interval(split[str(order)][str(cause)][kind])


SHORT: Final = {
    NOT_CONFIGURED: "not configured",
    NO_ALIASES: "no aliases",
    IN_BOTH: "in both",
    CHOSEN_IN_BOTH: "in both",
    NOTHING_WAITS: "nothing may",
}
"""What stands in a narrow cell for why a cause saved nothing."""


def with_interval(found: Mapping[str, float]) -> str:
    """A share as per cent, with the half width of its interval where there is one."""
    mean, high = found["mean"], found["high"]
    # A zero has no sign.
    text = percent(mean).replace("-0.0 %", "0.0 %")
    return text if math.isnan(high) else f"{text.removesuffix(' %')} ±{percent(high - mean)}"


def _pace(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """p50 and p95, ms, before and after; "-" where there is none (flows, or nothing answered)."""
    values = [*before.values(), *after.values()]
    if any(math.isnan(value) for value in values):
        return "-"
    return "{:.1f}, {:.1f} -> {:.1f}, {:.1f} ms".format(*values)


def how(summary: Mapping[str, Any]) -> str:
    """How all of it came to be, in a word or two: where requests wait, by more than an engine."""
    if summary["mode"] == "fluid":
        return "estimated as flows"
    return "estimated" if summary.get("demand", {}).get("may_wait") else "emulated"


def split_words(split: Mapping[str, Any]) -> str:
    """Such as "packing 1.5 to 20.4 %, where 13.6 to 28.1 %, when 0.3 %": of causes that changed
    anything, over both orders.
    """
    found = []
    for cause in SavingCause:
        if cause not in split["absent"]:
            means = [split[str(order)][str(cause)]["consequential"]["mean"] for order in ChainOrder]
            if not any(means):
                continue
            low, high = (percent(mean).replace("-0.0 %", "0.0 %") for mean in sorted(means))
            both = high if low == high else f"{low.removesuffix(' %')} to {high}"
            found.append(f"{TITLES[cause]} {both}")
    return ", ".join(found)


def split_page(summary: Mapping[str, Any]) -> str:
    """Savings by cause on the page: totals, then every step of every chain."""
    seeds = len(summary["scenario"]["seeds_of_split"])
    parts = []
    for name in summary["asked"]:
        splits = summary["policies"][name]["saving_split"]
        parts.append(_totals(name, splits, how(summary), seeds) + _steps(name, splits))
    return "".join(parts)


def _totals(name: str, splits: Mapping[str, Any], how: str, seeds: int) -> str:
    titles = ("against", "order", "saves", *TITLES.values(), PACE_TITLE)
    many = f"mean of {seeds} seeds, ± half of its 90 % interval" if seeds > 1 else "one seed"
    caption = (
        f"Shares of the baseline's grams per completed request, {how}; {many}. Causes overlap, so "
        "packing is counted first, and last. Negative: it cost. * not at equal work."
    )
    parts = [f"<h2>What {escape(name)} saves, and what by</h2><p>{escape(caption)}</p>"]
    for title, kind in (
        ("Of the fleet (consequential)", "consequential"),
        ("Of the requests (attributional)", "attributional"),
    ):
        rows = [
            row
            for baseline, one in splits.items()
            for row in split_rows(baseline, one, tuple(SavingCause), kind)
        ]
        parts.append(f"<p>{title}</p>{_html(titles, rows)}")
    return "".join(parts)


def _steps(name: str, splits: Mapping[str, Any]) -> str:
    titles = ("against", "order", "cause", "from", "to", "fleet", "attributional", PACE_TITLE,
              "equal work")  # fmt: skip
    rows = []
    for baseline, split in splits.items():
        for order, title in ORDER_TITLES.items():
            for step in split[str(order)]["steps"]:
                quality = quality_words(step.get("quality_before"), step.get("quality_after"))
                rows.append((
                    baseline, title, TITLES[SavingCause(step["cause"])], step["from"],
                    step["to"] + quality,
                    percent(step["consequential"], 2), percent(step["attributional"], 2),
                    _pace(step["tpot_ms_before"], step["tpot_ms_after"]),
                    "yes" if step["equal_work"] else "no",
                ))  # fmt: skip
    return (
        f"<details><summary>Every step of it, of {escape(name)}, first seed</summary>"
        f"{_html(titles, rows)}</details>"
    )


def _html(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
