"""What a study printed beside what comes out here, figure by figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class PaperCell(NamedTuple):
    """One figure. ``published``: as the source prints it, NaN where it has none; ``digits``:
    decimals that it is printed with, to which ``ours`` is compared.
    """

    published: float
    ours: float
    digits: int = 2

    @property
    def is_compared(self) -> bool:
        """Whether there is a published figure to hold ours against."""
        return not math.isnan(self.published)

    @property
    def is_same(self) -> bool:
        """Whether both are the same to the last digit that the source prints."""
        return self.is_compared and self.text(self.ours) == self.text(self.published)

    def text(self, figure: float) -> str:
        """``figure`` with as many decimals as the source prints; "-" for none."""
        if math.isnan(figure):
            return "-"
        text = f"{figure:.{self.digits}f}"
        # Rounding leaves the sign of what is next to nothing.
        return text if float(text) else text.removeprefix("-")


class PaperRow(NamedTuple):
    """``cells``: one a column of its table."""

    label: str
    cells: tuple[PaperCell, ...]


@dataclass(frozen=True, slots=True)
class PaperTable:
    """One table of a study. ``unit``: of its figures; ``source``: where the published ones stand;
    ``remarks``: what a reader must know to compare.
    """

    title: str
    unit: str
    source: str
    first: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    remarks: tuple[str, ...] = ()

    def cells(self) -> Iterator[PaperCell]:
        """All figures, row by row."""
        for row in self.rows:
            yield from row.cells


@dataclass(frozen=True, slots=True)
class Replication:
    """A study re-run. ``notices``: what must travel with results from its data."""

    name: str
    title: str
    tables: tuple[PaperTable, ...]
    notices: tuple[str, ...] = ()


def paper_row(
    label: str, published: Sequence[float], ours: Sequence[float], digits: int | Sequence[int] = 2
) -> PaperRow:
    """Both rows of figures as one; they are of equal length. ``digits``: of all, or of each."""
    each = [digits] * len(ours) if isinstance(digits, int) else digits
    return PaperRow(
        label, tuple(PaperCell(*pair) for pair in zip(published, ours, each, strict=True))
    )


def score(replications: Sequence[Replication]) -> tuple[int, int]:
    """(figures that are the same to the last digit, figures compared)."""
    cells = [
        cell
        for replication in replications
        for table in replication.tables
        for cell in table.cells()
        if cell.is_compared
    ]
    return sum(cell.is_same for cell in cells), len(cells)
