from __future__ import annotations

import gzip
import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.tables.table import TraceTable, parse_csv, read_table
from router.errors import ConfigError, TraceError
from router.model import Factors

T0 = datetime(2022, 5, 14, tzinfo=UTC)
GOOD = "datetime,DE,NA\n2022-05-14T00:00Z,412.5,30\n2022-05-14T01:00Z,,31\n"


def parse(text: str, factors: Factors = Factors.LIFECYCLE, hour_ending: bool = False) -> TraceTable:
    return parse_csv(text.splitlines(keepends=True), "grid.csv", factors, hour_ending)


def test_a_blank_is_missing_and_na_is_a_zone() -> None:
    table = parse(GOOD)
    assert table.grid_zones == ("DE", "NA")
    assert table.start == T0.timestamp()
    assert table.step_s == 3600.0
    assert table.g_per_kwh[0].tolist() == [412.5, 30.0]
    assert math.isnan(table.g_per_kwh[1, 0]) and table.g_per_kwh[1, 1] == 31.0


def test_only_the_wanted_columns_are_looked_at(tmp_path: Path) -> None:
    text = "datetime,source,DE,solar\n2022-05-14T00:00Z,EIA,412.5,-3\n2022-05-14T01:00Z,EIA,,0\n"
    table = parse_csv(text.splitlines(), "grid.csv", Factors.LIFECYCLE, only={"DE"})
    assert table.grid_zones == ("source", "DE", "solar")
    assert table.g_per_kwh[0, 1] == 412.5
    assert np.isnan(table.g_per_kwh[:, [0, 2]]).all() and math.isnan(table.g_per_kwh[1, 1])
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    stamps = ["2022-05-14T00:00Z", "2022-05-14T01:00Z"]
    columns = {"t": stamps, "source": ["EIA", "EIA"], "DE": [412.5, None], "solar": [-3, 0]}
    path = tmp_path / "grid.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    stored = read_table(path, Factors.LIFECYCLE, only={"DE"})
    np.testing.assert_array_equal(stored.g_per_kwh, table.g_per_kwh)


def test_another_separator_is_named() -> None:
    for mark in ";\t":
        with pytest.raises(TraceError, match=r"row 1: needs a header.*separate cells by commas"):
            parse(GOOD.replace(",", mark))


def test_hour_ending_stamps_move_back_one_step() -> None:
    assert parse(GOOD, hour_ending=True).start == T0.timestamp() - 3600.0


@pytest.mark.parametrize(
    "stamp",
    [
        "2022-05-14T00:00Z",
        "2022-05-14 00:00",
        "2022-05-14T00:00:00.000Z",
        "2022-05-14T02:00+02:00",
        " 2022-05-14T00:00:00+00:00 ",
    ],
)
def test_ways_to_write_a_time(stamp: str) -> None:
    assert parse(f"t,DE\n{stamp},1.5\n2022-05-14T00:30Z,2\n").start == T0.timestamp()


@pytest.mark.parametrize(("minutes"), [5, 15, 30, 60, 180, 1440])
def test_steps_are_detected(minutes: int) -> None:
    rows = [f"{(T0 + i * timedelta(minutes=minutes)).isoformat()},10" for i in range(4)]
    assert parse("t,DE\n" + "\n".join(rows) + "\n").step_s == minutes * 60.0


