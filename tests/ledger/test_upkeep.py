import shutil
from datetime import date

import pytest

from router.errors import DataError
from router.ledger.sealed_files import seal_rows
from router.ledger.tables import RECEIPTS
from router.ledger.upkeep import compact, days, prune
from router.ledger.verification import verify
from router.units import DAY_S, HOUR_S
from tests.ledger.rows import SEVEN_S, cells
from tests.ledger.support import Writing, files, seqs


@pytest.fixture
def ledger(tmp_path):
    """Two writers, two days, three batches an hour."""
    for slot in ("gw-0", "gw-1"):
        made = Writing(tmp_path, slot)
        for at in (SEVEN_S - DAY_S, SEVEN_S, SEVEN_S + HOUR_S):
            for _ in range(3):
                made.record(cells(4, at))
                made.seal()
        made.killed()
    return tmp_path


def test_files_of_an_hour_become_one_and_are_held_to_account_as_before(ledger) -> None:
    before = verify(ledger, RECEIPTS)
    assert compact(ledger, RECEIPTS, SEVEN_S + HOUR_S) == (12, 2)
    assert len(files(ledger)) == 2 + 6
    after = verify(ledger, RECEIPTS)
    assert after._replace(files=18) == before
    assert len(seqs(ledger)) == 72
    assert compact(ledger, RECEIPTS, SEVEN_S + HOUR_S) == (0, 0)
    assert compact(ledger, RECEIPTS, SEVEN_S + 2 * HOUR_S) == (6, 1)


def test_one_that_was_ended_before_it_removed_the_old_files_is_gone_on_with(ledger) -> None:
    old = {path: path.read_bytes() for path in files(ledger)}
    compact(ledger, RECEIPTS, SEVEN_S + HOUR_S)
    for path, body in list(old.items())[:2]:
        path.write_bytes(body)
    assert verify(ledger, RECEIPTS).faults
    compact(ledger, RECEIPTS, SEVEN_S + HOUR_S)
    assert verify(ledger, RECEIPTS).faults == ()
    assert len(seqs(ledger)) == 72


def test_old_days_go_and_what_is_left_holds(ledger) -> None:
    assert prune(ledger, RECEIPTS, date(2026, 11, 30)) == 6
    found = verify(ledger, RECEIPTS)
    assert (found.faults, found.rows) == ((), 48)
    files(ledger)[0].unlink()
    assert verify(ledger, RECEIPTS).faults
    assert prune(ledger, RECEIPTS, date(2026, 11, 30)) == 0


def test_what_lies_behind_a_batch_that_stays_is_not_removed(tmp_path) -> None:
    made = Writing(tmp_path)
    for at in (SEVEN_S - DAY_S, SEVEN_S, SEVEN_S - DAY_S):
        made.record(cells(2, at))
        made.seal()
    assert prune(tmp_path, RECEIPTS, date(2026, 11, 30)) == 1
    assert verify(tmp_path, RECEIPTS).faults == ()
    assert prune(tmp_path, RECEIPTS, date(2026, 12, 1)) == 2
    made.record(cells(2))
    made.seal()
    assert verify(tmp_path, RECEIPTS).faults == ()


def test_a_file_at_or_below_the_checkpoint_is_strange(ledger, tmp_path_factory) -> None:
    """It is held to no chain: what was before it is gone."""
    prune(ledger, RECEIPTS, date(2026, 11, 30))
    other = tmp_path_factory.mktemp("other")
    made = Writing(other)
    made.record(cells(7))
    made.seal()
    made.killed()
    strange = files(other)[0]
    shutil.copy(strange, files(ledger)[0].parent / "gw-0-x-strange.parquet")
    (fault,) = verify(ledger, RECEIPTS).faults
    assert fault.file.endswith("gw-0-x-strange.parquet")
    assert "batch 1 of gw-0-x is one that prune removed" in fault.text


def test_prune_that_was_ended_in_the_middle_is_told_and_gone_on_with(ledger) -> None:
    old = files(ledger)[0]
    body = old.read_bytes()
    prune(ledger, RECEIPTS, date(2026, 11, 30))
    old.write_bytes(body)
    (fault,) = verify(ledger, RECEIPTS).faults
    assert "call it again" in fault.text
    assert prune(ledger, RECEIPTS, date(2026, 11, 30)) == 1
    assert verify(ledger, RECEIPTS).faults == ()


def test_what_is_left_of_files_with_several_batches_is_never_below_a_checkpoint(tmp_path) -> None:
    """A file whose batches lie on both sides of one that stays keeps those before it."""
    made = Writing(tmp_path)
    for at in (SEVEN_S - DAY_S, SEVEN_S, SEVEN_S - DAY_S):
        made.record(cells(2, at))
        made.seal()
    compact(tmp_path, RECEIPTS, SEVEN_S + HOUR_S)
    assert len(files(tmp_path)) == 2
    assert prune(tmp_path, RECEIPTS, date(2026, 11, 30)) == 0
    assert verify(tmp_path, RECEIPTS).faults == ()
    assert prune(tmp_path, RECEIPTS, date(2026, 12, 1)) == 2


def test_days_are_listed(ledger) -> None:
    first, second = days(ledger, RECEIPTS)
    assert (first.day, first.files, first.rows, first.writers) == (date(2026, 11, 29), 6, 24, 2)
    assert (second.files, second.missing) == (12, 0)
    assert second.size == sum(path.stat().st_size for path in files(ledger)[6:])


def test_a_file_that_is_none_of_a_ledger_stops_it(ledger) -> None:
    (files(ledger)[0].parent / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"x\.parquet: no Parquet file"):
        compact(ledger, RECEIPTS, SEVEN_S + HOUR_S)
    assert len(files(ledger)) == 19


def test_batches_of_two_ledgers_that_were_copied_together_stay_two(tmp_path) -> None:
    seal_rows(RECEIPTS, cells(3), tmp_path / "a", "gw-a")
    seal_rows(RECEIPTS, cells(2), tmp_path / "b", "gw-b")
    shutil.copytree(tmp_path / "a", tmp_path / "b", dirs_exist_ok=True)
    assert compact(tmp_path / "b", RECEIPTS, SEVEN_S + HOUR_S) == (2, 1)
    assert sorted(verify(tmp_path / "b", RECEIPTS).heads) == ["gw-a", "gw-b"]
