"""Rows as CSV: the columns of receipts that tell of the request, and what it was settled at.

Callers name models and tenants, and a spreadsheet takes some texts as formulas: those begin with an
apostrophe here (https://owasp.org/www-community/attacks/CSV_Injection).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv

from router.ledger.asking.settled import SettledFigures
from router.ledger.columns import RECEIPT_COLUMNS, CellType, Column
from router.ledger.tables import NUMBERING

# With these a cell is run; the wide ones where a keyboard of East Asia is set.
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_FORMULA_PATTERN: Final = f"^([{''.join(FORMULA).replace('-', '')}-])"
_D: Final = CellType.DOUBLE

SETTLED_COLUMNS: Final = (
    Column("settled_g_per_kwh", _D, "g/kWh", "mean over the run, by its hours' newest prices"),
    Column("settled_low_g_per_kwh", _D, "g/kWh", "90 % interval"),
    Column("settled_high_g_per_kwh", _D, "g/kWh", ""),
    Column("settled_gco2e", _D, "g", "facility energy at it; gco2e stays what the receipt said"),
    Column("settled_kind", CellType.NAME, "", "measured or estimated"),
    Column("settled_source", CellType.NAME, "", "who says so"),
    Column("settled_revision", CellType.COUNT, "", "1, 2, ...: how often that was settled"),
)  # fmt: skip
CSV_COLUMNS: Final = (
    *(column for column in RECEIPT_COLUMNS if column.name not in NUMBERING),
    *SETTLED_COLUMNS,
)

_SETTLED_TYPES: Final = (
    pa.float64(), pa.float64(), pa.float64(), pa.float64(), pa.string(), pa.string(), pa.int64(),
)  # fmt: skip


def harmless(cell: Any) -> Any:
    """``cell``, and of a text that a spreadsheet would run one that it shows."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def csv_header() -> bytes:
    """The names of the columns."""
    return (",".join(column.name for column in CSV_COLUMNS) + "\n").encode()


def csv_rows(
    rows: pa.Table, settled: Callable[[Mapping[str, Any]], SettledFigures | None]
) -> bytes:
    """``rows``, names as plain texts; ``settled``: of one row. Times are RFC 3339 in UTC; a cell of
    what is not known is empty."""
    figures = [_cells(settled(row)) for row in _priced(rows)]
    columns = {
        column.name: rows.column(column.name)
        for column in RECEIPT_COLUMNS
        if column.name not in NUMBERING
    }
    for at, column in enumerate(SETTLED_COLUMNS):
        columns[column.name] = pa.array([one[at] for one in figures], _SETTLED_TYPES[at])
    sink = io.BytesIO()
    options = pc_csv.WriteOptions(include_header=False, quoting_style="needed")
    table = pa.table({name: _text(array) for name, array in columns.items()})
    pc_csv.write_csv(table, sink, options)
    return sink.getvalue()


_PRICED: Final = (
    "finished_at", "run_s", "grid_zone", "basis", "factors", "energy_j", "pue", "network_j",
)  # fmt: skip


def _priced(rows: pa.Table) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = rows.select(_PRICED).to_pylist()
    return told


def _cells(one: SettledFigures | None) -> tuple[Any, ...]:
    if one is None:
        return (None,) * len(SETTLED_COLUMNS)
    return (
        one.g_per_kwh, one.low_g_per_kwh, one.high_g_per_kwh, one.gco2e, str(one.kind), one.source,
        one.revision,
    )  # fmt: skip


def _text(array: Any) -> Any:
    if pa.types.is_timestamp(array.type):
        return pc.strftime(array, "%Y-%m-%dT%H:%M:%SZ")
    if pa.types.is_string(array.type):
        return pc.replace_substring_regex(array, _FORMULA_PATTERN, r"'\1")
    return array
