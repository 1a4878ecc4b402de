"""``carbon-router settle``: what a settlement added, and what is still open."""

from __future__ import annotations

import json

from rich.console import Group, RenderableType
from rich.text import Text

from router.operator.settling.settle import SettlementResult


def render_settlement(result: SettlementResult) -> RenderableType:
    """Hours by what became of them, and hours without a price by grid zone."""
    done = result.settlement
    first = sum(price.revision == 1 for price in done.added)
    lines = [
        f"{first} hours priced, {len(done.added) - first} revised"
        + (f": {result.file}" if result.file else ""),
        f"{done.unchanged} stand as they are, {done.worse} are known as well or better, "
        f"{done.late} are over 30 days old, {done.early} are not over, "
        f"{done.elsewhere} are of no receipt",
    ]
    if done.worse:
        lines.append(
            "known as well or better: by another source; to correct one, give its --source "
            "(a file that states none is its own name)"
        )
    lines += [
        f"{zone}: {hours} hours have no price yet" for zone, hours in result.open_hours.items()
    ]
    return Group(*(Text(line) for line in lines))


def settlement_json(result: SettlementResult) -> str:
    """The same, for programs."""
    done = result.settlement
    first = sum(price.revision == 1 for price in done.added)
    return json.dumps(
        {
            "file": result.file,
            "priced": first,
            "revised": len(done.added) - first,
            "unchanged": done.unchanged,
            "worse": done.worse,
            "late": done.late,
            "early": done.early,
            "elsewhere": done.elsewhere,
            "open_hours": dict(result.open_hours),
        },
        indent=2,
    )