def rows_with(cell: str) -> str:
    return f"datetime,DE,FR\n2022-05-14T00:00Z,400,50\n2022-05-14T01:00Z,{cell},51\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["row 1", "header"]),
        ("datetime\n", ["row 1", "header"]),
        ("2022-05-14T00:00Z,400\n2022-05-14T01:00Z,400\n", ["row 1", "header"]),
        ("datetime,DE,DE\n", ["row 1", "column DE", "more than once"]),
        ("datetime,DE, \n", ["row 1", "column 3", "no name"]),
        ("datetime,DE\n", ["0 data rows"]),
        ("datetime,DE\n2022-05-14T00:00Z,400\n", ["1 data rows"]),
        (rows_with("nan"), ["row 3", "column DE", "blank"]),
        (rows_with("NA"), ["row 3", "column DE", "blank"]),
        (rows_with("inf"), ["row 3", "column DE"]),
        (rows_with("1_000"), ["row 3", "column DE"]),
        (rows_with("0x1p4"), ["row 3", "column DE"]),
        (rows_with("٤٠٠"), ["row 3", "column DE"]),
        (rows_with("412,5"), ["row 3", "4 cells"]),
        (rows_with('"412,5"'), ["row 3", "column DE", "412.5"]),
        (rows_with("0"), ["row 3", "column DE", "leave a missing value blank"]),
        (rows_with("-1"), ["row 3", "column DE", "below 0"]),
        (rows_with("412500"), ["row 3", "column DE", "gCO2e/kWh"]),
        (rows_with("1e999"), ["row 3", "column DE", "gCO2e/kWh"]),
        ("t,DE\n2022-05-14T00:00Z,0.41\n2022-05-14T01:00Z,0.42\n", ["column DE", "kg/kWh"]),
        ("t,DE\n14.05.2022 00:00,400\n", ["row 2", "column t", "2022-05-14T00:00Z"]),
        ("t,DE\n2022-13-01T00:00Z,400\n", ["row 2", "column t"]),
        ("t,DE\n1652486400,400\n", ["row 2", "column t"]),
        ("t,DE\n,400\n", ["row 2", "column t"]),
        (
            "t,DE\n2022-10-30T01:00Z,9\n2022-10-30T02:00Z,9\n2022-10-30T02:00Z,9\n",
            ["row 4", "UTC"],
        ),
        (
            "t,DE\n2022-10-30T01:00Z,9\n2022-10-30T02:00Z,9\n2022-10-30T04:00Z,9\n",
            ["row 4", "7200 s", "3600 s", "missing rows"],
        ),
        ("t,DE\n2022-10-30T01:00Z,9\n2022-10-30T01:00:01Z,9\n", ["step of 1 s"]),
        ("t,DE\n2020-10-30T01:00Z,9\n2021-10-30T01:00Z,9\n", ["step of 31536000 s"]),
        ('t,DE\n2022-10-30T01:00Z,"9\n', ["not CSV"]),
    ],
)
def test_what_is_wrong_is_named(text: str, names: list[str]) -> None:
    with pytest.raises(TraceError) as caught:
        parse(text)
    assert "grid.csv" in str(caught.value)
    for name in names:
        assert name in str(caught.value)


def test_a_real_zero_is_kept_where_factors_allow_it() -> None:
    table = parse(rows_with("0"), Factors.DIRECT)
    assert table.g_per_kwh[1, 0] == 0.0


cells = st.one_of(st.none(), st.floats(1.0, 1500.0).map(lambda v: round(v, 3)))


@given(
    rows=st.integers(2, 30).flatmap(
        lambda n: st.lists(st.lists(cells, min_size=3, max_size=3), min_size=n, max_size=n)
    ),
    step_min=st.sampled_from([5, 15, 30, 60, 120]),
    hour_ending=st.booleans(),
)
@settings(deadline=None)
def test_what_was_written_is_read_back(
    rows: list[list[float | None]], step_min: int, hour_ending: bool
) -> None:
    lines = ["datetime,A,NA,C"]
    for index, row in enumerate(rows):
        stamp = (T0 + index * timedelta(minutes=step_min)).strftime("%Y-%m-%dT%H:%MZ")
        lines.append(",".join([stamp, *("" if cell is None else repr(cell) for cell in row)]))
    table = parse("\n".join(lines) + "\n", hour_ending=hour_ending)
    wanted = np.array([[math.nan if cell is None else cell for cell in row] for row in rows])
    np.testing.assert_array_equal(table.g_per_kwh, wanted)
    assert table.start == T0.timestamp() - (step_min * 60 if hour_ending else 0)


@given(st.text(max_size=200))
@settings(deadline=None)
def test_any_text_parses_or_raises_a_trace_error(text: str) -> None:
    with pytest.raises(TraceError):
        parse(text)


