"""What somebody may have meant who wrote a name that is no grid zone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from router.config.problems import nearest
from router.config.zones import ZoneTables

# Grid zones begin with a country's ISO 3166 code of two letters, or with what stands for it here.
_COUNTRY: Final = {
    "UK": "GB", "EL": "GR", "AUS": "AU", "AUT": "AT", "BEL": "BE", "CAN": "CA", "CHE": "CH",
    "CHL": "CL", "CZE": "CZ", "DEU": "DE", "DNK": "DK", "ESP": "ES", "EST": "EE", "FIN": "FI",
    "FRA": "FR", "GBR": "GB", "IND": "IN", "IRL": "IE", "ITA": "IT", "JPN": "JP", "KOR": "KR",
    "NLD": "NL", "NOR": "NO", "POL": "PL", "PRT": "PT", "SGP": "SG", "SWE": "SE", "TWN": "TW",
    "USA": "US", "ZAF": "ZA",
}  # fmt: skip
_LISTED: Final = 6
HINT: Final = "carbon-router zones lists them"


def meant(word: str, places: ZoneTables, known: Iterable[str] = ()) -> str:
    """``did you mean 'AU-NSW'?`` or the zones of a country, and where all of them are listed.

    ``known``: further grid zones, such as a table's columns.
    """
    zones = {zone.upper(): zone for zone in (*places.zones, *known)}
    titles = {zone.title.upper(): zone.name for zone in places.zones.values()}
    asked = word.strip().upper().replace("_", "-")
    country, _, part = asked.partition("-")
    country = _COUNTRY.get(country, country)
    one = zones.get(f"{country}-{part}" if part else country) or titles.get(asked)
    family = {upper: zone for upper, zone in zones.items() if upper.startswith(f"{country}-")}
    if one is None and family:
        begun = sorted(z for upper, z in family.items() if upper.startswith(f"{country}-{part}"))
        one = None if begun else nearest(word, family.values())
        if one is None:
            return f"its grid zones are {_listed(begun or sorted(family.values()))} ({HINT})"
    if one is None:
        near = nearest(word, [*zones.values(), *titles])
        one = titles.get(near, near) if near is not None else None
    return HINT if one is None or one == word else f"did you mean {one!r}? ({HINT})"


def _listed(zones: Sequence[str]) -> str:
    more = f" and {len(zones) - _LISTED} more" if len(zones) > _LISTED else ""
    return f"{', '.join(zones[:_LISTED])}{more}"
