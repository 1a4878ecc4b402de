"""What waits in a queue of deferred work, and why, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.config import format_time
from router.operator.show.caller_names import shown_line, shown_text

if TYPE_CHECKING:
    from router.deferral.seen import SeenBatch


def render_batches(found: Sequence[SeenBatch]) -> RenderableType:
    """A row a batch, none of which may be there."""
    if not found:
        return shown_line("no batches; --all lists those that have ended, too")
    table = Table()
    for column in ("batch", "tenant", "status", "came, UTC", "deadline, UTC"):
        table.add_column(column)
    for column in ("lines", "answered", "failed", "waiting", "under way", "gCO2e", "saved g"):
        table.add_column(column, justify="right")
    for one in found:
        waiting = sum(kind.waiting for kind in one.kinds)
        under_way = sum(kind.under_way for kind in one.kinds)
        table.add_row(
            shown_text(one.id), shown_text(one.owner) or "-", one.status,
            format_time(one.created_at), format_time(one.expires_at),
            *map(str, (*one.counts, waiting, under_way)),
            _grams(one.gco2e), _grams(one.saved_g),
        )  # fmt: skip
    return table


def _grams(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def render_reasons(found: Sequence[SeenBatch]) -> RenderableType:
    """A line for each model of each batch of which something waits."""
    return Group(*(_reasons(found) or [shown_line("nothing waits")]))


def render_batch(one: SeenBatch) -> RenderableType:
    """One batch, and why of its lines those wait that do."""
    return Group(render_batches([one]), *_reasons([one]))


def _reasons(found: Sequence[SeenBatch]) -> list[Text]:
    return [
        shown_line(
            f"{one.id} {kind.model}: {kind.waiting} waiting, {kind.under_way} under way: "
            f"{kind.why or 'no gateway has planned it yet'}"
        )
        for one in found
        for kind in one.kinds
        if kind.waiting
    ]


def batches_json(found: Sequence[SeenBatch]) -> str:
    """All of it as JSON."""
    told = [
        one._asdict()
        | {
            "counts": one.counts._asdict(),
            "created_at": format_time(one.created_at),
            "expires_at": format_time(one.expires_at),
            "kinds": [kind._asdict() for kind in one.kinds],
        }
        for one in found
    ]
    return msgspec.json.encode(told).decode()
