"""Metrics of what discovery finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter

from router.telemetry.gauges import SeriesGauge
from router.telemetry.labels import LabelGuard


class DiscoveryMetrics:
    """``place``, everywhere: the name of one of `discovery`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._places = LabelGuard()
        self._endpoints = SeriesGauge(
            registry,
            "carbon_router_discovery_endpoints",
            "Endpoints that a place of discovery says are there: routed to, or left out; the most "
            "of all workers.",
            "livemax",
            ("place", "outcome"),
        )
        self._age = SeriesGauge(
            registry,
            "carbon_router_discovery_age_seconds",
            "Time since a place of discovery could tell what is there, 0 while it can; +Inf where "
            "it never could; the worst of all workers.",
            "livemax",
            ("place",),
        )
        self._failures = Counter(
            "carbon_router_discovery_failures_total",
            "Times that a place of discovery could not tell what is there.",
            ["place"],
            registry=registry,
        )
        self._changes = Counter(
            "carbon_router_fleet_changes_total",
            "Fleets that discovery put in force, by process: applied, or refused.",
            ["outcome"],
            registry=registry,
        )

    def know(self, places: Iterable[str]) -> None:
        """Let these become labels; anything else is ``other``."""
        self._places.learn(places)

    def show(self, endpoints: Mapping[tuple[str, str], int], ages_s: Mapping[str, float]) -> None:
        """``endpoints``: by place and outcome; ``ages_s``: by place."""
        self._endpoints.show(
            {(self._places(place), how): float(n) for (place, how), n in endpoints.items()}
        )
        self._age.show({(self._places(place),): age for place, age in ages_s.items()})

    def failed(self, place: str) -> None:
        """It could not tell."""
        self._failures.labels(self._places(place)).inc()

    def changed(self, outcome: str) -> None:
        """``outcome``: applied or refused."""
        self._changes.labels(outcome).inc()
