"""What a place of discovery means for the rest of the configuration."""

from __future__ import annotations

from pathlib import Path

from router.config.discovery import FileDiscoverySchema
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


def discovery_notes(schema: ConfigSchema) -> list[str]:
    """What is worth a look."""
    notes = []
    for place in schema.discovery:
        own = place.template.credentials
        key = schema.backends.credentials if own is None else own
        secure = place.template.tls is not None or schema.backends.tls is not None
        if key is not None and (key.env or key.file) and not secure:
            notes.append(
                f"discovery {place.name}: whoever it finds gets the key, in plaintext: give tls, "
                "and networks that only your servers are in"
            )
    return notes
