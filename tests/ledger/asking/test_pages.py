from itertools import chain

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import DataError
from router.ledger.asking.pages import Cursor, PageQuestion, plan_page, read_slices
from router.ledger.asking.row_places import Deadline, RowPlaces
from router.ledger.reading import relation
from router.ledger.tables import RECEIPTS
from router.ledger.upkeep import compact
from tests.ledger.asking.support import HOUR, NEVER, PAST, row
from tests.ledger.rows import SEVEN_S
from tests.ledger.support import Writing, files

START = round(SEVEN_S * 1e6)
DAY = 86_400_000_000


def pages(root, owner="acme", most=7, since=START - DAY, until=START + DAY, deadline=NEVER):
    """(writer, seq) of every row, page by page."""
    places, after = RowPlaces([root]), None
    while True:
        question = PageQuestion(owner, since, until, most, after)
        page = plan_page(places, question, deadline)
        rows = [
            (one["writer"], one["seq"])
            for table in read_slices(page.slices)
            for one in table.select(["writer", "seq"]).to_pylist()
        ]
        assert len(rows) == page.rows <= most
        yield rows
        # As it travels.
        after = page.after and Cursor.parse(str(page.after))
        if after is None:
            return


def twin(root, owner, since=START - DAY, until=START + DAY):
    """The same by DuckDB, of sealed files."""
    rows = relation(duckdb.connect(), root, RECEIPTS)
    whose = "true" if owner is None else "tenant is null" if not owner else f"tenant = '{owner}'"
    rows = rows.filter(f"{whose} and epoch_us(finished_at) >= {since}")
    rows = rows.filter(f"epoch_us(finished_at) < {until}")
    order = f"epoch_us(finished_at) // {3_600_000_000}, writer, seq"
    return rows.order(order).project("writer, seq").fetchall()


def written(root, writers=3, hours=3, rows=20):
    made = []
    for number in range(writers):
        writing = Writing(root, f"gw-{number}")
        for hour in range(hours):
            writing.record([
                row(n, SEVEN_S + 3600.0 * hour, tenant=("acme", "rival", None)[n % 3])
                for n in range(rows)
            ])  # fmt: skip
        made.append(writing)
    return made


@pytest.mark.parametrize("owner", ["acme", "rival", "", None, "nobody"])
@pytest.mark.parametrize("most", [1, 7, 1000])
def test_every_row_comes_once_and_in_order(tmp_path, owner, most):
    for writing in written(tmp_path):
        writing.seal()
    found = [one for page in pages(tmp_path, owner, most) for one in page]
    assert found == twin(tmp_path, owner)
    since, until = START + 5000, START + 3_600_000_000 + 7000
    found = [one for page in pages(tmp_path, owner, most, since, until) for one in page]
    assert found == twin(tmp_path, owner, since, until)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_sealing_and_compacting_between_pages_lose_and_repeat_nothing(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("ledger")
    made = written(root, rows=7)
    wanted = {(w.slot.writer, seq) for w in made for seq in range(1, 22) if (seq - 1) % 7 % 3 == 0}
    found = []
    for page in pages(root, most=data.draw(st.integers(1, 9))):
        found += page
        what = data.draw(st.integers(0, len(made) + 1))
        if what < len(made):
            made[what].seal()
        elif what == len(made) and files(root):
            compact(root, RECEIPTS, SEVEN_S + 1e6)
    assert len(found) == len(set(found)) and set(found) == wanted


def test_late_pages_end_early_and_still_come_to_an_end(tmp_path):
    for writing in written(tmp_path):
        writing.seal()
    found = list(pages(tmp_path, most=1000, deadline=PAST))
    assert len(found) == 3 and [*chain(*found)] == twin(tmp_path, "acme")


def test_a_file_that_is_broken_is_told(tmp_path):
    for writing in written(tmp_path, writers=2, hours=1):
        writing.seal()
    files(tmp_path)[0].write_bytes(b"PAR1 and nothing")
    page = plan_page(RowPlaces([tmp_path]), PageQuestion("acme", 0, 2 * START, 100), NEVER)
    assert page.rows == 7 and len(page.unread) == 1 and "gw-0" in page.unread[0]


def test_a_file_that_goes_in_between_is_an_error_and_no_short_answer(tmp_path):
    (writing,) = written(tmp_path, writers=1, hours=1)
    writing.seal()
    page = plan_page(RowPlaces([tmp_path]), PageQuestion("acme", 0, 2 * START, 100), NEVER)
    files(tmp_path)[0].unlink()
    with pytest.raises(DataError, match="cannot be read"):
        list(read_slices(page.slices))


def test_an_absent_ledger_has_no_rows(tmp_path):
    assert list(pages(tmp_path / "nowhere")) == [[]]
    with pytest.raises(DataError):
        list(pages("nothing://x"))


@given(st.text())
def test_a_cursor_is_read_or_refused(text):
    try:
        cursor = Cursor.parse(text)
    except DataError:
        return
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize("text", ["", "1", "1.2", "1.2.a/b", "g.1.a", "1.1.a\n", "١.1.a"])
def test_what_no_page_told_is_no_cursor(text):
    with pytest.raises(DataError, match="go on from"):
        Cursor.parse(text)


def test_cursors_beyond_all_rows_end_it(tmp_path):
    for writing in written(tmp_path):
        writing.seal()
    for after in (Cursor(2**31, "z", 1), Cursor(HOUR + 2, "z", 2**62)):
        question = PageQuestion("acme", 0, 2 * START, 10, after)
        page = plan_page(RowPlaces([tmp_path]), question, Deadline(lambda: 0.0, 1.0))
        assert page.rows == 0 and page.after is None


def test_slices_name_rows_in_rising_order(tmp_path):
    for writing in written(tmp_path):
        writing.seal()
    compact(tmp_path, RECEIPTS, SEVEN_S + 1e6)
    page = plan_page(RowPlaces([tmp_path]), PageQuestion("acme", 0, 2 * START, 1000), NEVER)
    assert all((np.diff(one.places) > 0).all() for one in page.slices)
