import duckdb
import pytest

from router.ledger.reading import relation
from router.ledger.shipping import Shipper, Spool
from router.ledger.tables import RECEIPTS
from tests.ledger.rows import cells
from tests.ledger.support import Writing, files


@pytest.fixture
def made(tmp_path):
    made = Writing(tmp_path / "here")
    for _ in range(2):
        made.record(cells(3))
        made.seal()
    return made


def shipper(made, url, waiting=None):
    spool = Spool(made.root, [RECEIPTS.name], made.slot.writer)
    return spool, Shipper(spool, url, (waiting if waiting is not None else []).append)


def test_files_go_to_the_store_and_are_removed_here(made, tmp_path) -> None:
    (tmp_path / "store").mkdir()
    waiting: list[float] = []
    spool, sender = shipper(made, f"file://{tmp_path}/store", waiting)
    assert spool.bytes() > 0.0
    assert sender.send()
    assert spool.waiting() == []
    assert waiting == [0.0]
    rows = relation(duckdb.connect(), f"file://{tmp_path}/store", RECEIPTS)
    assert rows.aggregate("count(*), max(seq)").fetchall() == [(6, 6)]
    assert not [path for path in (tmp_path / "store").rglob("*") if "aside" in path.name]


def test_a_store_that_is_absent_keeps_files_here_and_is_told_once(made, tmp_path, caplog) -> None:
    (tmp_path / "store").write_text("no folder")
    spool, sender = shipper(made, f"file://{tmp_path}/store")
    assert not sender.send()
    assert not sender.send()
    assert len(spool.waiting()) == 2
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    (tmp_path / "store").unlink()
    assert sender.send()


def test_what_was_sent_before_is_not_sent_again(made, tmp_path) -> None:
    spool, sender = shipper(made, f"file://{tmp_path}/store")
    first = spool.waiting()[0]
    kept = first.read_bytes()
    assert sender.send()
    first.write_bytes(kept)
    assert sender.send()
    assert spool.waiting() == []


def test_another_file_of_the_same_name_is_not_overwritten(made, tmp_path, caplog) -> None:
    spool, sender = shipper(made, f"file://{tmp_path}/store")
    first, second = spool.waiting()
    there = tmp_path / "store" / spool.name(first)
    there.parent.mkdir(parents=True)
    there.write_bytes(second.read_bytes())
    assert not sender.send()
    assert there.read_bytes() == second.read_bytes()
    assert "nothing is overwritten" in caplog.text
    assert first.exists()


def test_a_thread_sends_what_waits_before_it_ends(made, tmp_path) -> None:
    spool, sender = shipper(made, f"file://{tmp_path}/store")
    sender.start()
    sender.close(60.0)
    assert spool.waiting() == []


def test_files_of_other_writers_are_theirs_to_send(made, tmp_path) -> None:
    spool = Spool(made.root, [RECEIPTS.name], "gw-0-other")
    assert spool.waiting() == []
    assert files(made.root)
