from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.samples import DELETE, loaded, problems

TABLE = {"origins": DELETE, "rtt": {"file": "rtt.csv"}, "default_origin": "ca"}


def table(folder: Path, text: str) -> None:
    (folder / "rtt.csv").write_text(text, encoding="utf-8")


def test_a_table_gives_every_pair(tmp_path: Path) -> None:
    table(tmp_path, "origin,us-east,us-west,other\nca,62.5,4,1\nva,3,60,1\n")
    fleet = loaded(tmp_path, TABLE).fleet
    assert fleet.rtt_ms == {
        "ca": {"us-east": 62.5, "us-west": 4.0},
        "va": {"us-east": 3.0, "us-west": 60.0},
    }


def test_columns_and_rows_may_be_chosen(tmp_path: Path) -> None:
    table(tmp_path, "from,eastus,westus\nwestus,70,1\neastus,1,70\nnowhere,,\n")
    rtt = {
        "file": "rtt.csv",
        "columns": {"us-west": "westus", "us-east": "eastus"},
        "origins": ["westus"],
    }
    fleet = loaded(tmp_path, {**TABLE, "rtt": rtt, "default_origin": "westus"}).fleet
    assert fleet.rtt_ms == {"westus": {"us-west": 1.0, "us-east": 70.0}}


def test_origins_add_to_the_table_and_override_it(tmp_path: Path) -> None:
    table(tmp_path, "origin,us-east,us-west\nca,62,4\n")
    origins = {"ca": {"rtt_ms": {"us-west": 5}}, "tx": {"rtt_ms": {"us-west": 30, "us-east": 33}}}
    fleet = loaded(tmp_path, {**TABLE, "origins": origins}).fleet
    assert fleet.rtt_ms["ca"] == {"us-east": 62.0, "us-west": 5.0}
    assert fleet.rtt_ms["tx"] == {"us-east": 33.0, "us-west": 30.0}


def test_a_blank_cell_is_a_missing_pair_and_never_0(tmp_path: Path) -> None:
    table(tmp_path, "origin,us-east,us-west\nca,,4\n")
    found = problems(tmp_path, TABLE)
    assert found == {"origins.ca.rtt_ms": "no round-trip time to us-east; add it in ms"}


def test_a_missing_column_is_a_missing_pair(tmp_path: Path) -> None:
    table(tmp_path, "origin,us-west\nca,4\n")
    assert "no round-trip time to us-east" in problems(tmp_path, TABLE)["origins.ca.rtt_ms"]


@pytest.mark.parametrize("cell", ["x", "-1", "nan", "inf", "10001"])
def test_a_cell_that_is_no_time_names_row_and_column(tmp_path: Path, cell: str) -> None:
    table(tmp_path, f"origin,us-east,us-west\nca,{cell},4\n")
    text = problems(tmp_path, TABLE)["rtt.file"]
    assert "row ca, column us-east" in text
    assert repr(cell) in text


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "needs a header"),
        ("origin,us-east,us-west\n", "needs a header"),
        ("origin,us-east,us-east\nca,1,2\n", "column name occurs twice"),
        ("origin,us-east,us-west\nca,1\n", "row 2 has 2 cells, the header 3"),
        ("origin,us-east,us-west\nca,1,2\nca,1,2\n", "occurs twice"),
        ("origin,us-east,us-west\n,1,2\n", "is empty"),
        ('origin,us-east,us-west\nca,"1,2\n', "not CSV"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path: Path, content: str, part: str) -> None:
    table(tmp_path, content)
    text = problems(tmp_path, {**TABLE, "default_origin": ""})["rtt.file"]
    assert part in text
    assert "rtt.csv" in text


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    assert "no such file" in problems(tmp_path, TABLE)["rtt.file"]


def test_unknown_names_are_reported(tmp_path: Path) -> None:
    table(tmp_path, "origin,us-east,us-west\nca,62,4\n")
    rtt = {
        "file": "rtt.csv",
        "columns": {"us-eats": "us-east", "us-west": "us-wst"},
        "origins": ["ca", "cb"],
    }
    found = problems(tmp_path, {**TABLE, "rtt": rtt})
    assert "did you mean 'us-east'?" in found["rtt.columns.us-eats"]
    assert "did you mean 'us-west'?" in found["rtt.columns.us-west"]
    assert "unknown row 'cb'; known: ca" in found["rtt.origins[1]"]


def test_a_fleet_without_round_trip_times_is_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, {"origins": DELETE, "default_origin": ""})
    assert "no round-trip times" in found["origins"]
