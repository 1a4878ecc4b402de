"""The ledger's columns as an Arrow schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from router.ledger.columns import CellType, Column

if TYPE_CHECKING:
    import pyarrow as pa


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """Fields in the order of ``columns``, with unit and meaning as metadata.

    Raises ImportError where pyarrow is not installed: whoever opens a ledger asks for the extra.
    """
    import pyarrow as pa

    types = {
        CellType.NAME: pa.dictionary(pa.int32(), pa.string()),
        CellType.TEXT: pa.string(),
        CellType.TIME: pa.timestamp("us", tz="UTC"),
        CellType.COUNT: pa.int64(),
        CellType.SMALL_COUNT: pa.int32(),
        CellType.SINGLE: pa.float32(),
        CellType.DOUBLE: pa.float64(),
    }
    return pa.schema(
        [
            pa.field(
                column.name,
                types[column.type],
                nullable=column.nullable,
                metadata={"unit": column.unit, "meaning": column.meaning},
            )
            for column in columns
        ]
    )
