"""Regions of the file -> regions of the fleet: grid zone and PUE filled in from the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from router.config.problems import Problem, key_path, unknown
from router.config.schema import RegionSchema
from router.config.zones import NEAREST_WITHIN_KM, CloudRegion, ZoneTables
from router.model import Region


class Resolved(NamedTuple):
    """``coordinates``: grid zone to (lat, lon), of its first region that has them."""

    regions: dict[str, Region]
    coordinates: dict[str, tuple[float, float]]
    problems: list[Problem]
    notes: list[str]


def resolve_regions(regions: Mapping[str, RegionSchema], places: ZoneTables) -> Resolved:
    """Every region with its grid zone and PUE; what a region says itself wins over the tables."""
    resolved = Resolved({}, {}, [], [])
    for name, region in regions.items():
        _resolve(name, region, places, resolved)
    return resolved


def _resolve(name: str, region: RegionSchema, places: ZoneTables, into: Resolved) -> None:
    at = key_path(["regions", name])
    known = places.regions.get(region.cloud) if region.cloud else None
    if region.cloud and known is None:
        text = unknown("cloud region", region.cloud, places.regions)
        into.problems.append((f"{at}.cloud", f"{text}; or give grid_zone and pue"))
        return
    grid_zone = region.grid_zone or (known.grid_zone if known else None)
    if grid_zone is None:
        grid_zone = _by_location(name, region, places, into)
    pue, source = region.pue, region.pue_source or "operator"
    if pue is None and known is not None:
        pue, source = known.pue, region.pue_source or known.pue_source
    if pue is None:
        into.problems.append(
            (
                f"{at}.pue",
                "required, but missing: power usage effectiveness, facility over IT; or give cloud",
            )
        )
    if grid_zone is None or pue is None:
        return
    into.regions[name] = Region(name, grid_zone, pue, source, frozenset(region.residency))
    point = _point(region, known)
    if point is not None:
        into.coordinates.setdefault(grid_zone, point)


def _point(region: RegionSchema, known: CloudRegion | None) -> tuple[float, float] | None:
    if region.location is not None:
        return region.location.lat, region.location.lon
    return (known.lat, known.lon) if known else None


def _by_location(name: str, region: RegionSchema, places: ZoneTables, into: Resolved) -> str | None:
    """The grid zone of the nearest cloud region, noted; None, with the problem, when too far."""
    at = key_path(["regions", name])
    if region.location is None:
        text = "required, but missing: carbon-data area, such as US-CAL-CISO; or give cloud"
        into.problems.append((f"{at}.grid_zone", text))
        return None
    nearest, away_km = places.nearest(region.location.lat, region.location.lon)
    where = f"{nearest.cloud} ({nearest.place}, {nearest.grid_zone}), is {away_km:.0f} km away"
    if away_km > NEAREST_WITHIN_KM:
        text = (
            f"the nearest known place, {where}, over {NEAREST_WITHIN_KM:g} km: give grid_zone "
            "(carbon-router zones lists them)"
        )
        into.problems.append((f"{at}.location", text))
        return None
    into.notes.append(
        f"{at}: grid zone {nearest.grid_zone} is taken because the nearest known place, {where}; "
        "give grid_zone where that is wrong"
    )
    return nearest.grid_zone
