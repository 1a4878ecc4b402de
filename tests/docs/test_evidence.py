"""docs/evidence.md holds the figures that come out, not those of an earlier version."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.lab.replicate import capacity, deferral, hours, hybrid
from router.lab.replicate.paper import PaperTable
from tests.lab.replicate import made_up

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evidence.md"
if not PAGE.exists():
    pytest.skip("DOCS NOT TRIED: they are not part of this distribution", allow_module_level=True)


def missing(table: PaperTable) -> list[str]:
    page = PAGE.read_text("utf-8")
    shown = {cell.text(cell.ours) for cell in table.cells()} - {"-"}
    return sorted(figure for figure in shown if figure not in page)


def test_the_figures_that_need_no_data() -> None:
    assert missing(hybrid.study().tables[0]) == []


@pytest.mark.parametrize(
    ("study", "place"),
    [(capacity, 0), (hours, 0), (deferral, 0), (deferral, 1)],
    ids=lambda value: getattr(value, "__name__", str(value)).rpartition(".")[2],
)
def test_the_figures_of_the_real_data(study, place: int) -> None:
    found = study.study(made_up.the_real_literature())
    assert missing(found.tables[place]) == []
