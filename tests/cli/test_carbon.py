from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command_line import run


def test_wrong_contents_of_a_table_are_the_files_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "grid.csv"
    table.write_text("datetime,DE\n2023-01-01T00:00Z,400\n2023-01-01T01:00Z,much\n")
    assert run("forecast-eval", "--data", str(table), "--train-until", "2023-01-01") == 2
    told = capsys.readouterr().err
    assert "trace_invalid:\ngrid.csv: row 3, column DE" in told


def test_zones_lists_ids_as_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("zones", "--grid-zone", "US-CAL-CISO") == 0
    assert "CISO" in capsys.readouterr().out
    assert run("zones", "--provider", "entsoe", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"DE", "SE-SE3"} <= {row["grid_zone"] for row in rows}
    assert all(row["ids"]["entsoe"] for row in rows)


def test_zones_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("zones", "--provider", "weather") == 2
    assert "electricity_maps" in capsys.readouterr().err
    assert run("zones", "--grid-zone", "MARS") == 1


def test_grid_shows_draws_and_prints_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="LOUD: matplotlib is not installed")
    picture = tmp_path / "grid.png"
    assert run("grid", "DE", "DE", "US-CAL-CISO", "--plot", str(picture), "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert [one["grid_zone"] for one in plain] == ["DE", "US-CAL-CISO"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("grid", "DE", "--hours", "6") == 0
    assert "climatology" in capsys.readouterr().out


def test_grid_of_an_unknown_zone_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("grid", "MARS") == 1
    assert "MARS" in capsys.readouterr().err


def test_a_picture_that_cannot_be_drawn_is_refused_before_any_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "day.png").mkdir()
    for name, told in (("day", "ends in .png"), ("day.png", "is a folder")):
        assert run("grid", "DE", "--plot", str(tmp_path / name)) == 2
        assert told in " ".join(capsys.readouterr().err.split())
