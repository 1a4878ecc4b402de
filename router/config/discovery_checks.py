"""What a place of discovery means for the rest of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from router.config.discovery import FileDiscoverySchema
from router.config.discovery_settings import DiscoverySettings, DnsPlace
from router.config.problems import Problem, key_path, unknown
from router.config.schema import ConfigSchema


def check_discovery(schema: ConfigSchema, folder: Path) -> list[Problem]:
    """Names are given once, and regions are those of the fleet."""
    problems: list[Problem] = []
    names: dict[str, int] = {}
    for index, place in enumerate(schema.discovery):
        at = f"discovery[{index}]"
        first = names.setdefault(place.name, index)
        if first != index:
            text = f"{place.name!r} is already used by discovery[{first}]"
            problems.append((f"{at}.name", text))
        if place.region and place.region not in schema.regions:
            problems.append((f"{at}.region", unknown("region", place.region, schema.regions)))
        for label, region in place.regions.items():
            if region not in schema.regions:
                where = f"{at}.{key_path(['regions', label])}"
                problems.append((where, unknown("region", region, schema.regions)))
        if isinstance(place, FileDiscoverySchema):
            # The file itself may come later.
            path = folder / place.path
            if not path.parent.is_dir():
                problems.append((f"{at}.path", f"{path.parent}: no such folder; make it"))
            elif path.is_dir():
                problems.append((f"{at}.path", f"{path}: is a folder; name the file in it"))
    return problems


def discovery_notes(places: Sequence[DiscoverySettings]) -> list[str]:
    """What is worth a look: keys that whoever is found gets."""
    notes = []
    for one in places:
        if one.access.credentials is None:
            continue
        lacks = [] if one.access.tls is not None else ["tls, else it goes in plaintext"]
        # Records name hosts, which are in no network.
        if not one.networks and not isinstance(one.place, DnsPlace):
            lacks.append("networks that only your servers are in")
        if lacks:
            notes.append(
                f"discovery {one.name}: whoever it finds gets the key: give {', and '.join(lacks)}"
            )
    return notes
