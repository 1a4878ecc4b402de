import math

import pyarrow as pa
import pytest

from router.ledger.tables import NUMBERING, RECEIPTS, arrow_table
from tests.ledger.rows import cells


def _with(name: str, value: object) -> tuple[object, ...]:
    names = [column.name for column in RECEIPTS.columns[len(NUMBERING) :]]
    row = list(cells(1)[0])
    row[names.index(name)] = value
    return tuple(row)


def test_rows_are_numbered_by_their_writer() -> None:
    rows = arrow_table(RECEIPTS, "gw", 7, cells(3))
    assert rows.column("writer").to_pylist() == ["gw"] * 3
    assert rows.column("seq").to_pylist() == [7, 8, 9]


def test_what_is_not_known_is_null_and_never_nan() -> None:
    rows = arrow_table(RECEIPTS, "gw", 1, [_with("ttft_ms", math.nan)])
    assert rows.column("ttft_ms").to_pylist() == [None]


def test_a_cell_that_must_be_there_is_missed() -> None:
    with pytest.raises(pa.ArrowInvalid, match=r"receipts\.outcome may not be null"):
        arrow_table(RECEIPTS, "gw", 1, [_with("outcome", None)])


def test_a_table_of_no_rows_has_the_columns_all_the_same() -> None:
    assert arrow_table(RECEIPTS, "gw", 1, []).schema == RECEIPTS.schema
