"""The studies' tables in a terminal and as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.lab.replicate.paper import PaperCell, PaperTable, score
from router.lab.replicate.run import Rerun


def render(rerun: Rerun) -> RenderableType:
    """All tables. A figure with a published one beside it reads "published = ours" where they are
    the same to the last digit printed, "published / ours" where not.
    """
    parts: list[RenderableType] = []
    for replication in rerun.replications:
        parts.append(Text(f"\n{replication.name}: {replication.title}", style="bold"))
        for table in replication.tables:
            parts.append(_table(table))
            parts += [Text(f"  {remark}", style="dim") for remark in _below(table)]
    notices = {notice for one in rerun.replications for notice in one.notices}
    parts += [Text(f"\n{notice}", style="dim") for notice in sorted(notices)]
    same, compared = score(rerun.replications)
    if compared:
        parts.append(
            Text(f"\n{same} of {compared} published figures come out to the last digit printed")
        )
    for why in dict.fromkeys(rerun.not_run.values()):
        names = ", ".join(name for name, reason in rerun.not_run.items() if reason == why)
        parts.append(Text(f"NOT RUN: {names}: {why}", style="red"))
    return Group(*parts)


def replication_json(rerun: Rerun) -> str:
    """The same for programs; a figure that is not published is null."""
    same, compared = score(rerun.replications)
    document = {
        "studies": [
            {
                "name": replication.name,
                "title": replication.title,
                "tables": [_table_document(table) for table in replication.tables],
                "notices": list(replication.notices),
            }
            for replication in rerun.replications
        ],
        "same": same,
        "compared": compared,
        "not_run": dict(rerun.not_run),
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _table(table: PaperTable) -> Table:
    shown = Table(title=f"{table.title} ({table.unit})", title_justify="left")
    shown.add_column(table.first)
    for column in table.columns:
        shown.add_column(column, justify="right")
    for row in table.rows:
        shown.add_row(row.label, *[_cell(cell) for cell in row.cells])
    return shown


def _below(table: PaperTable) -> list[str]:
    source = [f"published = ours: {table.source}"] if table.source else []
    return [*source, *table.remarks]


def _cell(cell: PaperCell) -> str:
    if not cell.is_compared:
        return "" if math.isnan(cell.ours) else cell.text(cell.ours)
    between = "=" if cell.is_same else "/"
    return f"{cell.text(cell.published)} {between} {cell.text(cell.ours)}"


def _table_document(table: PaperTable) -> dict[str, Any]:
    return {
        "title": table.title,
        "unit": table.unit,
        "source": table.source,
        "columns": list(table.columns),
        "rows": [
            {"label": row.label, "figures": [_cell_document(cell) for cell in row.cells]}
            for row in table.rows
        ],
        "remarks": list(table.remarks),
    }


def _cell_document(cell: PaperCell) -> dict[str, float | int | None]:
    return {
        "published": None if math.isnan(cell.published) else cell.published,
        "ours": None if math.isnan(cell.ours) else cell.ours,
        "digits": cell.digits,
    }
