import pytest

from router.errors import DataError
from router.ledger.asking.row_places import Deadline, RowFile, RowPlaces, plain_rows
from router.url_files import file_system
from tests.ledger.asking.support import HOUR, row
from tests.ledger.rows import SEVEN_S
from tests.ledger.support import Writing, files
from tests.ports import free_ports


def test_hours_are_those_of_files_and_of_journals(tmp_path):
    writing = Writing(tmp_path)
    writing.record([row(1), row(2, SEVEN_S + 86_400.0)])
    writing.seal()
    writing.record([row(3, SEVEN_S + 7200.0)])
    places = RowPlaces([tmp_path])
    assert places.hours(0, 2**31) == [HOUR, HOUR + 2, HOUR + 24]
    assert places.hours(HOUR + 1, HOUR + 24) == [HOUR + 2]
    assert [file.system is None for file in places.files(HOUR + 2)] == [True]
    assert RowPlaces([tmp_path / "absent"]).hours(0, 2**31) == []


def test_what_is_no_folder_or_file_of_a_ledger_is_left_alone(tmp_path):
    writing = Writing(tmp_path)
    writing.record([row(1)])
    writing.seal()
    (path,) = files(tmp_path)
    for name in (".hidden.parquet", "_aside.parquet", "notes.txt"):
        path.with_name(name).write_bytes(b"x")
    for name in ("date=x", "date=2026-13-01", "date=2026-11-30/hour=xx", "date=2026-11-30/hour=99"):
        (tmp_path / "receipts" / name).mkdir(parents=True, exist_ok=True)
    places = RowPlaces([tmp_path])
    assert places.hours(0, 2**31) == [HOUR]
    assert [file.name for file in places.files(HOUR)] == [path.name]


def test_a_folder_and_its_url_are_one_ledger(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for root, number in ((here, 1), (there, 2)):
        writing = Writing(root)
        writing.record([row(number)])
        writing.seal()
    places = RowPlaces([here, there.as_uri()])
    assert places.hours(0, 2**31) == [HOUR] and len(places.files(HOUR)) == 2


def test_errors_name_no_folder(tmp_path):
    file = RowFile(None, str(tmp_path / "gone.journal"))
    assert file.is_gone
    with pytest.raises(DataError) as told:
        list(file.batches())
    assert str(tmp_path) not in str(told.value)


def test_of_a_store_that_does_not_answer_a_file_is_not_gone():
    (port,) = free_ports(1)
    url = f"s3://key:secret@bucket?scheme=http&region=x&endpoint_override=127.0.0.1:{port}"
    system, root = file_system(url)
    file = RowFile(system, f"{root}/a.parquet")
    with pytest.raises(DataError):
        list(file.batches())
    assert not file.is_gone


def test_a_row_of_a_version_before_has_the_columns_of_now(tmp_path):
    writing = Writing(tmp_path)
    writing.record([row(1)])
    ((_, batch),) = RowPlaces([tmp_path]).files(HOUR)[0].batches()
    fewer = batch.select([name for name in batch.schema.names if name != "flags"])
    (told,) = plain_rows(fewer).to_pylist()
    assert told["flags"] is None and told["tenant"] == "acme"


def test_a_deadline_is_over_when_its_time_has_come():
    assert Deadline(lambda: 2.0, 2.0).is_over and not Deadline(lambda: 1.9, 2.0).is_over
