import pytest

from router.ledger.journal import Journal, read_journal
from router.ledger.tables import RECEIPTS, arrow_table
from tests.ledger.rows import cells


def test_rows_are_read_as_they_were_written(tmp_path) -> None:
    journal = Journal(tmp_path / "a", RECEIPTS)
    rows = arrow_table(RECEIPTS, "gw", 1, cells(20))
    journal.append(rows.slice(0, 8))
    journal.append(rows.slice(8))
    journal.close()
    found = read_journal(tmp_path / "a", RECEIPTS)
    assert found.rows.to_pylist() == rows.to_pylist()
    assert found.rows.schema == RECEIPTS.schema
    assert (found.cut_bytes, journal.rows) == (0, 20)


def test_bytes_that_were_changed_end_it_there(tmp_path) -> None:
    journal = Journal(tmp_path / "a", RECEIPTS)
    for row in cells(3):
        journal.append(arrow_table(RECEIPTS, "gw", 1, [row]))
    data = bytearray((tmp_path / "a").read_bytes())
    data[-3000] ^= 1
    (tmp_path / "a").write_bytes(data)
    found = read_journal(tmp_path / "a", RECEIPTS)
    assert found.rows.num_rows < 3
    assert found.cut_bytes > 0


@pytest.mark.parametrize("body", [b"", b"carbon-router ledger 1\n", b"something else"])
def test_what_is_no_journal_holds_no_rows(tmp_path, body) -> None:
    (tmp_path / "a").write_bytes(body)
    assert read_journal(tmp_path / "a", RECEIPTS).rows.num_rows == 0


def test_a_file_that_is_there_is_not_written_over(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(FileExistsError):
        Journal(tmp_path / "a", RECEIPTS)
