import shutil
from pathlib import Path

import duckdb
import pyarrow.dataset as ds
import pytest

from router.errors import DataError
from router.ledger.reading import dataset, relation
from router.ledger.sealed_files import Head, seal_rows
from router.ledger.tables import RECEIPTS
from router.units import HOUR_S
from tests.ledger.rows import SEVEN_S, cells


@pytest.fixture
def ledger(tmp_path):
    _, link = seal_rows(RECEIPTS, cells(30), tmp_path / "le'dger", "gw")
    head = Head(link.link, link.hash, link.last_seq)
    seal_rows(RECEIPTS, cells(12, SEVEN_S + HOUR_S), tmp_path / "le'dger", "gw", head)
    return tmp_path / "le'dger"


@pytest.mark.parametrize("as_url", [False, True])
def test_duckdb_reads_the_files_as_they_lie(ledger, as_url) -> None:
    where = f"file://{ledger}".replace("'", "%27") if as_url else ledger
    rows = relation(duckdb.connect(), where, RECEIPTS)
    asked = rows.aggregate("hour, count(*), max(seq), sum(energy_j)", "hour").order("hour")
    assert [row[:3] for row in asked.fetchall()] == [(7, 30, 30), (8, 12, 42)]
    assert rows.filter("date = '2026-11-30' and hour = 8").aggregate("count(*)").fetchall() == [
        (12,)
    ]


SAVED = """
    tenant, count(*), sum(at_once_gco2e - gco2e), sum(gco2e) filter (at_once_gco2e is not null)
"""


def test_what_waiting_saved_adds_up_by_tenant_over_files_of_every_version(tmp_path) -> None:
    names = [column.name for column in RECEIPTS.columns[2:]]

    def waited(tenant, gco2e, at_once):
        told = {"tenant": tenant, "gco2e": gco2e, "at_once_gco2e": at_once, "waited_s": 60.0}
        (row,) = cells(1)
        return tuple(told.get(name, value) for name, value in zip(names, row, strict=True))

    folder = tmp_path / "receipts" / "date=2026-11-30" / "hour=07"
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("version_1.parquet"), folder / "old.parquet")
    rows = relation(duckdb.connect(), tmp_path, RECEIPTS).filter("waited_s is not null")
    assert rows.aggregate(SAVED, "tenant").fetchall() == []
    seal_rows(RECEIPTS, [waited("a", 1.0, 1.5), waited("a", 2.0, 1.75), waited("b", 1.0, None)],
              tmp_path, "gw")  # fmt: skip
    rows = relation(duckdb.connect(), tmp_path, RECEIPTS).filter("waited_s is not null")
    found = rows.aggregate(SAVED, "tenant").order("tenant").fetchall()
    assert found == [("a", 2, 0.25, 3.0), ("b", 1, None, None)]
    assert dataset(tmp_path, RECEIPTS).count_rows() == 8


def test_arrow_reads_only_the_hours_that_are_asked_for(ledger) -> None:
    rows = dataset(ledger, RECEIPTS)
    assert rows.count_rows() == 42
    assert len(list(rows.get_fragments(ds.field("hour") == 8))) == 1
    assert rows.to_table(filter=ds.field("hour") == 8).column("seq").to_pylist()[0] == 31


def test_a_ledger_without_files_is_empty(tmp_path) -> None:
    rows = relation(duckdb.connect(), tmp_path / "none", RECEIPTS)
    assert rows.aggregate("count(*), sum(gco2e)").fetchall() == [(0, None)]
    assert dataset(tmp_path / "none", RECEIPTS).schema.field("hour").type == "int32"


def test_what_is_no_place_is_told() -> None:
    with pytest.raises(DataError, match="no place for files"):
        dataset("gopher://x/y", RECEIPTS)


@pytest.mark.parametrize("name", ["le[d]ger", "a*b", "a?b"])
def test_a_folder_may_have_any_name(ledger, name) -> None:
    moved = ledger.rename(ledger.with_name(name))
    assert relation(duckdb.connect(), moved, RECEIPTS).aggregate("count(*)").fetchall() == [(42,)]


@pytest.mark.parametrize("name", ["_more.parquet", "._more.parquet"])
def test_hidden_files_are_not_of_the_ledger(ledger, name) -> None:
    first = next(iter(sorted(ledger.glob("receipts/*/*/*.parquet"))))
    shutil.copy(first, first.with_name(name))
    assert relation(duckdb.connect(), ledger, RECEIPTS).aggregate("count(*)").fetchall() == [(42,)]
    assert dataset(ledger, RECEIPTS).count_rows() == 42
