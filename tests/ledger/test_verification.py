"""A ledger that is whole, and every way in which one is not."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router.errors import DataError
from router.ledger.columns import VERSION
from router.ledger.links import decoded_links, encoded_links, hashed
from router.ledger.sealed_files import LINKS_KEY
from router.ledger.tables import RECEIPTS
from router.ledger.upkeep import compact
from router.ledger.verification import verify
from router.units import HOUR_S
from tests.ledger.rows import SEVEN_S, cells
from tests.ledger.support import Writing, files, links


@pytest.fixture
def ledger(tmp_path):
    """Four batches of one writer, in two hours."""
    made = Writing(tmp_path)
    for at in (SEVEN_S, SEVEN_S, SEVEN_S + HOUR_S, SEVEN_S + HOUR_S):
        made.record(cells(5, at))
        made.seal()
    made.killed()
    return tmp_path


def texts(where, **options):
    return [f"{fault.file.rpartition('/')[2]}: {fault.text}" for fault in
            verify(where, RECEIPTS, **options).faults]  # fmt: skip


def rewritten(path, change=lambda rows: rows, links=None):
    """Write a file anew with other rows, or other batches."""
    rows = pq.read_table(path)
    metadata = dict(rows.schema.metadata)
    if links is not None:
        metadata[LINKS_KEY] = encoded_links(links(decoded_links(metadata[LINKS_KEY])))
    pq.write_table(change(rows).replace_schema_metadata(metadata), path)


def test_a_ledger_that_is_whole_has_no_faults(ledger) -> None:
    found = verify(ledger, RECEIPTS)
    assert (found.faults, found.gaps) == ((), ())
    assert (found.files, found.rows) == (4, 20)
    assert {writer: head.link for writer, head in found.heads.items()} == {"gw-0-x": 4}


OLD = Path(__file__).with_name("version_1.parquet")


def of_version_1(where):
    """A ledger of a file as the first version of the format has it, written by that."""
    path = where / "receipts" / "date=2026-11-30" / "hour=07" / "gw-0-x-000000000001.parquet"
    path.parent.mkdir(parents=True)
    shutil.copy(OLD, path)
    return path


def test_a_ledger_of_an_earlier_version_is_whole_and_one_goes_on_from_it(tmp_path) -> None:
    path = of_version_1(tmp_path)
    assert "waited_s" not in pq.read_schema(path).names
    found = verify(tmp_path, RECEIPTS)
    assert (found.faults, found.rows) == ((), 5)
    made = Writing(tmp_path, unique="y")
    made.record(cells(5, SEVEN_S))
    made.seal()
    made.killed()
    assert verify(tmp_path, RECEIPTS).faults == ()
    # Brought together in one file each batch is still of its own version.
    compact(tmp_path, RECEIPTS, SEVEN_S + 10 * HOUR_S)
    (merged,) = files(tmp_path)
    versions = decoded_links(pq.read_metadata(merged).metadata[LINKS_KEY])
    assert sorted(link.version for link in versions) == [1, VERSION]
    assert verify(tmp_path, RECEIPTS).faults == ()


def test_a_change_of_a_row_of_an_earlier_version_is_found(tmp_path) -> None:
    path = of_version_1(tmp_path)

    def change(rows):
        place = rows.schema.get_field_index("gco2e")
        values = [*rows.column(place).to_pylist()[:-1], 0.5]
        return rows.set_column(place, rows.schema.field(place), pa.array(values, pa.float64()))

    rewritten(path, change)
    assert any("a row was changed" in text for text in texts(tmp_path))


def test_a_version_to_come_is_refused(tmp_path) -> None:
    path = of_version_1(tmp_path)
    rewritten(path, links=lambda old: [hashed(replace(old[0], version=VERSION + 1))])
    assert any(f"of version {VERSION + 1}" in text for text in texts(tmp_path))


def test_a_changed_row_is_found(ledger) -> None:
    def change(rows):
        place = rows.schema.get_field_index("output_tokens")
        values = rows.column(place).to_pylist()
        values[3] = 1
        return rows.set_column(place, rows.schema.field(place), pa.array(values, pa.int64()))

    rewritten(files(ledger)[1], change)
    assert texts(ledger) == [
        "gw-0-x-000000000006.parquet: batch 2 of gw-0-x: a row was changed, or its order"
    ]


def test_rows_in_another_order_are_found(ledger) -> None:
    rewritten(files(ledger)[1], lambda rows: rows.take([1, 0, 2, 3, 4]))
    assert any("or its order" in text for text in texts(ledger))


def test_a_missing_row_is_found(ledger) -> None:
    rewritten(files(ledger)[1], lambda rows: rows.slice(1))
    assert any("4 rows, and not as many as its batches say" in text for text in texts(ledger))


def test_a_repeated_row_is_found(ledger) -> None:
    rewritten(files(ledger)[1], lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]))
    assert any("6 rows, and not as many" in text for text in texts(ledger))


def test_a_missing_file_is_found(ledger) -> None:
    files(ledger)[1].unlink()
    found = texts(ledger)
    assert ": rows 6 to 10 of gw-0-x are missing, and no gap tells of them" in found
    assert any("batch 2 of gw-0-x is missing" in text for text in found)


def test_a_repeated_file_is_found(ledger) -> None:
    first = files(ledger)[0]
    shutil.copy(first, first.with_name("again.parquet"))
    assert any("batch 1 of gw-0-x is there twice" in text for text in texts(ledger))


def test_a_batch_that_was_made_up_anew_does_not_fit_into_the_chain(ledger, tmp_path) -> None:
    other = Writing(tmp_path / "other")
    for count in (5, 5):
        other.record(cells(count, SEVEN_S + 0.5))
        other.seal()
    shutil.copy(files(tmp_path / "other")[1], files(ledger)[1])
    found = texts(ledger)
    assert any("batch 2 of gw-0-x does not go on from the one before" in text for text in found)
    assert any("batch 3 of gw-0-x does not go on from the one before" in text for text in found)


def test_a_batch_whose_own_words_were_changed_is_found(ledger) -> None:
    from dataclasses import replace

    rewritten(files(ledger)[1], links=lambda those: [replace(those[0], gaps=(), through=99)])
    assert any("what it says of itself was changed" in text for text in texts(ledger))


@pytest.mark.parametrize("keep", [0, 4, 100, 3000])
def test_a_file_that_is_cut_short_is_found(ledger, keep) -> None:
    path = files(ledger)[1]
    path.write_bytes(path.read_bytes()[:keep])
    assert any("no Parquet file that is whole" in text for text in texts(ledger))


def test_a_foreign_file_is_told(ledger) -> None:
    pq.write_table(pa.table({"a": [1]}), files(ledger)[0].with_name("b.parquet"))
    (ledger / "receipts" / "notes.txt").write_text("hello")
    assert texts(ledger) == [
        "b.parquet: a Parquet file, but none that a ledger wrote",
        "notes.txt: no place for a file of a ledger",
    ]


def test_rows_in_the_folder_of_another_hour_are_found(ledger) -> None:
    path = files(ledger)[0]
    shutil.move(path, files(ledger)[-1].with_name(path.name))
    assert any("of another hour" in text for text in texts(ledger))


def test_an_end_that_was_cut_off_is_known_to_who_wrote_its_hash_down(ledger) -> None:
    newest = links(ledger)[-1].hash
    assert texts(ledger, expect=newest) == []
    files(ledger)[-1].unlink()
    assert texts(ledger) == []
    assert any(newest in text for text in texts(ledger, expect=newest))


def test_what_a_writer_tells_to_be_missing_is_a_gap_and_no_fault(tmp_path) -> None:
    full = [0.0]
    made = Writing(tmp_path, spool_bytes=1.0, spooled_bytes=lambda: full[0])
    made.record(cells(3))
    made.writer.flush([], SEVEN_S, queue_full=4)
    made.seal()
    full[0] = 2.0
    made.record(cells(2))
    made.seal()
    full[0] = 0.0
    for _ in range(6):
        made.writer.count.raised()
    made.killed()
    again = Writing(tmp_path)
    again.record(cells(1))
    again.seal()
    found = verify(tmp_path, RECEIPTS)
    assert found.faults == ()
    assert [(g.gap.reason, g.gap.first_seq, g.gap.last_seq) for g in found.gaps] == [
        ("queue_full", 4, 7), ("spool_full", 8, 9), ("killed", 10, 11),
    ]  # fmt: skip


def test_what_is_not_sealed_yet_is_not_missing(tmp_path) -> None:
    made = Writing(tmp_path)
    made.record([*cells(2), *cells(2, SEVEN_S + HOUR_S), *cells(1)])
    made.record([*cells(2, SEVEN_S + HOUR_S), *cells(1)])
    made.writer.seal_due(SEVEN_S + HOUR_S + 61.0, 0.0)
    made.record(cells(1, SEVEN_S))
    made.writer.seal_due(SEVEN_S + HOUR_S + 61.0, 0.0)
    assert len(files(tmp_path)) == 2
    assert texts(tmp_path) == []
    made.seal()
    assert texts(tmp_path) == []


def test_what_is_no_ledger_is_told(tmp_path) -> None:
    with pytest.raises(DataError, match="no ledger, or none with receipts"):
        verify(tmp_path, RECEIPTS)


def test_a_batch_of_any_number_is_told_at_once(ledger) -> None:
    """A number between two batches is not looked at one by one: there may be 2^61."""
    rewritten(files(ledger)[3], links=lambda found: [hashed(replace(found[0], link=2**61))])
    found = texts(ledger)
    assert any(f"of batches 4 to {2**61 - 1} of gw-0-x {2**61 - 4} are missing" in t for t in found)


@pytest.mark.parametrize("name", ["_more.parquet", ".more.parquet"])
def test_a_hidden_file_of_rows_is_found(ledger, name) -> None:
    first = files(ledger)[0]
    shutil.copy(first, first.with_name(name))
    assert texts(ledger) == [f"{name}: no place for a file of a ledger"]


@pytest.mark.parametrize(("old", "new"), [("hour=07", "hour=7"), ("2026-11-30", "20261130")])
def test_a_folder_of_another_spelling_is_found(ledger, old, new) -> None:
    folder = next(path for path in sorted(ledger.glob("receipts/**/")) if old in path.name)
    folder.rename(folder.with_name(folder.name.replace(old, new)))
    assert any("no place for a file of a ledger" in text for text in texts(ledger))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("run_s", pa.array(["x"] * 5)),
        ("seq", pa.nulls(5, pa.int64())),
        ("seq", pa.array(["x"] * 5)),
        ("finished_at", pa.nulls(5, pa.timestamp("us", "UTC"))),
        ("model", pa.array([[1]] * 5)),
    ],
)
def test_a_column_of_anything_is_a_fault_and_no_more(ledger, name, values) -> None:
    def change(rows):
        return rows.set_column(rows.schema.get_field_index(name), name, values)

    rewritten(files(ledger)[1], change)
    assert any("batch 2 of gw-0-x: a row was changed" in text for text in texts(ledger))
