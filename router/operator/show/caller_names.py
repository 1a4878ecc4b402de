"""Names that callers chose, in a terminal."""

from __future__ import annotations

from rich.text import Text


def shown_name(name: str) -> Text:
    """``name`` as it is, and not as markup; what a terminal would obey is replaced."""
    return Text("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in name))
