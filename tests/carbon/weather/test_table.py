from __future__ import annotations

import contextlib
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.weather.table import parse_weather, read_weather
from router.errors import TraceError

HEADER = (
    "grid_zone,datetime,wind_speed_m_s,irradiance_w_m2,temperature_c,dew_point_c,precipitation_mm"
)
GOOD = f"""{HEADER}
DE,2022-05-14T00:00Z,5.5,0,12.5,6,0
FR,2022-05-14T00:00Z,1,2,3,4,5
DE,2022-05-14T02:00Z,6.5,,13,6.5,0.2
"""
H0 = 459_024


def parse(text: str, only: list[str] | None = None) -> dict[str, object]:
    return dict(parse_weather(io.StringIO(text, newline=""), "w.csv", only, 7.0))


def test_a_file_of_several_zones(tmp_path: Path) -> None:
    for name, data in (("w.csv", GOOD.encode()), ("w.csv.gz", gzip.compress(GOOD.encode()))):
        path = tmp_path / name
        path.write_bytes(data)
        found = read_weather(path, only=["DE", "XX"])
        assert set(found) == {"DE"}
        one = found["DE"]
        assert one.source == f"weather:{name}" and one.first_h == H0
        assert one.issued_at == pytest.approx(path.stat().st_mtime)
        assert one.values[0].tolist() == [5.5, 0.0, 12.5, 6.0, 0.0]
        assert np.isnan(one.values[1]).all() and np.isnan(one.values[2]).tolist() == [
            False, True, False, False, False,
        ]  # fmt: skip
    assert set(parse(GOOD)) == {"DE", "FR"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (HEADER, HEADER.replace("wind_speed_m_s", "wind_speed"), "no column wind_speed_m_s"),
        ("12.5", "285.6", "subtract 273.15"),
        ("5.5", "nan", "no wind_speed"),
        ("5.5", "1e999", "no wind_speed"),
        ("5.5", "5,5", "as many cells"),
        ("5.5", "fast", "not a number"),
        ("2022-05-14T02:00Z", "2022-05-14T00:00Z", "this hour twice"),
        ("2022-05-14T02:00Z", "2022-05-14T02:15Z", "no hour's start"),
        ("2022-05-14T02:00Z", "yesterday", "no hour's start"),
        ("2022-05-14T02:00Z", "2062-05-14T02:00Z", "of at most"),
        ("DE,2022-05-14T02:00Z", '"DE,2022', "not CSV"),
    ],
)
def test_what_cannot_be_names_row_and_fix(old: str, new: str, told: str) -> None:
    with pytest.raises(TraceError, match=told) as caught:
        parse(GOOD.replace(old, new, 1))
    assert "w.csv" in str(caught.value)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "w.csv.gz"
    for data in (b"plain", gzip.compress(b"\xff\xfe\x00")):
        path.write_bytes(data)
        with pytest.raises(TraceError, match="cannot be read"):
            read_weather(path)
    with pytest.raises(TraceError, match="cannot be read"):
        read_weather(tmp_path / "none.csv")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(TraceError):
        parse(f"{HEADER}\n{text}")
