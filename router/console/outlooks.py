"""Grid zones as the console draws them: now, the day behind, the day ahead with its band, and how
far forecasts were off."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from router.carbon.chain.combine import MetHour
from router.core.columns import Snapshot
from router.core.learned import SkillLearned
from router.model import Forecast, Intensity
from router.telemetry.carbon import SHOWN_LEADS_H
from router.telemetry.view import Json
from router.units import HOUR_S

HOURS: Final = 24
# Of a zone at once; what is observed comes late, and to look for an hour takes a tenth of a ms.
_MOST_MISSING: Final = 3
# Of what is drawn; what is read as a number stands as it is.
_DIGITS: Final = 2

# (grid zone, start of an hour) -> what was observed of it, None unless all of it is known.
Observed = Callable[[str, float], Intensity | None]


def now_document(known: Intensity | None, now: float) -> Json:
    """The intensity that decisions use; None where no source knows it."""
    if known is None:
        return None
    return {
        "g": known.g_per_kwh,
        "low": known.low_g_per_kwh,
        "high": known.high_g_per_kwh,
        "kind": known.kind.value,
        "source": known.source,
        "observed_at": known.observed_at,
        "stale": now >= known.expires_at,
    }


def ahead_document(forecast: Forecast, now: float) -> dict[str, Json]:
    """Hours from the current one on, a day of them at most."""
    start = math.floor(now / HOUR_S) * HOUR_S
    end = forecast.start + forecast.step_s * len(forecast.slots)
    count = min(HOURS, max(1, math.ceil((end - start) / HOUR_S)))
    slots = [forecast.at(start + HOUR_S * (hour + 0.5)) for hour in range(count)]
    return {
        "start": start,
        "step_s": HOUR_S,
        "g": [round(one.g_per_kwh, _DIGITS) for one in slots],
        "low": [round(one.low_g_per_kwh, _DIGITS) for one in slots],
        "high": [round(one.high_g_per_kwh, _DIGITS) for one in slots],
        "kinds": [one.kind.value for one in slots],
    }


class PastHours:
    """Observed hours, looked up once each: whoever knows them goes through all that it keeps.

    The newest are looked up again, since values come late and are revised; older ones that are
    missing take turns.
    """

    def __init__(self, observed: Observed, again: int = 2) -> None:
        self._observed = observed
        self._again = again
        self._known: dict[str, dict[float, Intensity | None]] = {}
        self._turns: Counter[str] = Counter()

    def document(self, zone: str, now: float) -> dict[str, Json]:
        """The last day, hour by hour, up to the current one."""
        end = math.floor(now / HOUR_S) * HOUR_S
        known = self._known.get(zone, {})
        starts = [end - HOUR_S * back for back in range(HOURS, 0, -1)]
        older = [start for start in starts[: HOURS - self._again] if start in known]
        kept = set(older) - self._due(zone, known, older)
        hours = {
            start: known[start] if start in kept else self._observed(zone, start)
            for start in starts
        }
        self._known[zone] = hours
        return {
            "start": end - HOUR_S * HOURS,
            "step_s": HOUR_S,
            "g": [None if one is None else round(one.g_per_kwh, _DIGITS) for one in hours.values()],
            "kinds": [None if one is None else one.kind.value for one in hours.values()],
        }

    def keep(self, zones: Iterable[str]) -> None:
        """Forget all others."""
        wanted = set(zones)
        self._known = {zone: hours for zone, hours in self._known.items() if zone in wanted}
        for gone in self._turns.keys() - wanted:
            del self._turns[gone]

    def _due(
        self, zone: str, known: Mapping[float, Intensity | None], older: Sequence[float]
    ) -> set[float]:
        """Of those that are missing, the ones whose turn it is."""
        missing = [start for start in older if known[start] is None]
        turn = self._turns[zone]
        self._turns[zone] += _MOST_MISSING
        return {missing[(turn + n) % len(missing)] for n in range(_MOST_MISSING) if missing}


def errors_document(learned: SkillLearned | None, leads_h: Sequence[int]) -> dict[str, Json]:
    """Mean absolute errors, g/kWh, at the leads that metrics show, too; only where hours were met.

    ``leads_h``: of the places of ``learned``.
    """
    found: dict[str, Json] = {}
    if learned is None:
        return found
    for lead_h, (seen, published, own, used) in zip(leads_h, learned.errors, strict=True):
        if seen and lead_h in SHOWN_LEADS_H:
            found[str(lead_h)] = {"hours": seen, "published": published, "own": own, "used": used}
    return found


def met_document(
    zone: str,
    met: Mapping[int, Sequence[MetHour]],
    learned: SkillLearned | None,
    leads_h: Sequence[int],
) -> dict[str, Json]:
    """Hours that were forecast and then observed, at the leads that metrics show: start, what was
    published, ours, what was used, what came, g/kWh; and the errors, as `errors_document`."""
    return {
        "zone": zone,
        "errors": errors_document(learned, leads_h),
        "met": {
            str(lead_h): [list(hour) for hour in hours]
            for lead_h, hours in met.items()
            if lead_h in SHOWN_LEADS_H
        },
    }


def grid_document(
    snapshot: Snapshot,
    now: float,
    past: PastHours,
    learned: Iterable[SkillLearned],
    leads_h: Sequence[int],
) -> dict[str, Json]:
    """Every grid zone of the fleet."""
    skills: Mapping[str, SkillLearned] = {one.grid_zone: one for one in learned}
    zones: dict[str, Json] = {}
    for region in snapshot.layout.fleet.regions.values():
        zone = region.grid_zone
        if zone in zones:
            continue
        forecast = snapshot.forecasts.get(zone)
        zones[zone] = {
            "now": now_document(snapshot.intensity(region.name, now), now),
            "ahead": None if forecast is None else ahead_document(forecast, now),
            "past": past.document(zone, now),
            "errors": errors_document(skills.get(zone), leads_h),
        }
    past.keep(zones)
    return {"version": snapshot.version, "now": now, "zones": zones}
