"""The shipped tables of places, and what is refused in a table like them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.providers.registry import providers
from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import embedded
from router.config.zones import (
    distance_km,
    parse_regions,
    parse_zones,
    shipped_places,
)
from router.errors import TraceError

REGION_HEADER = "cloud,place,grid_zone,lat,lon,pue,pue_source"


def test_every_cloud_region_lies_in_a_known_grid_zone() -> None:
    places = shipped_places()
    assert len(places.regions) == 85
    for region in places.regions.values():
        assert region.grid_zone in places.zones, region.cloud
        assert region.pue_source
        assert region.cloud.partition(":")[0] in ("aws", "azure", "gcp")


def test_every_zone_with_a_climatology_or_an_annual_mean_is_listed() -> None:
    known = set(shipped_places().zones)
    assert known >= Climatology.load().grid_zones
    assert known >= embedded().keys()


def test_ids_are_those_of_the_providers() -> None:
    places = shipped_places()
    assert places.zones["US-CAL-CISO"].ids["eia"] == "CISO"
    assert places.zones["SE-SE3"].ids["entsoe"] == "SE_3"
    assert places.zones["DE"].ids["entsoe"] == "DE_LU"
    assert places.zones["DE"].ids["energy_charts"] == "de"
    assert places.zones["GB"].ids["gb_carbon_intensity"] == "national"
    assert places.zones["IN-WE"].ids["electricity_maps"] == "IN-WE"
    # WattTime publishes no list of its regions: none is guessed.
    assert not any("watttime" in zone.ids for zone in places.zones.values())
    assert "eia" not in places.zones["DE"].ids
    assert "MARS" not in places.zones
    assert {kind for zone in places.zones.values() for kind in zone.ids} <= providers().keys()


def test_a_us_zone_ends_in_its_respondent() -> None:
    for zone in shipped_places().zones.values():
        if zone.name.startswith("US-"):
            assert zone.ids["eia"] == zone.name.rpartition("-")[2]


def test_entsoe_areas_are_known_to_entsoe_py() -> None:
    mappings = pytest.importorskip("entsoe.mappings", reason="LOUD: entsoe-py is not installed")
    for zone in shipped_places().zones.values():
        if area := zone.ids.get("entsoe"):
            assert area in mappings.Area.__members__, zone.name


def test_a_part_is_of_a_zone_that_is_listed_and_has_what_is_usual() -> None:
    zones = shipped_places().zones
    for zone in zones.values():
        if zone.part_of:
            assert zone.part_of in zones
            assert not zones[zone.part_of].part_of


def test_the_nearest_cloud_region_is_found() -> None:
    places = shipped_places()
    region, away_km = places.nearest(50.0, 8.5)
    assert region.grid_zone == "DE"
    assert 10.0 < away_km < 30.0
    assert places.coordinates("FR") == (48.86, 2.35)
    assert places.coordinates("US-FLA-FPL") is None


def test_distances_are_those_of_a_map() -> None:
    assert distance_km(51.5, -0.13, 48.86, 2.35) == pytest.approx(342.0, rel=0.01)
    assert distance_km(0.0, 179.5, 0.0, -179.5) == pytest.approx(111.2, rel=0.01)


@given(
    st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
    st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
)
def test_a_distance_is_symmetric_and_at_most_half_the_globe(
    here: tuple[float, float], there: tuple[float, float]
) -> None:
    there_km, back_km = distance_km(*here, *there), distance_km(*there, *here)
    assert there_km == pytest.approx(back_km, abs=1e-6)
    assert 0.0 <= there_km <= 20_016.0


@pytest.mark.parametrize(
    "row",
    [
        "aws:x,Somewhere,DE,91,0,1.1,s",
        "aws:x,Somewhere,DE,1,200,1.1,s",
        "aws:x,Somewhere,DE,1,0,0.9,s",
        "aws:x,Somewhere,DE,nan,0,1.1,s",
        "aws:x,Somewhere,DE,one,0,1.1,s",
        "aws:x,Somewhere",
        "aws:x,Somewhere,DE,1,0,1.1,s\naws:x,Elsewhere,FR,1,0,1.1,s",
    ],
)
def test_a_region_that_cannot_be_names_its_row(row: str) -> None:
    with pytest.raises(TraceError, match=r"places\.csv: row"):
        parse_regions([REGION_HEADER, *row.splitlines()], "places.csv")


def test_a_zone_given_twice_is_refused() -> None:
    lines = ["grid_zone,name,part_of,eia", "DE,Germany,,", "DE,Germany,,"]
    with pytest.raises(TraceError, match="row 3"):
        parse_zones(lines, "zones.csv")
