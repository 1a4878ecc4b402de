from __future__ import annotations

import math

import pytest

from router.lab.replicate.paper import PaperCell, PaperTable, Replication, paper_row, score


def test_figures_are_compared_with_as_many_digits_as_are_printed() -> None:
    assert PaperCell(244.38, 244.3849, 2).is_same
    assert not PaperCell(244.38, 244.3851, 2).is_same
    assert PaperCell(0.0, 1e-9, 2).is_same


def test_next_to_nothing_has_no_sign() -> None:
    assert PaperCell(0.0, -1e-9, 1).is_same
    assert PaperCell(0.0, -0.1, 1).text(-0.1) == "-0.1"


def test_what_is_not_published_is_not_compared() -> None:
    cell = PaperCell(math.nan, 225.6, 2)
    assert not cell.is_compared and not cell.is_same
    assert (cell.text(cell.published), cell.text(cell.ours)) == ("-", "225.60")


def test_a_row_takes_digits_of_all_or_of_each() -> None:
    assert [cell.digits for cell in paper_row("a", (1.0, 2.0), (1.0, 2.0), 1).cells] == [1, 1]
    assert [cell.digits for cell in paper_row("a", (1, 2), (1, 2), (1, 0)).cells] == [1, 0]
    with pytest.raises(ValueError):
        paper_row("a", (1.0,), (1.0, 2.0))


def test_the_score_counts_what_is_compared() -> None:
    rows = (paper_row("a", (1.0, 2.0, math.nan), (1.0, 2.1, 3.0), 1),)
    table = PaperTable("t", "g", "", "x", ("a", "b", "c"), rows)
    assert score([Replication("r", "R", (table,))]) == (1, 2)
