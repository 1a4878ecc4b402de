"""One glance at a gateway, out of its feed: regions by intensity, rates, latencies, budgets. Pure.

Names are taken as they come: who shows them makes them harmless.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from router.operator.watching.connection import FeedEvent
from router.operator.watching.shapes import (
    FeedFleet,
    FeedGrid,
    FeedIntensity,
    FeedRates,
    FeedTick,
    FeedZone,
    decoded,
)

_TAKES_TRAFFIC = 0


class RegionGlance(NamedTuple):
    """``ahead``: g/kWh by the hour. ``awake``: endpoints where anybody is, ``healthy``: that take
    traffic, of ``endpoints``. Rates None while they are not known."""

    name: str
    zone: str
    intensity: FeedIntensity | None
    ahead: Sequence[float]
    requests_per_s: float | None
    gco2e_g_per_s: float | None
    endpoints: int
    healthy: int
    awake: int
    in_flight: float


class GatewayGlance(NamedTuple):
    """``regions``: the cleanest first, those that nobody knows last."""

    fleet: FeedFleet
    tick: FeedTick
    regions: Sequence[RegionGlance]

    @property
    def rates(self) -> FeedRates | None:
        """None while they are not known, and to who sees its own alone."""
        return self.tick.rates


class FeedState:
    """The newest of each event."""

    def __init__(self) -> None:
        self.fleet: FeedFleet | None = None
        self.grid = FeedGrid({})
        self.tick: FeedTick | None = None

    def take(self, event: FeedEvent) -> bool:
        """Whether it was a tick: all that came before it belongs to it. Raises DataError."""
        if event.name == "fleet":
            self.fleet = decoded(event.data, FeedFleet)
        elif event.name == "grid":
            self.grid = decoded(event.data, FeedGrid)
        elif event.name == "tick":
            self.tick = decoded(event.data, FeedTick)
            return True
        return False

    def glance(self) -> GatewayGlance | None:
        """None before the first tick."""
        if self.fleet is None or self.tick is None:
            return None
        return glance_of(self.fleet, self.grid, self.tick)


def glance_of(fleet: FeedFleet, grid: FeedGrid, tick: FeedTick) -> GatewayGlance:
    """What the three of one moment come to."""
    rates = {} if tick.rates is None else tick.rates.regions
    by_region: dict[str, list[tuple[int, float, bool, str]]] = {}
    for endpoint, row in zip(fleet.endpoints, tick.endpoints, strict=False):
        by_region.setdefault(endpoint.region, []).append(row)
    regions = []
    for region in fleet.regions:
        zone = grid.zones.get(region.zone, FeedZone())
        rows = by_region.get(region.name, [])
        rate = rates.get(region.name)
        unknown = None if tick.rates is None else 0.0
        regions.append(
            RegionGlance(
                region.name,
                region.zone,
                zone.now,
                [] if zone.ahead is None else zone.ahead.g,
                unknown if rate is None else rate.requests_per_s,
                unknown if rate is None else rate.gco2e_g_per_s,
                len(rows),
                sum(row[0] == _TAKES_TRAFFIC for row in rows),
                sum(row[2] for row in rows),
                sum(row[1] for row in rows),
            )
        )
    regions.sort(key=lambda one: (_g(one.intensity), one.name))
    return GatewayGlance(fleet, tick, regions)


def _g(known: FeedIntensity | None) -> float:
    return math.inf if known is None or not math.isfinite(known.g) else known.g


def glance_document(glance: GatewayGlance) -> dict[str, Any]:
    """For programs; what is not known is null."""
    tick = glance.tick
    told = msgspec.to_builtins(tick)
    del told["endpoints"], told["decisions"]
    return {
        "policy": glance.fleet.policy,
        "scope": glance.fleet.scope,
        "emulated": glance.fleet.emulated,
        **told,
        "regions": [
            {**one._asdict(), "intensity": msgspec.to_builtins(one.intensity)}
            for one in glance.regions
        ],
    }
