"""The table of zones, for people and machines."""

from __future__ import annotations

import json
from io import StringIO

from rich.console import Console

from router.config.zones import shipped_places
from router.operator.show.zones import render_zones, zone_rows, zones_json


def test_a_zone_has_its_ids_and_its_cloud_regions() -> None:
    (row,) = zone_rows(shipped_places(), "", "SE-SE3")
    assert row["ids"]["entsoe"] == "SE_3"
    assert row["ids"]["watttime"] == "by location"
    assert row["ids"]["eia"] is None
    assert [one["cloud"] for one in row["cloud_regions"]] == [
        "aws:eu-north-1", "azure:swedencentral",
    ]  # fmt: skip
    assert json.loads(zones_json([row])) == [row]


def test_a_provider_filters() -> None:
    rows = zone_rows(shipped_places(), "eia", "")
    assert rows
    assert all(row["grid_zone"].startswith("US-") for row in rows)
    assert zone_rows(shipped_places(), "eia", "DE") == []


def test_the_table_names_everything() -> None:
    out = StringIO()
    rows = zone_rows(shipped_places(), "", "US-CAL-CISO")
    Console(file=out, width=250).print(render_zones(rows))
    for part in ("US-CAL-CISO", "California ISO", "CISO", "gcp:us-west2 (1.10)"):
        assert part in out.getvalue()
