"""``carbon.weather`` in the file, and which errors name their fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.config.samples import loaded, problems

POINTS = {"DE": [{"lat": 52.5, "lon": 13.4}]}


def test_paths_and_keys_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("x")
    given = {"file": "w.csv", "points": POINTS, "key_file": "om.key"}
    spec = loaded(tmp_path, {"carbon": {"weather": given}}).settings.carbon.weather
    assert spec is not None and spec.key is not None
    assert (spec.file, spec.key.file) == (tmp_path / "w.csv", tmp_path / "om.key")
    assert spec.schema.points["DE"][0].weight == 1.0
    assert loaded(tmp_path).settings.carbon.weather is None


@pytest.mark.parametrize(
    ("weather", "key", "told"),
    [
        ({}, "carbon.weather", "give a file, or points"),
        ({"points": {"DE": []}}, "carbon.weather", "one at least"),
        ({"points": {"DE": POINTS["DE"] * 21}}, "carbon.weather", "at most 20"),
        ({"points": POINTS, "key_env": "A", "key_file": "b"}, "carbon.weather", "by one of"),
        ({"points": {"DE": [{"lat": 91, "lon": 0}]}}, "carbon.weather.points.DE[0].lat", "90"),
        ({"points": POINTS, "refresh_s": 60}, "carbon.weather.refresh_s", "600"),
        ({"points": POINTS, "wind_height_m": 20}, "carbon.weather.wind_height_m", "80"),
        ({"file": "none.csv"}, "carbon.weather.file", "no such file"),
    ],
)
def test_what_is_wrong_is_told_where(
    tmp_path: Path, weather: dict[str, Any], key: str, told: str
) -> None:
    assert told in problems(tmp_path, {"carbon": {"weather": weather}})[key]


def test_a_replay_asks_for_no_weather_of_today(tmp_path: Path) -> None:
    changes = {"carbon": {"weather": {"points": POINTS}}, "clock": {"start": "2022-05-14T00:00Z"}}
    assert "use a file" in problems(tmp_path, changes)["carbon.weather.points"]
