"""Grams a kWh by grid zone: annual mean, and the hours of the usual day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final, NamedTuple

from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import embedded
from router.config.suggestions import meant
from router.config.zones import shipped_places
from router.errors import ConfigError
from router.units import DAY_S

# The two places of the source story; West Virginia lies in PJM.
CALIFORNIA: Final = "US-CAL-CISO"
WEST_VIRGINIA: Final = "US-MIDA-PJM"
LABELS: Final = {CALIFORNIA: "California", WEST_VIRGINIA: "West Virginia (PJM)"}
_HOURS: Final = 24
_COMMON_YEAR: Final = datetime(2023, 1, 1, tzinfo=UTC).timestamp()
_MOST_G_PER_KWH: Final = 5_000.0


class PlaceIntensity(NamedTuple):
    """What a kWh emits in one grid zone, gCO2e: average, life-cycle, production-based.

    ``g_per_kwh``: the annual mean, or the usual value of the hour that was asked for (``when``).
    ``by_hour``: 24 usual values in UTC, of that month, or of the year; () where not known.
    """

    zone: str
    label: str
    g_per_kwh: float
    when: str
    by_hour: tuple[float, ...]
    source: str


def places(zones: Sequence[str], at: float | None) -> tuple[PlaceIntensity, ...]:
    """Each of ``zones``, annual means or, with ``at`` (unix seconds), that month and hour.

    Raises ConfigError for a zone that nobody knows or that ships without a figure.
    """
    return tuple(_place(zone, at) for zone in zones)


def own_place(g_per_kwh: float) -> PlaceIntensity:
    """A figure of the caller's own. Raises ConfigError where it is none."""
    if not 0.0 <= g_per_kwh <= _MOST_G_PER_KWH:
        fix = f"{g_per_kwh:g} is no intensity in gCO2e/kWh; grids emit 10 to 1000"
        raise ConfigError("energy", [("--g-per-kwh", fix)])
    return PlaceIntensity("", "your figure", g_per_kwh, "as given", (), "caller")


def _place(zone: str, at: float | None) -> PlaceIntensity:
    grids = shipped_places().zones
    means, usual = embedded(), _climatology()
    stands_in = zone
    if zone not in means and zone in grids and grids[zone].part_of:
        stands_in = grids[zone].part_of
    if stands_in not in means:
        raise ConfigError("energy", [("--zone", _no_figure(zone, zone in grids, sorted(means)))])
    hours = _usual_hours(usual, stands_in, at)
    mean = means[stands_in]
    label = LABELS.get(zone) or (grids[zone].title if zone in grids else zone)
    if stands_in != zone:
        label = f"{label} (as {stands_in})"
    if at is None:
        return PlaceIntensity(zone, label, mean.g_per_kwh, "annual mean", hours, mean.source)
    if not hours:
        fix = f"{zone} has an annual mean alone; leave out --at"
        raise ConfigError("energy", [("--at", fix)])
    (slot,) = usual.slots(stands_in, at, 1)
    when = datetime.fromtimestamp(at, UTC).strftime("usual of %B, %H h UTC")
    return PlaceIntensity(zone, label, slot.g_per_kwh, when, hours, slot.source)


@cache
def _climatology() -> Climatology:
    return Climatology.load()


def _usual_hours(usual: Climatology, zone: str, at: float | None) -> tuple[float, ...]:
    if at is None:
        year = usual.slots(zone, _COMMON_YEAR, 365 * _HOURS)
        values = [slot.g_per_kwh for slot in year]
    else:
        day = usual.slots(zone, at // DAY_S * DAY_S, _HOURS)
        values = [slot.g_per_kwh for slot in day]
    return tuple(
        math.fsum(values[h::_HOURS]) / len(values[h::_HOURS]) for h in range(_HOURS) if values
    )


def _no_figure(zone: str, known: bool, have: Sequence[str]) -> str:
    if known:
        return (
            f"no annual mean ships for {zone}; give yours with --g-per-kwh, or one of "
            f"{', '.join(have)}"
        )
    return f"{zone!r} is no grid zone; {meant(zone, shipped_places(), have)}"
