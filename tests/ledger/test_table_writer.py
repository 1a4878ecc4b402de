import errno
import os
import resource
import shutil

import pytest

from router.errors import ConfigError, DataError
from router.ledger import journal as journals
from router.ledger.links import GapReason
from router.ledger.tables import RECEIPTS
from router.ledger.verification import verify
from router.units import HOUR_S
from tests.ledger.rows import SEVEN_S, cells
from tests.ledger.support import Writing, files, links, seqs


def test_rows_go_to_the_disk_and_then_into_a_file_of_their_hour(tmp_path) -> None:
    made = Writing(tmp_path)
    made.record(cells(5))
    made.record(cells(7))
    made.writer.seal_due(SEVEN_S + HOUR_S - 1.0, 0.0)
    assert not files(tmp_path)
    made.writer.seal_due(SEVEN_S + HOUR_S + 61.0, 0.0)
    assert seqs(tmp_path) == list(range(1, 13))
    assert made.told == {"written": 12}
    assert not list(made.slot.folder.glob("*.journal"))


def test_rows_of_several_hours_that_come_at_once_lie_each_in_its_own(tmp_path) -> None:
    made = Writing(tmp_path)
    made.record([*cells(2), *cells(2, SEVEN_S + HOUR_S), *cells(1), *cells(1, SEVEN_S - HOUR_S)])
    made.record(cells(3))
    made.seal()
    hours = [path.parent.name for path in files(tmp_path)]
    assert hours == ["hour=06", "hour=07", "hour=08"]
    assert seqs(tmp_path) == list(range(1, 10))
    first, second, third = links(tmp_path)
    assert (second.previous, third.previous) == (first.hash, second.hash)


@pytest.mark.parametrize("what", [{"rows": 4}, {"age_s": 30.0}])
def test_a_full_or_old_journal_is_sealed_before_its_hour_is_over(tmp_path, what) -> None:
    made = Writing(tmp_path, **what)
    made.record(cells(4))
    made.writer.opened(100.0)
    made.writer.seal_due(SEVEN_S, 131.0)
    assert len(files(tmp_path)) == 1


def test_a_clock_that_jumps_leaves_no_more_than_a_few_journals_open(tmp_path) -> None:
    made = Writing(tmp_path)
    for hour in (0, 5, -3, 9, 2, -7, 11, 4, 1):
        made.record(cells(2, SEVEN_S + hour * HOUR_S))
    assert len(list(made.slot.folder.glob("*.journal"))) <= 9
    made.seal()
    assert seqs(tmp_path) == list(range(1, 19))
    assert [one.link for one in links(tmp_path)] == list(range(1, 10))


def test_another_process_goes_on_where_the_last_one_stood(tmp_path) -> None:
    first = Writing(tmp_path, unique="a")
    first.record(cells(3))
    first.seal()
    first.record(cells(2))
    first.killed()
    second = Writing(tmp_path, unique="b")
    assert second.slot.writer == "gw-0-a"
    assert second.told == {}
    second.record(cells(1))
    second.seal()
    assert seqs(tmp_path) == list(range(1, 7))
    assert [(one.link, one.gaps) for one in links(tmp_path)] == [(1, ()), (2, ()), (3, ())]


def test_what_a_killed_process_had_not_written_is_counted_and_told(tmp_path) -> None:
    first = Writing(tmp_path)
    first.record(cells(3))
    for _ in range(4):
        first.writer.count.raised()
    first.killed()
    second = Writing(tmp_path)
    assert second.told == {"lost": 4}
    second.record(cells(2))
    second.seal()
    assert seqs(tmp_path) == [1, 2, 3, 8, 9]
    gaps = [gap for link in links(tmp_path) for gap in link.gaps]
    assert [(gap.reason, gap.first_seq, gap.last_seq) for gap in gaps] == [("killed", 4, 7)]
    second.killed()
    assert Writing(tmp_path).told == {}


@pytest.mark.parametrize("cut", [1, 40, 2000])
def test_a_journal_that_is_cut_short_is_read_as_far_as_it_goes(tmp_path, cut) -> None:
    first = Writing(tmp_path)
    first.record(cells(3))
    first.record(cells(2))
    path = next(first.slot.folder.glob("*.journal"))
    first.killed()
    os.truncate(path, path.stat().st_size - cut)
    second = Writing(tmp_path)
    assert seqs(tmp_path) == [1, 2, 3]
    assert second.told == {"lost": 2}


