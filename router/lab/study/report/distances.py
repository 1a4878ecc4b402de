"""What lies between each policy and the bound, as people read it: in the terminal, on the page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.lab.sim.bound.plan import KEPT, KINDS
from router.lab.study.distance import PARTS, REST
from router.lab.study.report.units import grams, percent, signed_percent

_TITLES: Final = {
    "whole_replicas": "whole replicas",
    "prompts": "prompts",
    "chance": "chance",
    REST: "rest",
}
LEGEND: Final = (
    "points over the bound, by what a plan that knows everything has to give up (estimated, "
    "docs/bound.md): whole replicas; prompts read in the iterations of answers; "
    f"{percent(KEPT, 0)} of answers in time though prompts come by chance; the rest is the "
    "policy's, with what the plans leave out"
)


_ACCOUNTS: Final = {"consequential": "the fleet", "attributional": "the requests"}


def distance_table(summary: Mapping[str, Any]) -> RenderableType | None:
    """Of the fleet, a row a policy; None where no plans were asked for."""
    rows = _rows(summary, "consequential")
    if not rows:
        return None
    table = Table(
        box=None, pad_edge=False, header_style="bold", title_justify="left", title_style="bold",
        title="What lies between the bound and each policy, of the fleet (estimated)",
    )  # fmt: skip
    for place, title in enumerate(_header()):
        table.add_column(title, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    lines = [Text(text, style="dim") for text in (*plan_lines(summary), LEGEND)]
    return Group(table, *lines)


def distance_page(summary: Mapping[str, Any]) -> str:
    """Of both accounts, for the page; empty where no plans were asked for."""
    parts = []
    for account, title in _ACCOUNTS.items():
        rows = _rows(summary, account)
        if not rows:
            return ""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in (f"of {title}", *_header()[1:]))
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        parts.append(f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>')
    parts += [f"<p>{escape(line)}</p>" for line in (*plan_lines(summary), LEGEND)]
    return "<h2>What lies between the bound and each policy (estimated)</h2>" + "".join(parts)


def _header() -> tuple[str, ...]:
    return ("policy", "over bound", *(_TITLES[part] for part in (*PARTS, REST)))


def _rows(summary: Mapping[str, Any], account: str) -> list[tuple[str, ...]]:
    found = []
    for name, figures in summary["policies"].items():
        if figures["over_bound"] is None:
            continue
        star = "" if figures["regret"]["valid"] and _all_fits(figures) else "*"
        parts = figures["over_bound"][account]
        cells = [signed_percent(parts[part]) for part in (*PARTS, REST)]
        found.append((name, signed_percent(figures["regret"][account]) + star, *cells))
    return found


def _all_fits(figures: Mapping[str, Any]) -> bool:
    plans = figures["bound"]["plans"]
    return all(plans[kind]["unserved_share"] < 1e-3 for kind in KINDS)


def plan_lines(summary: Mapping[str, Any]) -> list[str]:
    """The plans themselves under the limits of the first policy, and how sure they are."""
    name, figures = next(iter(summary["policies"].items()))
    bound, plans = figures["bound"], figures["bound"]["plans"]
    whole = bound["whole_replicas"]
    least_g = bound["gco2e_consequential"]
    found = [
        f"limits of {name}, fleet: bound {grams(least_g)}, with whole replicas where that can be "
        f"proved {grams(whole['gco2e_consequential'])}; plans, which are no bound, at "
        f"{plans['moments']:,} moments: "
        + ", ".join(
            f"{kind} {grams(plans[kind]['gco2e_consequential'])} "
            f"(\u00b1{percent(plans[kind]['gco2e_consequential_error'] / least_g, 2)}, "
            f"{plans[kind]['replicas_awake']:.1f} replicas awake, solver's gap "
            f"{percent(plans[kind]['solver_gap'], 3)})"
            for kind in KINDS
        )
    ]
    unserved = {kind: plans[kind]["unserved_share"] for kind in KINDS}
    if not _all_fits(figures):
        listed = ", ".join(f"{kind} {percent(share, 2)}" for kind, share in unserved.items())
        found.append(f"* work that does not fit, and is in no gram of the plans: {listed}")
    return found
