"""``carbon-router settle``: what a settlement added, and what is still open."""

from __future__ import annotations

import json

from rich.console import Group, RenderableType

from router.operator.settling.settle import SettlementResult
from router.operator.show.caller_names import shown_line


def render_settlement(result: SettlementResult) -> RenderableType:
    """Hours by what became of them, and hours without a price by grid zone."""
    done = result.settlement
    first = sum(price.revision == 1 for price in done.added)
    lines = [
        f"{first} hours priced, {len(done.added) - first} revised"
        + (f": {result.file}" if result.file else ""),
        f"{done.unchanged} stand as they are, {done.worse} are known as well or better, "
        f"{done.older} were said before what stands, {done.late} are over 30 days old, "
        f"{done.early} are not over, "
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
    lines += [f"not asked with success: {failure}" for failure in result.failures]
    return Group(*(shown_line(line) for line in lines))


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
            "older": done.older,
            "late": done.late,
            "early": done.early,
            "elsewhere": done.elsewhere,
            "open_hours": dict(result.open_hours),
            "failures": list(result.failures),
        },
        indent=2,
    )
