import os

import pytest
from pyarrow import fs

from router.errors import DataError
from router.ledger.prices import add_prices, price_files, read_prices
from router.ledger.settlement import MeasuredHour, Price, PriceKey
from router.model import Basis, Factors, Kind

KEY = PriceKey("SE", 500_000, Basis.AVERAGE, Factors.LIFECYCLE)


def price(g=30.0, revision=1, key=KEY):
    one = MeasuredHour(key, g, g - 1.0, g + 1.0, Kind.MEASURED, "operator", 1.8e9)
    return Price(one, revision, 1.8e9 + 0.25)


def test_prices_are_read_as_they_were_written(tmp_path):
    marginal = price(80.0, key=PriceKey("SE", 500_001, Basis.MARGINAL, Factors.NONE))
    add_prices(tmp_path, [price(), marginal])
    assert read_prices(tmp_path) == {KEY: price(), marginal.measured.key: marginal}


def test_the_newest_revision_counts_and_older_files_stay(tmp_path):
    first = tmp_path / add_prices(tmp_path, [price()])
    body = first.read_bytes()
    add_prices(tmp_path, [price(31.0, 2)])
    assert price_files(tmp_path) == ["prices/000001.parquet", "prices/000002.parquet"]
    assert first.read_bytes() == body
    assert read_prices(tmp_path)[KEY].measured.g_per_kwh == 31.0


def test_the_same_prices_are_the_same_bytes(tmp_path):
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        file = add_prices(tmp_path / name, [price()])
        files.append((tmp_path / name / file).read_bytes())
    assert files[0] == files[1]


def test_nothing_new_is_no_file(tmp_path):
    assert add_prices(tmp_path, []) is None
    assert read_prices(tmp_path) == {}


def test_two_settlements_at_one_time_are_found(tmp_path):
    add_prices(tmp_path, [price()])
    other = tmp_path / "other"
    other.mkdir()
    stray = other / add_prices(other, [price(33.0)])
    stray.rename(tmp_path / "prices" / "000002.parquet")
    with pytest.raises(DataError, match=r"000002.parquet: revision 1 of SE.* where 2 would come"):
        read_prices(tmp_path)


def test_a_settlement_that_was_overtaken_writes_nothing(tmp_path, monkeypatch):
    path = tmp_path / add_prices(tmp_path, [price()])
    body = path.read_bytes()
    monkeypatch.setattr("router.ledger.prices._next_number", lambda ledger: 1)
    with pytest.raises(DataError, match="settle again"):
        add_prices(tmp_path, [price(99.0)])
    assert path.read_bytes() == body
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name]


def test_what_a_killed_settlement_began_is_no_price_and_goes(tmp_path):
    add_prices(tmp_path, [price()])
    old, new = (tmp_path / "prices" / f".000002.parquet.{pid}.aside" for pid in (77, 78))
    old.write_bytes(b"PAR1 half")
    new.write_bytes(b"PAR1 half")
    os.utime(old, (1e9, 1e9))
    assert read_prices(tmp_path) == {KEY: price()}
    assert add_prices(tmp_path, [price(31.0, 2)]) == "prices/000002.parquet"
    # The other one may be under way.
    assert (old.exists(), new.exists()) == (False, True)


def test_a_file_that_is_cut_short_is_named(tmp_path):
    path = tmp_path / add_prices(tmp_path, [price()])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"000001.parquet: not a readable Parquet file"):
        read_prices(tmp_path)


def test_a_file_of_somebody_else_is_named(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "prices").mkdir()
    pq.write_table(pa.table({"grid_zone": ["SE"]}), tmp_path / "prices" / "000001.parquet")
    with pytest.raises(DataError, match="not of this program's prices"):
        read_prices(tmp_path)


class Store(fs.SubTreeFileSystem):
    """A store of objects: no file system of this machine."""


@pytest.fixture
def store(tmp_path, monkeypatch):
    system = Store(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr("router.ledger.prices.file_system", lambda where: (system, "bucket"))
    return tmp_path / "bucket"


def test_a_store_takes_prices_too(store):
    name = add_prices("s3://bucket", [price()])
    add_prices("s3://bucket", [price(31.0, 2)])
    assert name.startswith("prices/000001-") and (store / name).is_file()
    assert read_prices("s3://bucket")[KEY].measured.g_per_kwh == 31.0


def test_two_settlements_into_a_store_are_found_and_both_stay(store, monkeypatch):
    monkeypatch.setattr("router.ledger.prices._next_number", lambda ledger: 1)
    add_prices("s3://bucket", [price()])
    add_prices("s3://bucket", [price(31.0)])
    assert len(price_files("s3://bucket")) == 2
    with pytest.raises(DataError, match="two settlements wrote at one time"):
        read_prices("s3://bucket")
