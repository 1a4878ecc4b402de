import hashlib
import struct

import pyarrow as pa
import pyarrow.parquet as pq

from router.ledger.columns import CellType, Column
from router.ledger.row_digest import row_digest
from router.ledger.tables import RECEIPTS, LedgerTable, arrow_table
from tests.ledger.rows import cells

TABLE = LedgerTable(
    "small",
    (
        Column("writer", CellType.NAME, "", ""),
        Column("seq", CellType.COUNT, "", ""),
        Column("g", CellType.DOUBLE, "g", ""),
    ),
    "seq",
)


def test_the_bytes_are_those_that_the_page_says() -> None:
    def text(value: str) -> bytes:
        return struct.pack("<I", len(value.encode())) + value.encode()

    rows = arrow_table(TABLE, "ü", 1, [(0.5,), (None,)])
    said = text("small") + struct.pack("<Q", 2)
    said += text("writer") + text("name") + b"\x01\x01" + struct.pack("<II", 2, 2) + "üü".encode()
    said += text("seq") + text("count") + b"\x01\x01" + struct.pack("<qq", 1, 2)
    said += text("g") + text("double") + b"\x01\x00" + struct.pack("<dd", 0.5, 0.0)
    assert row_digest(TABLE, rows) == hashlib.sha256(said).hexdigest()


def test_neither_file_nor_chunks_nor_dictionaries_change_it(tmp_path) -> None:
    rows = arrow_table(RECEIPTS, "gw", 1, cells(50))
    whole = row_digest(RECEIPTS, rows)
    parts = pa.concat_tables([rows.slice(0, 20), rows.slice(20, 1), rows.slice(21)])
    plain = [
        field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field
        for field in rows.schema
    ]
    pq.write_table(rows.cast(pa.schema(plain)), tmp_path / "a.parquet", compression="none")
    assert row_digest(RECEIPTS, parts) == whole
    assert row_digest(RECEIPTS, pq.read_table(tmp_path / "a.parquet")) == whole


def test_a_part_of_a_table_has_the_digest_of_its_own_rows() -> None:
    rows = arrow_table(RECEIPTS, "gw", 1, cells(50))
    part = arrow_table(RECEIPTS, "gw", 11, cells(50)[10:30])
    assert row_digest(RECEIPTS, rows.slice(10, 20)) == row_digest(RECEIPTS, part)


def test_one_changed_cell_changes_it() -> None:
    rows = arrow_table(RECEIPTS, "gw", 1, cells(9))
    place = rows.schema.get_field_index("output_tokens")
    other = pa.array([*rows.column(place).to_pylist()[:-1], 1], pa.int64())
    changed = rows.set_column(place, rows.schema.field(place), other)
    assert row_digest(RECEIPTS, changed) != row_digest(RECEIPTS, rows)
