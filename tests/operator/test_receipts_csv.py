import csv
import io

import pytest

from router.errors import DataError
from router.operator.receipts_csv import write_receipts
from tests.ledger.asking.support import row
from tests.ledger.rows import SEVEN_S
from tests.ledger.support import Writing, files


def written(root, owner=None, since=SEVEN_S - 60.0, until=SEVEN_S + 60.0):
    out = io.BytesIO()
    unread = write_receipts(str(root), owner, since, until, out)
    return list(csv.DictReader(io.StringIO(out.getvalue().decode()))), unread


def test_all_rows_or_those_of_one_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr("router.operator.receipts_csv._PAGE_ROWS", 3)
    for slot in ("gw-0", "gw-1"):
        writing = Writing(tmp_path, slot)
        writing.record([row(n, tenant="a" if n % 2 else "b") for n in range(8)])
        writing.seal()
    rows, unread = written(tmp_path)
    assert len(rows) == 16 and unread == []
    assert [one["tenant"] for one in written(tmp_path, "a")[0]] == ["a"] * 8
    assert written(tmp_path, "nobody") == ([], [])
    files(tmp_path)[0].write_bytes(b"x")
    rows, unread = written(tmp_path)
    assert len(rows) == 8 and len(unread) == 1


def test_what_is_no_ledger_is_an_error():
    with pytest.raises(DataError):
        written("nothing://x")
