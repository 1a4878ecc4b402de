import pytest

from router.errors import TraceError
from router.ledger.month import hour_text
from router.model import Basis, Factors, Kind, Signal
from router.operator.settling.intensity_files import FileTerms, measured_hours

TERMS = FileTerms(Signal(Basis.AVERAGE, Factors.LIFECYCLE), Kind.MEASURED)
LONG = "grid_zone,hour,g_per_kwh,low_g_per_kwh,high_g_per_kwh,kind,source,observed_at\n"


def read(tmp_path, text, terms=TERMS, name="grid.csv"):
    file = tmp_path / name
    file.write_text(text)
    return measured_hours(file, terms)


def test_a_wide_file_is_a_zone_a_column(tmp_path):
    found = read(tmp_path, "datetime,SE,FI\n2026-11-01T00:00Z,20,50\n2026-11-01T01:00Z,,51\n")
    told = [(one.key.grid_zone, hour_text(one.key.hour)[11:13], one.g_per_kwh) for one in found]
    assert told == [("SE", "00", 20.0), ("FI", "00", 50.0), ("FI", "01", 51.0)]
    one = found[0]
    assert (one.low_g_per_kwh, one.high_g_per_kwh, one.source) == (20.0, 20.0, "grid.csv")
    assert one.observed_at == (one.key.hour + 1) * 3600.0


def test_parts_of_an_hour_are_averaged_and_an_hour_that_lacks_one_is_left_out(tmp_path):
    rows = ["datetime,SE"] + [
        f"2026-11-01T{hour:02d}:{minute:02d}Z,{10 + minute if hour == 0 or minute else ''}"
        for hour in (0, 1)
        for minute in (0, 15, 30, 45)
    ]
    (one,) = read(tmp_path, "\n".join(rows) + "\n")
    assert one.g_per_kwh == 10 + (0 + 15 + 30 + 45) / 4


def test_stamps_may_be_ends_of_hours(tmp_path):
    text = "datetime,SE\n2026-11-01T01:00Z,20\n2026-11-01T02:00Z,21\n"
    found = read(tmp_path, text, TERMS._replace(hour_ending=True))
    assert [hour_text(one.key.hour)[11:13] for one in found] == ["00", "01"]


def test_days_are_no_hours(tmp_path):
    with pytest.raises(TraceError, match="86400"):
        read(tmp_path, "datetime,SE\n2026-11-01T00:00Z,20\n2026-11-02T00:00Z,21\n")


def test_a_long_file_says_more_of_each_row(tmp_path):
    text = LONG + "SE,2026-11-01T00:00Z,20,18,23,estimated,the operator,2026-11-03T10:00Z\n"
    (one,) = read(tmp_path, text)
    assert (one.low_g_per_kwh, one.high_g_per_kwh, one.kind) == (18.0, 23.0, Kind.ESTIMATED)
    assert one.source == "the operator"
    assert one.observed_at == (one.key.hour + 58) * 3600.0


def test_what_a_long_file_leaves_out_is_by_the_terms(tmp_path):
    terms = FileTerms(Signal(Basis.MARGINAL, Factors.NONE), Kind.ESTIMATED, "model 7")
    (one,) = read(tmp_path, "grid_zone,hour,g_per_kwh\nSE,2026-11-01T00:00Z,400\n", terms)
    assert (one.key.basis, one.kind, one.source) == (Basis.MARGINAL, Kind.ESTIMATED, "model 7")
    assert one.low_g_per_kwh < 400.0 < one.high_g_per_kwh


def test_parquet_is_read_alike(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({
        "grid_zone": ["SE"], "hour": pd.to_datetime(["2026-11-01T00:00Z"]), "g_per_kwh": [20.0],
    })  # fmt: skip
    frame.to_parquet(tmp_path / "grid.parquet")
    (one,) = measured_hours(tmp_path / "grid.parquet", TERMS)
    assert (one.key.grid_zone, one.g_per_kwh) == ("SE", 20.0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("grid_zone,value\nSE,1\n", "needs the columns"),
        (LONG + "SE,2026-11-01T00:30Z,20,,,,,\n", "row 2, hour: .*start of an hour"),
        (LONG + "SE,2026-11-01T00:00,20,,,,,\n", "row 2, hour: .*no zone"),
        (LONG + "SE,yesterday,20,,,,,\n", "row 2, hour"),
        (LONG + "SE,2026-11-01T00:00Z,,,,,,\n", "row 2, g_per_kwh: is missing"),
        (LONG + "SE,2026-11-01T00:00Z,many,,,,,\n", "row 2, g_per_kwh: .*not a number"),
        (LONG + "SE,2026-11-01T00:00Z,20000,,,,,\n", "row 2, g_per_kwh: 20000"),
        (LONG + ",2026-11-01T00:00Z,20,,,,,\n", "row 2, grid_zone: is missing"),
        (LONG + "SE,2026-11-01T00:00Z,20,,,guess,,\n", "row 2, kind: 'guess'"),
        (LONG + "SE,2026-11-01T00:00Z\n", "row 2: cells"),
        ("datetime,SE\n2026-11-01T00:00Z,x\n", "not a number"),
    ],
)
def test_what_is_wrong_in_a_file_names_its_row(tmp_path, text, why):
    with pytest.raises(TraceError, match=why):
        read(tmp_path, text)


def test_a_parquet_file_that_is_none_is_told(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(TraceError, match="not a readable Parquet file"):
        measured_hours(tmp_path / "x.parquet", TERMS)
