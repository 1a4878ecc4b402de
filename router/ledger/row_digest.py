"""The SHA-256 of rows, whatever file, encoding or version of a library they went through.

Canonical bytes: the table's name and the number of rows; then for each column its name and type, a
byte a row (1: there is a value), and the values: numbers and times as little-endian of their width,
0 where there is none; texts as 32-bit lengths, then UTF-8. Whoever reads the rows by another
library makes the same bytes.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from router.ledger.columns import VERSION, CellType
from router.ledger.tables import LedgerTable

_NUMBERS: Final = {
    CellType.TIME: (pa.int64(), "<i8"),
    CellType.COUNT: (pa.int64(), "<i8"),
    CellType.SMALL_COUNT: (pa.int32(), "<i4"),
    CellType.SINGLE: (pa.float32(), "<f4"),
    CellType.DOUBLE: (pa.float64(), "<f8"),
}


def row_digest(table: LedgerTable, rows: pa.Table, version: int = VERSION) -> str:
    """In hex. ``rows`` have the columns of ``table`` as of ``version``, and others are not looked
    at; more than 2^31 bytes of text in one column are too many for one digest."""
    digest = hashlib.sha256(_text(table.name) + rows.num_rows.to_bytes(8, "little"))
    for column in table.columns_of(version):
        digest.update(_text(column.name) + _text(column.type.value))
        values = _one_array(rows.column(column.name))
        digest.update(np.asarray(pc.is_valid(values).cast(pa.uint8())).tobytes())
        if column.type in _NUMBERS:
            kind, code = _NUMBERS[column.type]
            digest.update(np.asarray(pc.fill_null(values.cast(kind), 0)).astype(code).tobytes())
        else:
            digest.update(_texts(values))
    return digest.hexdigest()


def _one_array(column: pa.ChunkedArray) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    array = column.combine_chunks()
    return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)


def _texts(values: Any) -> bytes:
    filled = pc.fill_null(values.cast(pa.string()), "")
    offsets = np.frombuffer(filled.buffers()[1], "<i4")[
        filled.offset : filled.offset + len(filled) + 1
    ]
    lengths = np.diff(offsets).astype("<u4").tobytes()
    data = filled.buffers()[2]
    if data is None or not len(filled):
        return lengths
    return lengths + memoryview(data)[int(offsets[0]) : int(offsets[-1])].tobytes()


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data
