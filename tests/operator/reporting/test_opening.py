import hashlib

import pytest

from router.errors import DataError, NoLedgerError
from router.ledger.month import Month
from router.operator.reporting.opening import digest_of, open_ledger, read_files
from tests.operator.reporting.conftest import ROWS


def test_files_are_named_sized_and_hashed(ledger):
    files = read_files(ledger, Month(2026, 11))
    assert len(files) == 48
    one = ledger / files[0].name
    assert files[0].sha256 == hashlib.sha256(one.read_bytes()).hexdigest()
    assert files == read_files(ledger, Month(2026, 11))
    text = "".join(f"{file.sha256}  {file.name}\n" for file in files)
    assert digest_of(files) == hashlib.sha256(text.encode()).hexdigest()


def test_only_the_days_of_the_month_are_read(ledger):
    # Rows that ended on the first of November may have run in October.
    assert len(read_files(ledger, Month(2026, 10))) == 24
    assert read_files(ledger, Month(2026, 12)) == []


def test_a_folder_that_is_no_ledger_is_told(tmp_path):
    with pytest.raises(DataError, match="no ledger"):
        open_ledger(tmp_path)


def test_one_whose_rows_are_in_journals_yet_says_when_they_come(tmp_path):
    (tmp_path / "_writers" / "gateway-0").mkdir(parents=True)
    with pytest.raises(NoLedgerError, match=r"rows are in the journals .* ledger\.seal_s"):
        open_ledger(tmp_path)


def test_threads_and_memory_are_held(ledger):
    connection = open_ledger(ledger, 1, "1GB")
    assert connection.execute("SELECT current_setting('threads')").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM receipts").fetchone() == (ROWS,)


def test_a_url_is_read_alike(ledger):
    month = Month(2026, 11)
    assert read_files(f"file://{ledger}", month) == read_files(ledger, month)
    connection = open_ledger(f"file://{ledger}")
    assert connection.execute("SELECT count(*) FROM receipts").fetchone() == (ROWS,)
