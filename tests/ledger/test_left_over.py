from router.ledger.left_over import LeftOver
from tests.ledger.rows import SEVEN_S, cells
from tests.ledger.support import Writing, seqs


def test_rows_of_processes_that_are_no_more_are_sealed_by_one_that_is(tmp_path) -> None:
    alive = Writing(tmp_path, "gw-3")
    alive.record(cells(1))
    for slot in ("gw-0", "gw-1", "other-7"):
        gone = Writing(tmp_path, slot, unique=slot)
        gone.record(cells(2))
        gone.killed()
    sealed = []

    def seal(slot) -> None:
        sealed.append(slot.writer)
        slot.close()
        Writing(tmp_path, slot.folder.name).writer.seal_due(SEVEN_S, 0.0, every=True)

    LeftOver(tmp_path, "gw", range(1, 3), seal).run()
    assert sealed == ["gw-0-gw-0"]
    assert seqs(tmp_path) == [1, 2]
    LeftOver(tmp_path, "gw", range(1, 3), seal).run()
    assert len(sealed) == 1


def test_a_folder_that_cannot_be_read_is_told_and_passed_over(tmp_path, caplog) -> None:
    gone = Writing(tmp_path, "gw-0")
    gone.record(cells(2))
    gone.killed()
    (gone.slot.folder / "writer.json").write_text("no name")
    LeftOver(tmp_path, "gw", range(1, 3), lambda _: None).run()
    assert "stay where they are" in caplog.text


def test_a_thread_does_so_once(tmp_path) -> None:
    gone = Writing(tmp_path, "gw-0")
    gone.record(cells(2))
    gone.killed()
    sealed = []
    left = LeftOver(tmp_path, "gw", range(1, 3), lambda slot: sealed.append(slot.writer))
    left.start()
    left.close(60.0)
    assert sealed == ["gw-0-x"]
