"""The ledger's tables, and rows of theirs as Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from router.ledger.arrow_schema import arrow_schema
from router.ledger.columns import ENERGY_COLUMNS, RECEIPT_COLUMNS, Column

# What a writer puts before the cells that it is given.
NUMBERING: Final = ("writer", "seq")


class LedgerTable(NamedTuple):
    """``name``: of its folder; ``columns``: the first two are `NUMBERING`; ``time``: the column by
    which its rows lie in partitions."""

    name: str
    columns: tuple[Column, ...]
    time: str

    @property
    def schema(self) -> pa.Schema:
        """See `arrow_schema`."""
        return arrow_schema(self.columns)

    def columns_of(self, version: int) -> tuple[Column, ...]:
        """Those that files of a version of the format have."""
        return tuple(column for column in self.columns if column.since <= version)

    @property
    def time_cell(self) -> int:
        """Where the time stands in the cells that a writer is given."""
        names = [column.name for column in self.columns]
        return names.index(self.time) - len(NUMBERING)


RECEIPTS: Final = LedgerTable("receipts", RECEIPT_COLUMNS, "finished_at")
ENERGY: Final = LedgerTable("energy", ENERGY_COLUMNS, "since")
TABLES: Final = (RECEIPTS, ENERGY)


def arrow_table(
    table: LedgerTable, writer: str, first_seq: int, rows: Sequence[Sequence[Any]]
) -> pa.Table:
    """``rows``: of cells in the order of the table's columns, but for the first two; times as
    microseconds. None, and what is no finite number, is null; counts are rounded.

    Raises pyarrow.ArrowInvalid, ValueError or TypeError for a cell that its column cannot hold.
    """
    schema, count = table.schema, len(rows)
    names = pa.DictionaryArray.from_arrays(
        pa.array([0] * count, pa.int32()), pa.array([writer], pa.string())
    )
    arrays = [names, pa.array(range(first_seq, first_seq + count), pa.int64())]
    cells = zip(*rows, strict=True) if rows else ([] for _ in table.columns[len(NUMBERING) :])
    for field, values in zip(list(schema)[len(NUMBERING) :], cells, strict=True):
        kind = field.type
        if pa.types.is_dictionary(kind):
            array = pa.array(values, pa.string()).dictionary_encode()
        elif kind in _MEASURES:
            array = _numbers(values, kind)
        else:
            array = pa.array(values, kind)
        if array.null_count and not field.nullable:
            raise pa.ArrowInvalid(f"{table.name}.{field.name} may not be null")
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


_MEASURES: Final = frozenset((pa.float32(), pa.float64(), pa.int64(), pa.int32()))


def _numbers(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    found = np.array(values, np.float64)
    unknown = ~np.isfinite(found)
    if kind == pa.float64():
        return pa.array(found, kind, mask=unknown)
    found[unknown] = 0.0
    if kind != pa.float32():
        found = np.rint(found)
    return pa.array(found.astype(kind.to_pandas_dtype()), kind, mask=unknown)
