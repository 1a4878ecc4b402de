"""What a ledger holds, and whether it is whole, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table

from router.config import format_time
from router.operator.show.caller_names import shown_line

if TYPE_CHECKING:
    from router.ledger.upkeep import DayOfFiles
    from router.ledger.verification import Verified

# More are counted; JSON has all of them.
_MOST_SHOWN: Final = 200


def render_days(found: Mapping[str, Sequence[DayOfFiles]]) -> RenderableType:
    """A table a table."""
    parts: list[RenderableType] = []
    for name, days in found.items():
        table = Table(title=name, title_justify="left")
        table.add_column("day, UTC")
        for column in ("files", "rows", "bytes", "bytes a row", "writers", "rows missing"):
            table.add_column(column, justify="right")
        for day in days:
            per_row = f"{day.size / day.rows:.1f}" if day.rows else "-"
            figures = (day.files, day.rows, day.size, per_row, day.writers, day.missing)
            table.add_row(str(day.day), *map(str, figures))
        parts.append(table)
    return Group(*parts)


def days_json(found: Mapping[str, Sequence[DayOfFiles]]) -> str:
    """The same as JSON."""
    told = {name: [day._asdict() for day in days] for name, days in found.items()}
    return msgspec.json.encode(told).decode()


def render_verified(found: Mapping[str, Verified]) -> RenderableType:
    """Faults first, then gaps, then where each writer stands."""
    parts: list[RenderableType] = []
    for name, one in found.items():
        for fault in one.faults[:_MOST_SHOWN]:
            where = f"{fault.file}: " if fault.file else ""
            parts.append(shown_line(f"{name}: {where}{fault.text}", style="bold red"))
        if len(one.faults) > _MOST_SHOWN:
            parts.append(
                shown_line(f"{name}: and {len(one.faults) - _MOST_SHOWN} more", style="red")
            )
        for writer, gap in one.gaps[:_MOST_SHOWN]:
            count = gap.last_seq - gap.first_seq + 1
            since, until = format_time(gap.since), format_time(gap.until)
            parts.append(
                shown_line(
                    f"{name}: {writer}: {count} rows missing ({gap.reason}), {gap.first_seq} to "
                    f"{gap.last_seq}, between {since} and {until}",
                    style="yellow",
                )
            )
        for writer, head in sorted(one.heads.items()):
            parts.append(shown_line(f"{name}: {writer}: batch {head.link}, {head.hash}"))
        how = "bold red" if one.faults else "bold green"
        verdict = f"{len(one.faults)} faults" if one.faults else "whole"
        missing = sum(gap.last_seq - gap.first_seq + 1 for _, gap in one.gaps)
        text = (
            f"{name}: {verdict}: {one.files} files, {one.rows} rows, {missing} known to be missing"
        )
        parts.append(shown_line(text, style=how))
    return Group(*parts)


def verified_json(found: Mapping[str, Verified]) -> str:
    """The same as JSON."""
    told: dict[str, Any] = {
        name: {
            "files": one.files,
            "rows": one.rows,
            "faults": [fault._asdict() for fault in one.faults],
            "gaps": [{"writer": writer, **msgspec.to_builtins(gap)} for writer, gap in one.gaps],
            "heads": {
                writer: {"link": head.link, "hash": head.hash}
                for writer, head in sorted(one.heads.items())
            },
        }
        for name, one in found.items()
    }
    # By msgspec a time that is no number is null.
    plain = msgspec.json.decode(msgspec.json.encode(told))
    # Names of files and writers may hold anything: what is not ASCII is escaped.
    return json.dumps(plain, separators=(",", ":"))
