"""Keys of a file as a table."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from router.operator.keys import ListedKey


def render_keys(keys: Iterable[ListedKey]) -> Table:
    """One key a row."""
    table = Table(box=None, pad_edge=False)
    for heading in (
        "PRINCIPAL", "TENANT", "ROLES", "MODELS", "RESIDENCY", "ORIGINS", "LIMITS", "WEIGHT", "ID",
        "STATE", "FROM", "UNTIL",
    ):  # fmt: skip
        # An id that is cut cannot be revoked.
        table.add_column(heading, no_wrap=heading == "ID")
    for key in keys:
        table.add_row(*key)
    return table
