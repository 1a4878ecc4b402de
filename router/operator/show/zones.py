"""``carbon-router zones``: which grid zone a cloud region lies in, and what providers call it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.carbon.providers.registry import providers
from router.carbon.providers.schema import ProviderSchema
from router.config.zones import CloudRegion, GridZone, ZoneTables

# A place in the zone finds the provider's region.
BY_LOCATION = "by location"


def zone_rows(places: ZoneTables, provider: str, grid_zone: str) -> list[dict[str, Any]]:
    """A row a grid zone, of those that ``provider`` can be asked about and that is ``grid_zone``.

    Either empty: all.
    """
    rows, known = [], providers()
    zones = dict(places.zones)
    for schema in known.values():
        for name in schema.zone_ids:
            zones.setdefault(name, GridZone(name, name, "", {}))
    for zone in zones.values():
        regions = [r for r in places.regions.values() if r.grid_zone == zone.name]
        ids = {kind: _id(zone, regions, kind, schema) for kind, schema in known.items()}
        if (not provider or ids[provider]) and grid_zone in ("", zone.name):
            rows.append(_row(zone, regions, ids))
    return rows


def zones_json(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as they are; an id that is not known is null."""
    return json.dumps(rows, indent=2, ensure_ascii=False)


def render_zones(rows: Sequence[dict[str, Any]]) -> RenderableType:
    """A table of the rows, with each cloud region and its PUE."""
    known = providers()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("grid zone", "", *known, "cloud regions (PUE)"):
        table.add_column(title, no_wrap=title != "cloud regions (PUE)")
    for row in rows:
        clouds = ", ".join(f"{r['cloud']} ({r['pue']:.2f})" for r in row["cloud_regions"])
        ids = (row["ids"][name] or "" for name in known)
        table.add_row(row["grid_zone"], row["name"], *ids, clouds)
    legend = [
        "empty: not known, or not offered; carbon.sources[].zones adds and overrides",
        *(f"{kind} {schema.zones_note}" for kind, schema in known.items() if schema.zones_note),
        "PUE: router/data/README.md",
    ]
    return Group(table, Text(". ".join(legend), style="dim"))


def _id(
    zone: GridZone, regions: Sequence[CloudRegion], kind: str, schema: type[ProviderSchema]
) -> str | None:
    known = schema.zone_ids.get(zone.name) or zone.ids.get(kind)
    return known or (BY_LOCATION if schema.by_location and regions else None)


def _row(
    zone: GridZone, regions: Sequence[CloudRegion], ids: dict[str, str | None]
) -> dict[str, Any]:
    return {
        "grid_zone": zone.name,
        "name": zone.title,
        "part_of": zone.part_of or None,
        "ids": ids,
        "cloud_regions": [
            {
                "cloud": region.cloud,
                "place": region.place,
                "lat": region.lat,
                "lon": region.lon,
                "pue": region.pue,
                "pue_source": region.pue_source,
            }
            for region in regions
        ],
    }
