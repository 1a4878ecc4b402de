"""Grid zones that are part of a larger one: what is usual there may stand in for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from router.carbon.tables.climatology import Profile
from router.config.zones import ZoneTables
from router.model import Intensity


def profiles_of_parts(known: Mapping[str, Profile], places: ZoneTables) -> dict[str, Profile]:
    """``known`` and, for zones that lack a profile, that of the zone they are part of.

    The source of such a value says whose it is: ``climatology(...) of SE``.
    """
    found = dict(known)
    for zone, whole in _missing(known, places).items():
        found[zone] = tuple(_of(cell, whole) for cell in known[whole])
    return found


def means_of_parts(known: Mapping[str, Intensity], places: ZoneTables) -> dict[str, Intensity]:
    """As `profiles_of_parts`, of annual means."""
    parts = {zone: _of(known[whole], whole) for zone, whole in _missing(known, places).items()}
    return {**known, **parts}


def _missing(known: Mapping[str, object], places: ZoneTables) -> dict[str, str]:
    """Zone to the one it is part of, where that is known and the zone itself is not."""
    return {
        zone.name: zone.part_of
        for zone in places.zones.values()
        if zone.part_of in known and zone.name not in known
    }


def _of(value: Intensity, whole: str) -> Intensity:
    return replace(value, source=f"{value.source} of {whole}")