def test_a_process_killed_between_the_file_and_the_note_of_it_seals_no_row_twice(
    tmp_path, monkeypatch
) -> None:
    first = Writing(tmp_path)
    first.record(cells(3))
    monkeypatch.setattr(first.slot, "stand", _killed)
    with pytest.raises(KeyboardInterrupt):
        first.seal()
    first.killed()
    monkeypatch.undo()
    second = Writing(tmp_path)
    second.record(cells(1))
    second.seal()
    assert seqs(tmp_path) == [1, 2, 3, 4]
    assert [one.link for one in links(tmp_path)] == [1, 2]


def _killed(*_args):
    raise KeyboardInterrupt


def test_two_processes_cannot_write_as_one(tmp_path) -> None:
    first = Writing(tmp_path)
    with pytest.raises(ConfigError, match="another process writes as 'gw-0'"):
        Writing(tmp_path)
    assert Writing(tmp_path, "gw-1").slot.writer != first.slot.writer


def test_a_full_disk_keeps_rows_until_there_is_room_and_nothing_half(tmp_path, monkeypatch) -> None:
    made = Writing(tmp_path)
    made.record(cells(2))
    write = os.write

    def full(file, data):
        if len(data) > 100:
            return write(file, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journals.os, "write", full)
    made.record(cells(3))
    assert len(made.writer.pending) == 3
    made.writer.flush([], SEVEN_S, queue_full=5)
    monkeypatch.undo()
    made.record(cells(1))
    assert not made.writer.pending
    made.seal()
    assert seqs(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert made.told == {"written": 6, "dropped": 5}
    made.record(cells(1))
    made.seal()
    gaps = [gap for link in links(tmp_path) for gap in link.gaps]
    assert [(gap.reason, gap.first_seq, gap.last_seq) for gap in gaps] == [
        (GapReason.QUEUE_FULL, 7, 11)
    ]
    assert seqs(tmp_path) == [1, 2, 3, 4, 5, 6, 12]


def test_a_row_that_cannot_be_written_does_not_keep_the_others(tmp_path) -> None:
    made = Writing(tmp_path)
    good = cells(3)
    bad = tuple(None if cell == good[1][8] else cell for cell in good[1])
    made.record([good[0], (*bad[:1], bad[1], *("no number",) * (len(bad) - 2)), good[2]])
    made.seal()
    assert made.told == {"written": 2, "dropped": 1}
    assert seqs(tmp_path) == [1, 2]


def test_a_full_spool_drops_whole_files_and_says_which(tmp_path) -> None:
    full = [0.0]
    made = Writing(tmp_path, spool_bytes=100.0, spooled_bytes=lambda: full[0])
    made.record(cells(2))
    made.seal()
    full[0] = 100.0
    made.record(cells(3))
    made.seal()
    full[0] = 0.0
    made.record(cells(4))
    made.seal()
    assert seqs(tmp_path) == [1, 2, 6, 7, 8, 9]
    first, third = links(tmp_path)
    assert [one.link for one in (first, third)] == [1, 3]
    assert (third.gaps[0].link, third.gaps[0].hash) == (2, third.previous)
    assert made.told == {"written": 9, "dropped": 3}


def test_files_that_a_full_spool_drops_one_after_the_other_are_all_told(tmp_path) -> None:
    full = [0.0]
    made = Writing(tmp_path, spool_bytes=100.0, spooled_bytes=lambda: full[0])
    made.record(cells(2))
    made.seal()
    full[0] = 100.0
    for count in (3, 4):
        made.record(cells(count))
        made.seal()
    full[0] = 0.0
    made.record(cells(1))
    made.seal()
    first, last = links(tmp_path)
    assert [(one.first_seq, one.last_seq, one.link) for one in last.gaps] == [(3, 5, 2), (6, 9, 3)]
    assert (first.link, last.link, last.gaps[-1].hash) == (1, 4, last.previous)
    found = verify(tmp_path, RECEIPTS)
    assert found.faults == ()
    assert [one.gap.link for one in found.gaps] == [2, 3]


def test_a_file_of_that_name_is_not_overwritten(tmp_path) -> None:
    made = Writing(tmp_path)
    made.record(cells(3))
    made.seal()
    path = files(tmp_path)[0]
    other = Writing(tmp_path / "other", unique="x")
    other.record(cells(3)[:1])
    other.seal()
    made.killed()
    for name in ("receipts.head.json", "receipts.count"):
        (made.slot.folder / name).unlink()
    before = path.read_bytes()
    again = Writing(tmp_path)
    again.record(cells(2))
    again.seal()
    assert path.read_bytes() == before
    assert list(again.slot.folder.glob("*.journal"))


def test_a_limit_of_the_system_s_own_is_a_full_disk(tmp_path) -> None:
    """Half of the bytes are written, and taken away again."""
    made = Writing(tmp_path)
    made.record(cells(3))
    journal = next(made.slot.folder.glob("*.journal"))
    before = journal.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5000, hard))
    try:
        made.record(cells(400))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.read_bytes() == before
    assert len(made.writer.pending) == 400
    made.writer.flush([], SEVEN_S)
    made.seal()
    assert seqs(tmp_path) == list(range(1, 404))
    assert verify(tmp_path, RECEIPTS).faults == ()


