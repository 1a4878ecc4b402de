"""What docs/evidence.md shows: the figures that come out, not those of an earlier version."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.lab.replicate.paper import PaperTable

_PAGE = Path(__file__).resolve().parents[3] / "docs" / "evidence.md"


def missing(table: PaperTable) -> list[str]:
    """Figures of ``table`` that the page does not have."""
    if not _PAGE.exists():
        pytest.skip("DOCS NOT TRIED: they are not part of this distribution")
    page = _PAGE.read_text("utf-8")
    shown = {cell.text(cell.ours) for cell in table.cells()} - {"-"}
    return sorted(figure for figure in shown if figure not in page)
