import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.errors import DataError
from router.ledger.row_digest import row_digest
from router.ledger.sealed_files import Head, next_link, read_links, seal_rows, write_parquet
from router.ledger.tables import RECEIPTS, arrow_table
from tests.ledger.rows import SEVEN_S, cells


def test_a_file_lies_in_the_hour_of_its_rows_and_says_what_it_holds(tmp_path) -> None:
    path, link = seal_rows(RECEIPTS, cells(20), tmp_path, "gw-1", Head(4, "abc", 100))
    assert path.relative_to(tmp_path).as_posix() == (
        "receipts/date=2026-11-30/hour=07/gw-1-000000000101.parquet"
    )
    file = pq.ParquetFile(path)
    assert read_links(file) == (link,)
    assert (link.link, link.previous) == (5, "abc")
    assert (link.first_seq, link.last_seq, link.rows) == (101, 120, 20)
    rows = file.read()
    assert row_digest(RECEIPTS, rows) == link.digest
    assert rows.schema.field("energy_j").metadata[b"unit"] == b"J"


def test_nothing_is_overwritten_and_nothing_left_aside(tmp_path) -> None:
    path, _ = seal_rows(RECEIPTS, cells(2), tmp_path, "gw")
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        seal_rows(RECEIPTS, cells(3), tmp_path, "gw")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_is_full_leaves_no_file(tmp_path, monkeypatch) -> None:
    def full(*_args, **_kwargs) -> None:
        raise OSError(28, "No space left on device")

    rows = arrow_table(RECEIPTS, "gw", 1, cells(2, SEVEN_S))
    link = next_link(RECEIPTS, rows, "gw", Head())
    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        write_parquet(RECEIPTS, rows, (link,), tmp_path / "a" / "x.parquet")
    assert list((tmp_path / "a").iterdir()) == []


def test_a_file_that_no_ledger_wrote_is_told(tmp_path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="none that a ledger wrote"):
        read_links(pq.ParquetFile(tmp_path / "x.parquet"))
