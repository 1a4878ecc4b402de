"""The shipped tables of places: cloud region -> grid zone and PUE, grid zone -> providers' ids.

``router/data/cloud_regions.csv`` and ``router/data/grid_zones.csv``; their README says where each
column comes from. An id that could not be verified is blank there, and absent here.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from router.errors import DataError, TraceError

EARTH_RADIUS_KM: Final = 6371.0
# Data centres of one cloud region lie within some tens of km of each other; further away another
# grid zone is likely.
NEAREST_WITHIN_KM: Final = 100.0

_ZONE_COLUMNS: Final = ("grid_zone", "name", "part_of")


@dataclass(frozen=True, slots=True)
class CloudRegion:
    """One cloud region. ``cloud``: ``gcp:europe-west4``; coordinates are those of the metro."""

    cloud: str
    place: str
    grid_zone: str
    lat: float
    lon: float
    pue: float
    pue_source: str


@dataclass(frozen=True, slots=True)
class GridZone:
    """One grid zone. ``ids``: provider kind to what that provider calls it.

    ``part_of``: the zone whose climatology or annual mean may stand in for this one's; "" when
    none.
    """

    name: str
    title: str
    part_of: str
    ids: Mapping[str, str]


class ZoneTables:
    """Both tables, looked up by name or by coordinates."""

    def __init__(self, regions: Iterable[CloudRegion], zones: Iterable[GridZone]) -> None:
        self.regions = {region.cloud: region for region in regions}
        self.zones = {zone.name: zone for zone in zones}

    def ids(self, kind: str) -> dict[str, str]:
        """Grid zone to the id that a provider of ``kind`` has for it."""
        return {name: zone.ids[kind] for name, zone in self.zones.items() if kind in zone.ids}

    def nearest(self, lat: float, lon: float) -> tuple[CloudRegion, float]:
        """The nearest cloud region and its distance in km; of equals the first by name."""
        distances = (
            (distance_km(lat, lon, region.lat, region.lon), name)
            for name, region in self.regions.items()
        )
        distance, name = min(distances)
        return self.regions[name], distance

    def coordinates(self, grid_zone: str) -> tuple[float, float] | None:
        """(lat, lon) of a cloud region in ``grid_zone``, the first by name; None without one."""
        for _, region in sorted(self.regions.items()):
            if region.grid_zone == grid_zone:
                return region.lat, region.lon
        return None


def distance_km(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Great-circle distance (haversine) of two points in degrees, km."""
    a, b = math.radians(lat), math.radians(other_lat)
    across = math.radians(other_lon - lon)
    half = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(across / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, half)))


@cache
def shipped_places() -> ZoneTables:
    """The tables that come with the package."""
    return ZoneTables(
        parse_regions(_lines("cloud_regions.csv"), "cloud_regions.csv"),
        parse_zones(_lines("grid_zones.csv"), "grid_zones.csv"),
    )


def parse_regions(lines: Iterable[str], name: str) -> list[CloudRegion]:
    """Rows of ``cloud_regions.csv``. Raises TraceError naming file and row."""
    regions: dict[str, CloudRegion] = {}
    reader = csv.DictReader(lines, strict=True)
    for row in reader:
        try:
            region = CloudRegion(
                cloud=row["cloud"],
                place=row["place"],
                grid_zone=row["grid_zone"],
                lat=_within(row["lat"], -90.0, 90.0),
                lon=_within(row["lon"], -180.0, 180.0),
                pue=_within(row["pue"], 1.0, 3.0),
                pue_source=row["pue_source"],
            )
            if region.cloud in regions:
                raise DataError("given twice")
        except (KeyError, TypeError, ValueError, DataError) as error:
            raise TraceError(f"{name}: row {reader.line_num}: unusable: {error!r}") from error
        regions[region.cloud] = region
    return list(regions.values())


def parse_zones(lines: Iterable[str], name: str) -> list[GridZone]:
    """Rows of ``grid_zones.csv``: each column after the first three is a provider kind.

    Raises TraceError naming file and row.
    """
    zones: dict[str, GridZone] = {}
    reader = csv.DictReader(lines, strict=True)
    for row in reader:
        try:
            ids = {k: row[k] for k in reader.fieldnames or () if k not in _ZONE_COLUMNS and row[k]}
            zone = GridZone(row["grid_zone"], row["name"], row["part_of"], ids)
            if zone.name in zones:
                raise DataError("given twice")
        except (KeyError, TypeError, DataError) as error:
            raise TraceError(f"{name}: row {reader.line_num}: unusable: {error!r}") from error
        zones[zone.name] = zone
    return list(zones.values())


def _within(text: str, least: float, most: float) -> float:
    value = float(text)
    if not least <= value <= most:
        raise ValueError(f"{text} is not within {least:g} and {most:g}")
    return value


def _lines(name: str) -> list[str]:
    return resources.files("router.data").joinpath(name).read_text("utf-8").splitlines()
