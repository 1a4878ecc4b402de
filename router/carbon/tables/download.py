"""The yearly file that Electricity Maps' portal gives of one grid zone, as a table of that zone.

Its columns are ``Datetime (UTC)``, ``Country``, ``Zone name``, ``Zone id``, ``Carbon intensity
gCO₂eq/kWh (direct)``, ``... (Life cycle)`` (``(LCA)`` in older files), shares and texts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from router.errors import TraceError
from router.model import Factors

_ZONE_ID = re.compile(r"zone[ _]id", re.IGNORECASE)
_INTENSITY: Final = {
    Factors.DIRECT: re.compile(r"carbon intensity\b.*\(direct\)", re.IGNORECASE),
    Factors.LIFECYCLE: re.compile(r"carbon intensity\b.*\((life ?cycle|lca)\)", re.IGNORECASE),
}


class Download(NamedTuple):
    """Places of the columns that hold the grid zone's id, and its intensity in some factors."""

    zone_id: int
    g_per_kwh: int

    def zone(self, zone_ids: Collection[str], name: str) -> str:
        """The one grid zone of the file. Raises TraceError for several, or none."""
        if len(zone_ids) == 1 and (zone := next(iter(zone_ids))):
            return zone
        listed = ", ".join(sorted(zone_ids)[:3]) or "none"
        fix = "keep the rows of one, or make one column a grid zone"
        raise TraceError(f"{name}: column Zone id: must name one grid zone, has {listed}; {fix}")


def download_of(header: Sequence[str], factors: Factors) -> Download | None:
    """Where ``header`` has what is needed; None when it is of another kind of table."""
    wanted = _INTENSITY.get(factors)
    ids = [place for place, cell in enumerate(header) if _ZONE_ID.fullmatch(cell.strip())]
    values = [p for p, c in enumerate(header) if wanted and wanted.fullmatch(c.strip())]
    return Download(ids[0], values[0]) if len(ids) == len(values) == 1 else None
