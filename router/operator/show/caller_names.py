"""Names that callers chose, or files have, in a terminal."""

from __future__ import annotations

from rich.text import Text


def shown_name(name: str) -> Text:
    """``name`` as it is, and not as markup; what a terminal would obey is replaced."""
    return Text(shown_text(name))


def shown_line(text: str, style: str = "") -> Text:
    """One line with such names in it: none of them begins another line."""
    return Text(shown_text(text), style=style)


def shown_text(text: str) -> str:
    """``text`` without what a terminal would obey: that is replaced."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
