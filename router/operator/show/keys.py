"""Keys of a file as a table."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from router.operator.keys import ListedKey


def render_keys(keys: Iterable[ListedKey]) -> Table:
    """One key a row."""
    table = Table(box=None, pad_edge=False)
    for heading in ("PRINCIPAL", "TENANT", "ROLES", "ID", "STATE", "FROM", "UNTIL"):
        table.add_column(heading)
    for key in keys:
        table.add_row(*key)
    return table
