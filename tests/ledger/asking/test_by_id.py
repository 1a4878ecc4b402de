import pytest

from router.core.decision_ids import decision_id
from router.ledger.asking.by_id import find_rows
from router.ledger.asking.row_places import RowPlaces
from router.ledger.tables import RECEIPTS
from router.ledger.upkeep import compact
from tests.ledger.asking.support import HOUR, NEVER, PAST, id_of, row
from tests.ledger.rows import SEVEN_S
from tests.ledger.support import Writing, files


def found(root, wanted, hour=HOUR, now=HOUR + 1, deadline=NEVER):
    return find_rows(RowPlaces([root]), wanted, hour, now, deadline)


@pytest.mark.parametrize("where", ["journal", "sealed", "compacted", "both"])
def test_a_row_is_found_wherever_it_lies(tmp_path, where):
    one, other = Writing(tmp_path), Writing(tmp_path, "gw-1")
    one.record([row(n) for n in range(40)])
    other.record([row(n + 40) for n in range(40)])
    journals = list((tmp_path / "_writers").rglob("*.journal"))
    bodies = [path.read_bytes() for path in journals]
    if where != "journal":
        one.seal()
        other.seal()
    if where == "compacted":
        compact(tmp_path, RECEIPTS, SEVEN_S + 1e6)
        assert len(files(tmp_path)) == 1
    if where == "both":
        # A process was ended between a file and the end of its journal.
        for path, body in zip(journals, bodies, strict=True):
            path.write_bytes(body)
    for number in (0, 39, 40, 79):
        told = found(tmp_path, id_of(number))
        assert len(told.rows) == 1 and not told.unread
        assert told.last["decision_id"] == id_of(number) and told.last["tenant"] == "acme"
    for nobodys in (id_of(80), id_of(0) + "0", "zz", ""):
        assert found(tmp_path, nobodys) == ((), False)


def test_a_long_run_lies_in_a_later_hour_and_what_failed_before_in_its_own(tmp_path):
    writing = Writing(tmp_path)
    writing.record([
        row(1, outcome="moved", gco2e=0.5), row(2),
        row(1, SEVEN_S + 3600.0, outcome="answered", attempt=2),
    ])  # fmt: skip
    writing.seal()
    told = found(tmp_path, id_of(1), now=HOUR + 5)
    assert [one["outcome"] for one in told.rows] == ["moved", "answered"]
    assert told.last["attempt"] == 2


def test_of_what_went_on_and_is_under_way_there_is_no_receipt_yet(tmp_path):
    writing = Writing(tmp_path)
    writing.record([row(1, outcome="moved")])
    told = found(tmp_path, id_of(1))
    assert told.last is None and len(told.rows) == 1


def test_a_clock_that_was_set_back_hides_no_row(tmp_path):
    writing = Writing(tmp_path)
    writing.record([row(1, SEVEN_S - 60.0)])
    assert found(tmp_path, id_of(1)).last is not None


def test_ids_of_hours_to_come_look_at_nothing(tmp_path):
    assert found(tmp_path, id_of(1, 2**24 - 1), hour=2**24 - 1) == ((), False)
    assert found(tmp_path, id_of(1), hour=0) == ((), False)


def test_a_file_that_is_broken_is_told_and_the_others_are_read(tmp_path):
    for slot, number in (("gw-0", 1), ("gw-1", 2)):
        writing = Writing(tmp_path, slot)
        writing.record([row(number)])
        writing.seal()
    first, _ = files(tmp_path)
    for body in (b"", b"PAR1", first.read_bytes()[:-40], b"x" * 4000):
        first.write_bytes(body)
        assert found(tmp_path, id_of(2)).last is not None
        assert found(tmp_path, id_of(1)) == ((), True)


def test_there_is_no_time_for_ever(tmp_path):
    writing = Writing(tmp_path)
    writing.record([row(1)])
    assert found(tmp_path, id_of(1), deadline=PAST) == ((), True)


def test_only_files_that_may_hold_it_are_decoded(tmp_path, monkeypatch):
    """By what they say of their smallest and largest id: processes have names of their own."""
    for number in range(8):
        writing = Writing(tmp_path, f"gw-{number}")
        ids = [decision_id(f"{number:x}{number:x}", n, 0.5, HOUR) for n in range(50)]
        writing.record([row(n, decision_id=one) for n, one in enumerate(ids)])
        writing.seal()
    decoded = []
    from pyarrow.parquet import ParquetFile

    original = ParquetFile.iter_batches
    monkeypatch.setattr(
        ParquetFile,
        "iter_batches",
        lambda self, *a, **k: decoded.append(1) or original(self, *a, **k),
    )
    assert found(tmp_path, decision_id("55", 7, 0.5, HOUR)).last is not None
    # Of one file its ids, then its rows.
    assert len(decoded) == 2
