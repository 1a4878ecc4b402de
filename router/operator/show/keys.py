"""Keys as a table."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

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
        # Brackets are part of a pattern here, and what a terminal would obey is nothing of it.
        table.add_row(*(Text(_shown(cell)) for cell in key))
    return table


def _shown(text: str) -> str:
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
