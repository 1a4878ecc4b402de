"""A report's tables: every figure with its kind, savings at which work, shares by region."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, Final

from router.lab.study.report.units import grams, joules, milliseconds, percent, signed_percent

Row = tuple[str, str, Callable[[Mapping[str, Any]], str]]
_EMULATED, _GRID = "emulated", "emulated x measured grid"
# What stands in the table of every policy: figure, kind, and how it is read off the summary.
_ROWS: Final[tuple[Row, ...]] = (
    ("requests", _EMULATED, lambda one: f"{one['requests']:,}"),
    ("completed", _EMULATED, lambda one: f"{one['completed']:,}"),
    ("shed", _EMULATED, lambda one: f"{one['shed']:,}"),
    ("failed", _EMULATED, lambda one: f"{one['failed']:,}"),
    ("within their budgets", _EMULATED, lambda one: percent(one["slo_attainment"], 3)),
    ("TTFT, p50", _EMULATED, lambda one: milliseconds(one["ttft_ms"]["p50"])),
    ("TTFT, p95", _EMULATED, lambda one: milliseconds(one["ttft_ms"]["p95"])),
    ("TTFT, p99", _EMULATED, lambda one: milliseconds(one["ttft_ms"]["p99"])),
    ("end to end, p50", _EMULATED, lambda one: milliseconds(one["e2e_ms"]["p50"])),
    ("end to end, p95", _EMULATED, lambda one: milliseconds(one["e2e_ms"]["p95"])),
    ("end to end, p99", _EMULATED, lambda one: milliseconds(one["e2e_ms"]["p99"])),
    ("TPOT, p50", _EMULATED, lambda one: milliseconds(one["tpot_ms"]["p50"])),
    ("TPOT, p95", _EMULATED, lambda one: milliseconds(one["tpot_ms"]["p95"])),
    ("TPOT, p99", _EMULATED, lambda one: milliseconds(one["tpot_ms"]["p99"])),
    ("energy, attributional (IT)", _EMULATED, lambda one: joules(one["energy_j_attributional"])),
    ("energy, marginal (IT)", _EMULATED, lambda one: joules(one["energy_j_marginal"])),
    ("energy, fleet (facility)", _EMULATED, lambda one: joules(one["energy_j_consequential"])),
    ("gCO2e, attributional", _GRID, lambda one: grams(one["gco2e_attributional"])),
    ("gCO2e, marginal", _GRID, lambda one: grams(one["gco2e_marginal"])),
    ("gCO2e, consequential: the fleet", _GRID, lambda one: grams(one["gco2e_consequential"])),
    ("  of it idle replicas", _GRID, lambda one: grams(one["fleet"]["idle_g"])),
    ("  of it waking up", _GRID, lambda one: grams(one["fleet"]["wake_g"])),
    ("  had idle replicas stayed on", _GRID, lambda one: grams(one["fleet"]["kept_on_g"])),
    ("  had they been released at once", _GRID,
     lambda one: grams(one["fleet"]["released_at_once_g"])),
    ("lower bound, attributional", "estimated",
     lambda one: grams(one["bound"]["gco2e_attributional"])),
    ("regret, attributional", "estimated",
     lambda one: signed_percent(one["regret"]["attributional"])),
    ("lower bound, fleet", "estimated", lambda one: grams(one["bound"]["gco2e_consequential"])),
    ("regret, fleet", "estimated", lambda one: signed_percent(one["regret"]["consequential"])),
    ("moved per signal update, mean", _EMULATED, lambda one: percent(one["moved_share"]["mean"])),
    ("moved per signal update, p95", _EMULATED, lambda one: percent(one["moved_share"]["p95"])),
    ("moved per signal update, most", _EMULATED, lambda one: percent(one["moved_share"]["max"])),
    ("most in flight over max_in_flight", _EMULATED,
     lambda one: signed_percent(one["peak_over_cap"])),
)  # fmt: skip


def table(summary: Mapping[str, Any]) -> str:
    """Every figure of every policy, with its kind."""
    policies = summary["policies"]
    head = "".join(f"<th>{escape(name)}</th>" for name in ("figure", "kind", *policies))
    rows = []
    for title, kind, read in _ROWS:
        if summary["mode"] == "fluid":
            kind = kind.replace(_EMULATED, "estimated")
        cells = [title.replace("  ", "\u2003"), kind, *map(read, policies.values())]
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return _scroll("Every figure", head, rows)


def savings(summary: Mapping[str, Any]) -> str:
    """What each policy that was asked for saves against each baseline, and at what work."""
    head = "".join(
        f"<th>{title}</th>"
        for title in ("saving of", "against", "at equal work", "attributional",
                      "consequential (fleet)", "marginal", "attributional, per completed",
                      "SLO met, against", "completed, against")
    )  # fmt: skip
    rows = []
    for name in summary["asked"]:
        for other, saved in summary["policies"][name]["saving_against"].items():
            fair = saved["equal_work"] and saved["other_did_equal_work"]
            cells = (
                name, other, "yes" if fair else "no", percent(saved["attributional"]),
                percent(saved["consequential"]),
                percent(saved["marginal"]), percent(saved["attributional_per_completed"]),
                _pair(saved["slo_attainment"], saved["slo_attainment_of_other"]),
                _pair(saved["completed_share"], saved["completed_share_of_other"]),
            )  # fmt: skip
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return _scroll("Savings", head, rows)


def _pair(one: float, other: float) -> str:
    return f"{percent(one, 2)}, {percent(other, 2)}"


def regions(summary: Mapping[str, Any]) -> str:
    """Shares of the answered requests."""
    policies = summary["policies"]
    names = ("region", "grid zone", "PUE", "replicas", *policies)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for name, region in summary["scenario"]["regions"].items():
        cells = [name, region["grid_zone"], f"{region['pue']:g}", str(region["replicas"])]
        cells += [percent(one["regions"][name]["share"]) for one in policies.values()]
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return _scroll("Share of the answered requests by region", head, rows)


def _scroll(title: str, head: str, rows: Sequence[str]) -> str:
    return (
        f'<h2>{escape(title)}</h2><div class="scroll"><table><tr>{head}</tr>'
        f"{''.join(rows)}</table></div>"
    )
