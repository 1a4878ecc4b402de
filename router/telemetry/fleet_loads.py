"""The load that gateways share, in the metrics: who is seen, what is claimed, what is not used."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from router.telemetry.labels import LabelGuard

# As `router.peers.gateways.PlaceStanding` and `router.peers.gateway_rows.Defect`.
STANDINGS: Final = ("joining", "shared", "lapsed", "alone")
DEFECTS: Final = ("length", "version", "value")


class FleetLoadMetrics:
    """On one registry; without a store its series stay empty."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._defects = LabelGuard(DEFECTS)
        self._standing = Gauge(
            "carbon_router_place_sharing",
            "Processes by what they may use endpoints' places by: shared, by claims that all "
            "gateways know of; joining or alone, by their part; lapsed, by none for a moment.",
            ("standing",),
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._members = Gauge(
            "carbon_router_gateway_processes",
            "Processes of all gateways that share the store, this one included.",
            (),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._claimed = Gauge(
            "carbon_router_claimed_places",
            "Places at endpoints that are claimed, in use or not.",
            (),
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._lifts = Counter(
            "carbon_router_place_lifts_total",
            "Times that a request found no place and its process went beyond its own for a quarter "
            "of a second: to its share of what nobody claims where the store was late or not all "
            "who share it were known, to all that an endpoint takes where it was gone.",
            (),
            registry=registry,
        )
        self._lifted = 0
        self._ignored = Counter(
            "carbon_router_gateway_rows_ignored_total",
            "Rows of other processes that could not be used, by defect.",
            ("defect",),
            registry=registry,
        )

    def show(self, standing: str, members: int, claimed: int, lifts: int) -> None:
        """Set the gauges. ``lifts``: of this process so far."""
        for one in STANDINGS:
            self._standing.labels(one).set(float(one == standing))
        self._members.set(members)
        self._claimed.set(claimed)
        self._lifts.inc(lifts - self._lifted)
        self._lifted = lifts

    def ignored(self, defect: str) -> None:
        """A row was not used."""
        self._ignored.labels(self._defects(defect)).inc()