def test_sealing_that_failed_is_not_tried_again_at_once(tmp_path, monkeypatch) -> None:
    made = Writing(tmp_path, rows=3)
    made.record(cells(3))
    tries = []

    def full(*_args, **_kwargs):
        tries.append(None)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("router.ledger.table_writer.write_parquet", full)
    for ticks in range(100):
        made.writer.seal_due(SEVEN_S, float(ticks))
    assert len(tries) == 4
    monkeypatch.undo()
    made.writer.seal_due(SEVEN_S, 130.0)
    assert seqs(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("was_sealed", [False, True])
def test_rows_that_were_never_written_came_since_the_last_that_was_known(
    tmp_path, was_sealed
) -> None:
    first = Writing(tmp_path)
    known = "writer.json"
    if was_sealed:
        first.record(cells(2))
        first.seal()
        known = "receipts.head.json"
    for _ in range(3):
        first.writer.count.raised()
    first.killed()
    os.utime(first.slot.folder / known, (SEVEN_S - 90.0, SEVEN_S - 90.0))
    second = Writing(tmp_path)
    second.record(cells(1))
    second.seal()
    (gap,) = links(tmp_path)[-1].gaps
    assert (gap.last_seq - gap.first_seq, gap.since, gap.until) == (2, SEVEN_S - 90.0, SEVEN_S)


def test_a_journal_that_was_removed_does_not_keep_others_from_being_sealed(tmp_path) -> None:
    made = Writing(tmp_path)
    made.record(cells(2))
    made.record(cells(3, SEVEN_S + HOUR_S))
    min(made.slot.folder.glob("*.journal")).unlink()
    made.seal()
    assert seqs(tmp_path) == [3, 4, 5]
    found = verify(tmp_path, RECEIPTS)
    assert found.faults == ()
    assert [(one.gap.reason, one.gap.first_seq, one.gap.last_seq) for one in found.gaps] == [
        ("removed", 1, 2)
    ]
    assert made.told == {"written": 5, "lost": 2}


def test_a_folder_that_is_removed_is_made_anew_and_what_was_lost_with_it_is_told(tmp_path) -> None:
    root = tmp_path / "ledger"
    made = Writing(root)
    made.record(cells(2))
    made.seal()
    made.record(cells(3))
    made.writer.count.raised()
    shutil.rmtree(root)
    with pytest.raises(DataError):
        verify(root, RECEIPTS)
    made.record(cells(4))
    made.record(cells(1))
    assert made.writer.count.value == 11
    with pytest.raises(ConfigError, match="another process writes as 'gw-0'"):
        Writing(root)
    made.killed()
    again = Writing(root, unique="y")
    assert again.slot.writer == "gw-0-x"
    again.record(cells(1))
    again.seal()
    assert seqs(root) == [6, 7, 8, 9, 10, 12]
    found = verify(root, RECEIPTS)
    gaps = [(one.gap.reason, one.gap.first_seq, one.gap.last_seq) for one in found.gaps]
    assert gaps == [("removed", 3, 5), ("killed", 11, 11)]
    # What was sealed is gone as well, and nobody told that.
    assert [fault.text.partition(",")[0] for fault in found.faults] == [
        "batch 1 of gw-0-x is missing",
        "rows 1 to 2 of gw-0-x are missing",
    ]


def test_a_folder_that_another_process_has_by_now_is_left_to_it(tmp_path) -> None:
    made = Writing(tmp_path)
    made.record(cells(2))
    shutil.rmtree(tmp_path / "_writers")
    other = Writing(tmp_path, unique="y")
    made.record(cells(3))
    assert len(made.writer.pending) == 3
    other.record(cells(1))
    other.seal()
    other.killed()
    made.record(cells(1))
    made.seal()
    found = verify(tmp_path, RECEIPTS)
    assert found.faults == ()
    assert {one.writer for one in found.gaps} == {"gw-0-x"}