@given(
    position=st.integers(0, len(GOOD) - 1),
    patch=st.text(alphabet='0123456789.,-+eE"\n\r\t ZTNa\x00', max_size=4),
    cut=st.integers(0, 3),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_parses_strictly_or_is_refused(position: int, patch: str, cut: int) -> None:
    text = GOOD[:position] + patch + GOOD[position + cut :]
    try:
        table = parse(text)
    except TraceError:
        return
    values = table.g_per_kwh
    assert table.step_s > 0.0
    assert np.all(np.isnan(values) | ((values > 0.0) & (values <= 5000.0)))
    filled = sum(bool(c.strip(' "')) for line in text.split("\n")[1:] for c in line.split(",")[1:])
    assert int((~np.isnan(values)).sum()) <= filled


@given(data=st.binary(max_size=60), suffix=st.sampled_from([".csv", ".csv.gz", ".parquet"]))
@settings(deadline=None)
def test_any_bytes_are_refused_with_the_file_named(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("trace") / f"grid{suffix}"
    path.write_bytes(data)
    with pytest.raises(TraceError, match="grid"):
        read_table(path, Factors.LIFECYCLE)


def test_files(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.csv", tmp_path / "a.csv.gz"
    plain.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    packed.write_bytes(gzip.compress(GOOD.encode()))
    for path in (plain, packed):
        table = read_table(path, Factors.LIFECYCLE)
        assert table.name == path.name
        np.testing.assert_array_equal(table.g_per_kwh, parse(GOOD).g_per_kwh)
    packed.write_bytes(gzip.compress(GOOD.encode())[:-12])
    with pytest.raises(TraceError, match=r"a\.csv\.gz"):
        read_table(packed, Factors.LIFECYCLE)
    with pytest.raises(TraceError, match=r"absent\.csv"):
        read_table(tmp_path / "absent.csv", Factors.LIFECYCLE)
    with pytest.raises(TraceError, match="cannot be read"):
        read_table(tmp_path, Factors.LIFECYCLE)
    plain.write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(TraceError, match="UTF-8"):
        read_table(plain, Factors.LIFECYCLE)


def test_without_pyarrow_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"carbon-router\[parquet\]"):
        read_table(tmp_path / "grid.parquet", Factors.LIFECYCLE)


class TestParquet:
    @pytest.fixture(autouse=True)
    def _pyarrow(self) -> None:
        pytest.importorskip("pyarrow", reason="PARQUET NOT TESTED: pyarrow is not installed")

    def write(self, path: Path, **columns: object) -> Path:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)
        return path

    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    @pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
    def test_timestamps(self, tmp_path: Path, unit: str, zone: str | None) -> None:
        import pyarrow as pa

        per_s = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
        seconds = [int(T0.timestamp()), int(T0.timestamp()) + 1800]
        times = pa.array([s * per_s for s in seconds], pa.timestamp(unit, zone))
        path = self.write(
            tmp_path / "g.parquet", datetime=times, DE=[400.0, None], NA=pa.array([30, 31])
        )
        table = read_table(path, Factors.LIFECYCLE)
        assert (table.start, table.step_s) == (T0.timestamp(), 1800.0)
        np.testing.assert_array_equal(table.g_per_kwh, [[400.0, 30.0], [math.nan, 31.0]])

    def test_text_stamps_and_nan(self, tmp_path: Path) -> None:
        stamps = ["2022-05-14T00:00Z", "2022-05-14T01:00Z"]
        path = self.write(tmp_path / "g.parquet", datetime=stamps, DE=[math.nan, 400.0])
        table = read_table(path, Factors.LIFECYCLE, hour_ending=True)
        assert table.start == T0.timestamp() - 3600.0
        np.testing.assert_array_equal(table.g_per_kwh, [[math.nan], [400.0]])

    def test_wrong_types_are_named(self, tmp_path: Path) -> None:
        stamps = ["2022-05-14T00:00Z", "2022-05-14T01:00Z"]
        path = self.write(tmp_path / "g.parquet", datetime=stamps, DE=["400", "401"])
        with pytest.raises(TraceError, match="column DE: holds string"):
            read_table(path, Factors.LIFECYCLE)
        path = self.write(tmp_path / "g.parquet", DE=[400.0, 401.0], datetime=stamps)
        with pytest.raises(TraceError, match="not a time"):
            read_table(path, Factors.LIFECYCLE)
        times = [T0, None]
        path = self.write(tmp_path / "g.parquet", datetime=times, DE=[400.0, 401.0])
        with pytest.raises(TraceError, match=r"row 2.*not a time"):
            read_table(path, Factors.LIFECYCLE)
        path = self.write(tmp_path / "g.parquet", datetime=stamps, DE=[400.0, 0.0])
        with pytest.raises(TraceError, match="row 2, column DE"):
            read_table(path, Factors.LIFECYCLE)
