import shutil

from router.ledger.links import GapReason
from router.ledger.row_queue import RowQueue
from tests.ledger.rows import SEVEN_S, cells
from tests.ledger.support import Writing, links, seqs


class Hands:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.ticks = 0.0

    def now(self) -> float:
        return SEVEN_S + self.ticks

    def monotonic(self) -> float:
        return self.ticks


def queue_of(tmp_path, most=100, make=lambda kept: kept):
    made = Writing(tmp_path)
    clock = Hands()
    return made, clock, RowQueue(made.writer, make, most, clock)


def nothing() -> None:
    pass


def test_rows_are_written_every_so_often_and_all_of_them_at_the_end(tmp_path) -> None:
    made, clock, queue = queue_of(tmp_path)
    for row in cells(3):
        queue.put(row)
    queue.work(5.0, nothing)
    assert made.told == {}
    clock.ticks = 5.0
    queue.work(5.0, nothing)
    assert made.told == {"written": 3}
    queue.put(cells(1)[0])
    queue.work(5.0, nothing, last=True)
    assert seqs(tmp_path) == [1, 2, 3, 4]


def test_what_does_not_fit_is_counted_and_leaves_its_place_empty(tmp_path) -> None:
    made, _, queue = queue_of(tmp_path, most=4)
    for row in cells(10):
        queue.put(row)
    queue.work(5.0, nothing, last=True)
    queue.put(cells(1)[0])
    queue.work(5.0, nothing, last=True)
    assert seqs(tmp_path) == [1, 2, 3, 4, 11]
    assert made.told == {"written": 5, "dropped": 6}
    assert made.writer.count.value == 11


def test_rows_are_numbered_on_where_the_folder_was_removed(tmp_path) -> None:
    made, _, queue = queue_of(tmp_path / "ledger")
    queue.put(cells(1)[0])
    queue.work(0.0, nothing)
    shutil.rmtree(tmp_path / "ledger")
    for row in cells(2):
        queue.put(row)
    queue.work(0.0, nothing)
    queue.put(cells(1)[0])
    assert made.told == {"written": 3, "lost": 1}
    assert made.writer.count.value == 4
    queue.work(0.0, nothing, last=True)
    assert seqs(tmp_path / "ledger") == [2, 3, 4]


def test_a_disk_that_takes_nothing_holds_no_more_than_there_is_room_for(
    tmp_path, monkeypatch
) -> None:
    made, clock, queue = queue_of(tmp_path, most=4)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(made.writer, "_journal", full)
    for _ in range(30):
        for row in cells(2):
            queue.put(row)
        clock.ticks += 5.0
        queue.work(5.0, nothing)
    assert len(made.writer.pending) <= 4
    monkeypatch.undo()
    clock.ticks += 5.0
    queue.work(5.0, nothing)
    clock.ticks += 5.0
    queue.work(5.0, nothing, last=True)
    assert made.told["written"] + made.told["dropped"] == 60
    assert len(seqs(tmp_path)) == made.told["written"]
    assert made.writer.count.value == made.writer.head.last_seq == 60


def test_what_makes_no_row_does_not_end_the_others(tmp_path, caplog) -> None:
    def make(kept):
        if kept is None:
            raise ZeroDivisionError
        return kept

    made, _, queue = queue_of(tmp_path, make=make)
    for row in [cells(1)[0], None, cells(2)[1]]:
        queue.put(row)
    queue.work(5.0, nothing, last=True)
    assert seqs(tmp_path) == [1, 2]
    assert made.told == {"written": 2, "dropped": 1}
    assert [gap.reason for link in links(tmp_path) for gap in link.gaps] == [GapReason.UNWRITABLE]
    assert "is none" in caplog.text


def test_the_event_loop_gets_its_turn_between_rows(tmp_path) -> None:
    _, _, queue = queue_of(tmp_path, most=1000)
    for row in cells(200):
        queue.put(row)
    rests = []
    queue.work(5.0, lambda: rests.append(None))
    assert len(rests) == 6
