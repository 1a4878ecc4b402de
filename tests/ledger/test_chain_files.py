from router.ledger.chain_files import LedgerPlace, each_link
from router.ledger.sealed_files import Head
from router.ledger.tables import RECEIPTS
from tests.ledger.rows import cells
from tests.ledger.support import Writing


def test_files_say_what_they_hold_wherever_they_are(tmp_path) -> None:
    made = Writing(tmp_path)
    for _ in range(2):
        made.record(cells(3))
        made.seal()
    for where in (tmp_path, f"file://{tmp_path}"):
        found = LedgerPlace(where).files(RECEIPTS)
        assert [(file.hour, file.rows, file.fault) for file in found] == [(7, 3, "")] * 2
        assert [(link.link, begins) for _, link, begins in each_link(found)] == [(1, 0), (2, 0)]


def test_where_chains_begin_is_read_again(tmp_path) -> None:
    place = LedgerPlace(tmp_path)
    assert place.checkpoints(RECEIPTS) == {}
    (tmp_path / "receipts").mkdir()
    heads = {"gw": Head(3, "hash", 40)}
    place.keep_checkpoints(RECEIPTS, heads)
    assert place.checkpoints(RECEIPTS) == heads
    assert place.files(RECEIPTS) == []
