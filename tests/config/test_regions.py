"""Where a region's grid zone and PUE come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.model import Region
from tests.config.samples import loaded, problems


def region(tmp_path: Path, **keys: Any) -> tuple[Region, tuple[str, ...]]:
    config = loaded(tmp_path, {"regions/us-west": keys})
    return config.fleet.regions["us-west"], config.notes


def test_a_cloud_region_gives_grid_zone_pue_and_its_source(tmp_path: Path) -> None:
    found, _ = region(tmp_path, cloud="gcp:europe-west4")
    assert (found.grid_zone, found.pue) == ("NL", 1.07)
    assert "trailing twelve months" in found.pue_source


def test_what_the_region_says_itself_wins(tmp_path: Path) -> None:
    found, _ = region(tmp_path, cloud="gcp:europe-west4", grid_zone="BE", pue=1.2)
    assert (found.grid_zone, found.pue, found.pue_source) == ("BE", 1.2, "operator")


def test_a_location_takes_the_nearest_places_zone_and_says_so(tmp_path: Path) -> None:
    found, notes = region(tmp_path, location={"lat": 50.0, "lon": 8.5}, pue=1.3)
    assert (found.grid_zone, found.pue) == ("DE", 1.3)
    (note,) = [note for note in notes if "nearest" in note]
    assert note.startswith("regions.us-west: grid zone DE")
    assert "18 km away" in note


def test_coordinates_are_kept_for_providers_that_are_asked_by_them(tmp_path: Path) -> None:
    changes = {
        "regions/us-west": {"cloud": "aws:us-west-1"},
        "regions/us-east": {
            "grid_zone": "US-MIDA-PJM", "pue": 1.1, "location": {"lat": 40.0, "lon": -75.0},
        },
    }  # fmt: skip
    carbon = loaded(tmp_path, changes).settings.carbon
    assert carbon.coordinates == {
        "US-CAL-CISO": (37.35, -121.96), "US-MIDA-PJM": (40.0, -75.0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "key", "parts"),
    [
        ({"cloud": "gcp:europe-west44"}, "cloud", ("did you mean", "europe-west4")),
        ({"cloud": "gcp"}, "cloud", ("unknown cloud region",)),
        ({"pue": 1.1}, "grid_zone", ("required, but missing", "cloud")),
        ({"grid_zone": "DE"}, "pue", ("required, but missing", "cloud")),
        ({"location": {"lat": 50.0, "lon": 8.5}}, "pue", ("required",)),
        ({"location": {"lat": 0.0, "lon": -30.0}, "pue": 1.1}, "location", ("km", "grid_zone")),
        ({"location": {"lat": 95.0, "lon": 0.0}, "pue": 1.1}, "location.lat", ("90",)),
    ],
)
def test_what_is_missing_or_unknown_is_told(
    tmp_path: Path, keys: dict[str, Any], key: str, parts: tuple[str, ...]
) -> None:
    found = problems(tmp_path, {"regions/us-west": keys})
    text = found[f"regions.us-west.{key}"]
    assert all(part in text for part in parts), text
