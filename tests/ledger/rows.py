"""Rows for tests of the ledger: varied, and the same each time."""

from __future__ import annotations

from typing import Any

from router.ledger.columns import CellType, Column
from router.ledger.tables import NUMBERING, RECEIPTS, LedgerTable

# 2026-11-30 07:00:00 UTC.
SEVEN_S = 1_796_022_000.0


def cells(count: int, at: float = SEVEN_S, table: LedgerTable = RECEIPTS) -> list[tuple[Any, ...]]:
    """``count`` rows of ``table``, a millisecond apart from ``at``, unix s, on; some null."""
    columns = table.columns[len(NUMBERING) :]
    return [tuple(_cell(column, i, at, table) for column in columns) for i in range(count)]


def _cell(column: Column, i: int, at: float, table: LedgerTable) -> Any:
    if column.name == table.time:
        return round(at * 1e6) + 1000 * i
    if column.nullable and (i + len(column.name)) % 7 == 0:
        return None
    return {
        CellType.NAME: f"name {i % 5}",
        CellType.TEXT: f"1f4a-{i:x}",
        CellType.TIME: round(at * 1e6) - i,
        CellType.COUNT: 17 * i,
        CellType.SMALL_COUNT: i % 3,
        CellType.SINGLE: i / 8,
        CellType.DOUBLE: i / 1024,
    }[column.type]
