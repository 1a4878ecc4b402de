"""The newest kept decisions before a time are those that a reader of all finds, bit for bit."""

import math
import shutil

import numpy as np
import pytest

from router.ledger.decisions.files import decision_files
from router.ledger.decisions.newest import NewestDecisions
from router.ledger.decisions.reading import DecisionLedger
from tests.ledger.kept import kept_decisions, write_all, writer_of


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """(folder, all that a reader of all finds, oldest first)."""
    folder = tmp_path_factory.mktemp("kept")
    write_all(writer_of(folder), kept_decisions(7, 300))
    found = sorted(DecisionLedger(folder), key=lambda one: one.row.seen.at)
    return folder, found


def newest(folder, is_late=lambda: False):
    return NewestDecisions([decision_files(folder)], is_late)


def test_the_newest_before_a_time_are_a_readers_of_all(kept):
    folder, every = kept
    for at in (every[-1].row.seen.at, every[len(every) // 2].row.seen.at, every[0].row.seen.at):
        twin = [one.row for one in every if at - 3600.0 < one.row.seen.at <= at][-20:]
        found = [one.row for one in newest(folder).before(at, 20, None)]
        assert [row.seen.at for row in found] == [row.seen.at for row in twin]
        by_id = {(row.decision_id, row.attempt, row.seen.at): row for row in twin}
        for row in found:
            other = by_id.get((row.decision_id, row.attempt, row.seen.at))
            assert other is not None
            assert np.array_equal(row.seen.live, other.seen.live, equal_nan=True)
            assert row.answer == other.answer or row.answer.refusal == other.answer.refusal
    assert newest(folder).before(every[0].row.seen.at - 1.0, 20, None) == []


def test_a_key_and_an_id_lead_to_the_decision_and_its_snapshot(kept):
    folder, every = kept
    reader = newest(folder)
    for one in reader.before(every[-1].row.seen.at, 5, None):
        (again,) = reader.of_key(one.key)
        assert again.row.seen.at == one.row.seen.at
        if one.row.decision_id:
            hour = math.floor(one.row.seen.at / 3600.0) * 3600.0
            ids = {found.row.decision_id for found in reader.of_id(one.row.decision_id, hour)}
            assert ids == {one.row.decision_id}
        snapshots = reader.snapshots([one.row])
        assert snapshots[one.row.snapshot].is_same
    for key in ("", "kept-", "kept-0x1p10-nobody", "kept-nan-w1", "kept--0x1p3-w1", "x" * 999):
        assert reader.of_key(key) == []


def test_of_nobody_there_is_none_and_what_was_late_is_counted(kept):
    folder, every = kept
    at = every[-1].row.seen.at
    assert newest(folder).before(at, 20, "nobody's") == []
    late = newest(folder, lambda: True)
    assert late.before(at, 20, None) == [] and late.unread > 0


def test_what_cannot_be_read_is_left_out_and_counted(kept, tmp_path):
    folder, every = kept
    at = every[-1].row.seen.at
    for kind in ("documents", "decisions"):
        broken = tmp_path / kind
        shutil.copytree(folder, broken)
        for path in sorted((broken / kind).rglob("*.parquet")):
            # The end, by which it is known, is whole; the rows are not.
            body = bytearray(path.read_bytes())
            body[4:400] = bytes(396)
            path.write_bytes(body)
        reader = newest(broken)
        found = reader.before(at, 20, None)
        assert len(found) == (20 if kind == "documents" else 0)
        assert reader.snapshots([one.row for one in found]) == {}
        assert reader.unread > 0


def test_a_file_that_is_on_its_way_to_another_place_is_read_once(kept, tmp_path):
    folder, every = kept
    shutil.copytree(folder, tmp_path / "sent")
    places = [decision_files(one) for one in (folder, tmp_path / "sent")]
    at = every[-1].row.seen.at
    once, twice = newest(folder), NewestDecisions(places, lambda: False)
    found = twice.before(at, 20, None)
    assert [one.key for one in found] == [one.key for one in once.before(at, 20, None)]
    rows = [one.row for one in found]
    assert twice.snapshots(rows).keys() == once.snapshots(rows).keys()
    # Of one that is nowhere there is none, and that is all.
    assert twice.snapshots([rows[0]._replace(snapshot="nowhere")]) == {}
