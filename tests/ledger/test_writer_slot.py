import pytest

from router.errors import DataError
from router.ledger.links import Gap, GapReason
from router.ledger.sealed_files import Head
from router.ledger.writer_slot import RowCount, WriterSlot

GAPS = (Gap(GapReason.QUEUE_FULL, 4, 9, 100.0, 105.5),)


def test_a_count_outlives_whoever_raises_it(tmp_path) -> None:
    count = RowCount(tmp_path / "n")
    assert [count.raised() for _ in range(3)] == [1, 2, 3]
    # Without a word to the system: another look at the file sees it.
    assert RowCount(tmp_path / "n").value == 3
    count.close()


def test_where_the_chain_stands_is_read_again(tmp_path) -> None:
    slot = WriterSlot(tmp_path, "gw", "a")
    assert slot.standing("receipts") == (Head(), ())
    slot.stand("receipts", Head(3, "h", 40), GAPS)
    slot.close()
    again = WriterSlot(tmp_path, "gw", "b")
    assert again.standing("receipts") == (Head(3, "h", 40), GAPS)
    assert again.writer == "gw-a"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"format": 2}', b"\xff"])
def test_what_is_no_such_file_is_told(tmp_path, body) -> None:
    slot = WriterSlot(tmp_path, "gw", "a")
    (slot.folder / "receipts.head.json").write_bytes(body)
    with pytest.raises(DataError, match=r"receipts\.head\.json"):
        slot.standing("receipts")
