"""Rows of a short while: those of DuckDB over the same files, each once, whoever moves them."""

import shutil

import duckdb
import pytest

from router.ledger.asking import window
from router.ledger.asking.row_places import RowPlaces
from router.ledger.asking.window import read_window
from router.ledger.reading import relation
from router.ledger.tables import RECEIPTS
from tests.ledger.asking.support import NEVER, PAST, row
from tests.ledger.rows import SEVEN_S
from tests.ledger.support import Writing, files

HOUR_S = 3600.0


@pytest.fixture
def filled(tmp_path):
    """Sealed rows of one hour, and rows in a journal of the next."""
    writing = Writing(tmp_path)
    tenants = ("acme", "rival", None)
    writing.record([row(number, tenant=tenants[number % 3]) for number in range(60)])
    writing.seal()
    later = SEVEN_S + HOUR_S
    writing.record([row(number, later, tenant=tenants[number % 3]) for number in range(30)], later)
    return tmp_path


def read(root, since, until, owner=None, deadline=NEVER):
    found = read_window(RowPlaces([root]), since, until, owner, deadline)
    rows = found.table.select(["writer", "seq"]).to_pylist()
    return sorted((one["writer"], one["seq"]) for one in rows), found.is_whole


def test_it_is_what_ended_then_of_files_and_journals(filled):
    whole, is_whole = read(filled, SEVEN_S - 1.0, SEVEN_S + 2.0 * HOUR_S)
    assert len(whole) == 90 and is_whole
    assert len(read(filled, SEVEN_S + HOUR_S - 1.0, SEVEN_S + 2.0 * HOUR_S)[0]) == 30
    sealed = relation(duckdb.connect(), filled, RECEIPTS)
    for since, until in ((0.0, 0.0295), (0.0095, 0.05), (0.03, 0.02)):
        begin, end = (round((SEVEN_S + one) * 1e6) for one in (since, until))
        twin = sealed.filter(f"epoch_us(finished_at) > {begin} and epoch_us(finished_at) <= {end}")
        found, _ = read(filled, SEVEN_S + since, SEVEN_S + until)
        assert found == sorted(twin.project("writer, seq").fetchall())


def test_an_owner_has_its_own(filled):
    wide = (SEVEN_S - 1.0, SEVEN_S + 2.0 * HOUR_S)
    assert [len(read(filled, *wide, owner)[0]) for owner in ("acme", "rival", "", "x")] == [
        30, 30, 30, 0,
    ]  # fmt: skip


def test_a_row_that_is_in_two_files_is_there_once(filled):
    (sealed,) = files(filled)
    shutil.copy(filled / sealed, (filled / sealed).with_name("copied.parquet"))
    assert len(read(filled, SEVEN_S - 1.0, SEVEN_S + 1.0)[0]) == 60


def test_what_time_and_room_leave_out_is_said(filled, monkeypatch):
    assert read(filled, SEVEN_S - 1.0, SEVEN_S + 2.0 * HOUR_S, deadline=PAST) == ([], False)
    monkeypatch.setattr(window, "MOST_ROWS", 10)
    rows, is_whole = read(filled, SEVEN_S - 1.0, SEVEN_S + 2.0 * HOUR_S)
    assert len(rows) == 30 and not is_whole
