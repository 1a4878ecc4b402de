"""``carbon-router report``: a month's sums in the terminal, as tables and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.ledger.quantities import CarbonMass
from router.ledger.waiting_savings import WaitedWork
from router.operator.reporting.gather import GroupSums, Report
from router.operator.reporting.page.figures import (
    UNKNOWN,
    count_text,
    energy_text,
    grams_text,
    mass_text,
    share_text,
)
from router.operator.reporting.tables import kind_share, tables
from router.operator.reporting.waiting import BASELINE, of_all, saved, waited_h
from router.operator.show.caller_names import shown_name
from router.units import HOUR_S


def render_report(report: Report, out: Path | None) -> RenderableType:
    """Sums by group, what is missing, and where the files are."""
    head = f"{report.month}, UTC, {report.question.factors} factors, {len(report.files)} files"
    parts: list[RenderableType] = [Text(head, style="bold"), _sums(report)]
    if report.waited:
        parts.append(_waiting(report))
    notes = [
        "location-based, marginal and market-based grams answer different questions: never added",
        *_missing(report),
    ]
    if report.waited:
        notes.append(f"saved by waiting: estimated, against {BASELINE}")
    parts += [Text(line, style="dim") for line in notes]
    if out is not None:
        parts.append(Text(f"written to {out}"))
    return Group(*parts)


def report_json(report: Report) -> str:
    """Every table but the hours and the files."""
    left_out = ("hours", "inputs", "scope2")
    told = {name: rows for name, rows in tables(report).items() if name not in left_out}
    body = {"month": str(report.month), "inputs_sha256": report.digest, **told}
    return json.dumps(body, indent=2, allow_nan=False)


def _sums(report: Report) -> Table:
    table = Table()
    for title in (
        str(report.per), "answered", "electricity", "location-based", "settled", "marginal",
        "embodied", "an answer", "1 M tokens", "measured",
    ):  # fmt: skip
        table.add_column(title, justify="left" if title == report.per else "right")
    whole: dict[str, int] = {}
    for kinds in report.kinds.values():
        for kind, quanta in kinds.items():
            whole[kind] = whole.get(kind, 0) + quanta
    for group in report.groups:
        table.add_row(
            shown_name(group.group) or "(none)", *_cells(group, report.kinds.get(group.group, {}))
        )
    table.add_section()
    table.add_row("all", *_cells(report.total, whole))
    return table


def _waiting(report: Report) -> Table:
    """What waiting saved: a row a group and basis."""
    table = Table(title="waiting, estimated", title_justify="left")
    for title in (
        str(report.per), "basis", "answers", "waited", "each", "at once", "emitted", "saved",
        "of it",
    ):  # fmt: skip
        table.add_column(title, justify="left" if title in (report.per, "basis") else "right")
    for group in report.waited:
        table.add_row(shown_name(group.group) or "(none)", *_waited_cells(group))
    table.add_section()
    for whole in of_all(report.waited):
        table.add_row("all", *_waited_cells(whole))
    return table


def _waited_cells(one: WaitedWork) -> list[str]:
    cells = [
        one.basis or UNKNOWN, count_text(one.answered), _wait_text(waited_h(one)),
        _wait_text(waited_h(one) / one.answered),
    ]  # fmt: skip
    if not one.compared:
        return [*cells, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]
    masses = (CarbonMass.of_quanta(one.at_once_g), CarbonMass.of_quanta(one.emitted_g), saved(one))
    share = share_text(one.at_once_g - one.emitted_g, one.at_once_g) if one.at_once_g else UNKNOWN
    return [*cells, *map(mass_text, masses), share]


def _wait_text(hours: float) -> str:
    """In hours; what would be 0.0 of them, and is not, in seconds."""
    return f"{hours:,.1f} h" if hours >= 0.05 else f"{hours * HOUR_S:,.3g} s"


def _cells(figures: GroupSums, kinds: dict[str, int] | object) -> list[str]:
    answered = figures.count("answered")
    total = figures.mass("total_g") if figures.operational() else None
    output = figures.count("output_tokens")
    tokens = figures.count("input_tokens") + output if output > answered else 0
    share = kind_share(kinds, "measured") if isinstance(kinds, dict) else None
    known = figures.count("marginal_known_q")
    return [
        count_text(answered),
        energy_text(figures.energy("facility_q")),
        mass_text(figures.operational()),
        share_text(figures.count("settled_q"), figures.count("facility_q")),
        mass_text(figures.mass("marginal_total_g")) if known else UNKNOWN,
        mass_text(figures.embodied()),
        grams_text(total.g / answered) if total and answered else UNKNOWN,
        grams_text(total.g / tokens * 1e6) if total and tokens else UNKNOWN,
        UNKNOWN if share is None else share_text(share, 1.0),
    ]


def _missing(report: Report) -> list[str]:
    total = report.total
    found = [
        f"{one.rows} rows of {one.writer} are lost: {one.first} to {one.last}"
        for one in report.lost[:5]
    ]
    if len(report.lost) > 5:
        found.append(f"and {len(report.lost) - 5} gaps more: lost_rows.csv")
    if total.count("unpriced_q"):
        own = ""
        if total.priced("gateway_q", "gateway_g") is None:
            own = "; the gateway's own has none without ledger.gateway_region"
        found.append(f"{energy_text(total.energy('unpriced_q'))} have no intensity: no grams{own}")
    if total.count("unmetered"):
        found.append(f"{total.count('unmetered')} receipts have no energy")
    waited = sum(one.answered for one in report.waited)
    compared = sum(one.compared for one in report.waited)
    if compared < waited:
        found.append(f"answers that waited and have no baseline: {waited - compared}")
    unmade = sum(report.unmade_hours.values())
    if unmade:
        found.append(f"{unmade} endpoint-hours have no embodied figure (--embodied)")
    return found
