"""The sums that the console begins with, out of the samples of /metrics, and how fast they grow.

No figure here is counted apart: what the page shows is what a scraper reads.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.samples import Sample

from router.telemetry.view import Json

_PREFIX: Final = "carbon_router_"
GRAMS: Final = _PREFIX + "gco2e_grams_total"
SAVED: Final = _PREFIX + "saved_gco2e_grams_total"
EXCESS: Final = _PREFIX + "excess_gco2e_grams_total"
JOULES: Final = _PREFIX + "energy_joules_total"
REQUESTS: Final = _PREFIX + "requests_total"
REFUSED: Final = _PREFIX + "refused_total"
UNACCOUNTED: Final = _PREFIX + "unaccounted_requests_total"
KEPT: Final = _PREFIX + "latency_budget_total"
IN_FLIGHT: Final = _PREFIX + "endpoint_in_flight"
FAMILIES: Final = (GRAMS, SAVED, EXCESS, JOULES, REQUESTS, REFUSED, UNACCOUNTED, KEPT)

ANSWERED: Final = "OK"
# Rates are over so long: requests end in bursts, and a number that jumps is not read.
WINDOW_S: Final = 10.0


@dataclass(slots=True)
class RegionTotals:
    """Of one region: requests answered, grams, and grams more and less than latency-first's."""

    requests: float = 0.0
    gco2e_g: float = 0.0
    saved_g: float = 0.0
    excess_g: float = 0.0


@dataclass(slots=True)
class Totals:
    """Since the process began, of all its workers. Grams at facility energy, joules of IT.

    ``grams_kinds``: grams by "kind of intensity/kind of joules", ``joules_kinds`` and
    ``saved_kinds`` by how those are known. ``budgets``: requests by (quantity, met or missed).
    """

    gco2e_g: float = 0.0
    saved_g: float = 0.0
    excess_g: float = 0.0
    energy_j: float = 0.0
    unaccounted: float = 0.0
    requests: dict[str, float] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)
    grams_kinds: dict[str, float] = field(default_factory=dict)
    joules_kinds: dict[str, float] = field(default_factory=dict)
    saved_kinds: dict[str, float] = field(default_factory=dict)
    budgets: dict[str, dict[str, float]] = field(default_factory=dict)
    regions: dict[str, RegionTotals] = field(default_factory=dict)

    @property
    def answered(self) -> float:
        """Requests."""
        return self.requests.get(ANSWERED, 0.0)

    def region(self, name: str) -> RegionTotals:
        """Those of a region, from 0."""
        return self.regions.setdefault(name, RegionTotals())


def totals_of(samples: Iterable[Sample]) -> Totals:
    """Sums of FAMILIES; other samples are left out, and so are series that count nothing."""
    found = Totals()
    for sample in samples:
        labels, value = sample.labels, float(sample.value)
        name = sample.name
        if name == KEPT:
            kept = found.budgets.setdefault(labels["quantity"], {"met": 0.0, "missed": 0.0})
            _add(kept, labels["outcome"], value)
        elif name == GRAMS:
            found.gco2e_g += value
            found.region(labels["region"]).gco2e_g += value
            _add(found.grams_kinds, f"{labels['kind']}/{labels['energy_kind']}", value)
        elif name == SAVED:
            found.saved_g += value
            found.region(labels["region"]).saved_g += value
            _add(found.saved_kinds, labels["kind"], value)
        elif name == EXCESS:
            found.excess_g += value
            found.region(labels["region"]).excess_g += value
            _add(found.saved_kinds, labels["kind"], value)
        elif name == JOULES:
            found.energy_j += value
            _add(found.joules_kinds, labels["kind"], value)
        elif name == REQUESTS:
            _add(found.requests, labels["code"], value)
            if labels["code"] == ANSWERED:
                found.region(labels["region"]).requests += value
        elif name == REFUSED:
            _add(found.refused, labels["reason"], value)
        elif name == UNACCOUNTED:
            found.unaccounted += value
    return found


def _add(sums: dict[str, float], key: str, value: float) -> None:
    if value:
        sums[key] = sums.get(key, 0.0) + value


def totals_document(totals: Totals) -> dict[str, Json]:
    """As the feed has it."""
    return {
        "gco2e_g": totals.gco2e_g,
        "saved_g": totals.saved_g,
        "excess_g": totals.excess_g,
        "energy_j": totals.energy_j,
        "unaccounted": totals.unaccounted,
        "requests": dict(totals.requests),
        "refused": dict(totals.refused),
        "grams_kinds": dict(totals.grams_kinds),
        "joules_kinds": dict(totals.joules_kinds),
        "saved_kinds": dict(totals.saved_kinds),
        "budgets": {quantity: dict(kept) for quantity, kept in totals.budgets.items()},
        "regions": {
            name: {
                "requests": one.requests,
                "gco2e_g": one.gco2e_g,
                "saved_g": one.saved_g,
                "excess_g": one.excess_g,
            }
            for name, one in totals.regions.items()
        },
    }


class Rates:
    """How fast totals grow, over the last WINDOW_S; times on a clock that does not step back, s."""

    def __init__(self) -> None:
        self._known: deque[tuple[float, Totals]] = deque()

    def take(self, ticks: float, totals: Totals) -> dict[str, Json] | None:
        """What grew by how much a second until now; None of the first, and of one that follows a
        pause: what came to pass meanwhile is no rate."""
        known = self._known
        if known and ticks - known[-1][0] > WINDOW_S:
            known.clear()
        known.append((ticks, totals))
        # The oldest is as old as the window, or as near to it as there is.
        while len(known) > 2 and ticks - known[1][0] >= WINDOW_S:
            known.popleft()
        since, before = known[0]
        seconds = ticks - since
        if not seconds > 0.0:
            return None
        return rates_between(before, totals, seconds)


def rates_between(before: Totals, after: Totals, seconds: float) -> dict[str, Json]:
    """A second, and by region; ``saved``: net, of what latency-first would have emitted more."""

    def per_s(old: float, new: float) -> float:
        # Workers that end take nothing of their counters with them, but a figure may be corrected.
        return max(0.0, new - old) / seconds

    net = (after.saved_g - after.excess_g) - (before.saved_g - before.excess_g)
    none = RegionTotals()
    regions: dict[str, Json] = {}
    for name, one in after.regions.items():
        old = before.regions.get(name, none)
        regions[name] = {
            "requests_per_s": per_s(old.requests, one.requests),
            "gco2e_g_per_s": per_s(old.gco2e_g, one.gco2e_g),
        }
    kept, missed = (
        sum(per_s(_of(before.budgets, q, how), _of(after.budgets, q, how)) for q in after.budgets)
        for how in ("met", "missed")
    )
    return {
        "seconds": seconds,
        "gco2e_g_per_s": per_s(before.gco2e_g, after.gco2e_g),
        "saved_g_per_s": net / seconds,
        "requests_per_s": per_s(before.answered, after.answered),
        "watts": per_s(before.energy_j, after.energy_j),
        "budgets_met": kept / (kept + missed) if kept + missed > 0.0 else None,
        "regions": regions,
    }


def _of(budgets: Mapping[str, Mapping[str, float]], quantity: str, how: str) -> float:
    return budgets.get(quantity, {}).get(how, 0.0)


def in_flight_of(samples: Iterable[Sample]) -> dict[str, float]:
    """Requests at each endpoint, of all workers."""
    return {
        sample.labels["endpoint"]: sample.value
        for sample in samples
        if sample.name == IN_FLIGHT and not math.isnan(sample.value)
    }
