"""Metrics of hints how many replicas are wanted: what was said, and whether it was taken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

OUTCOMES: Final = ("taken", "failed")


class ScalingMetrics:
    """Of one process; gauges are of the one that tells."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._hints = Counter(
            "carbon_router_scaling_hints_total",
            "Hints how many replicas are wanted, by whom they were for (webhook, command) and by "
            "outcome: taken, or failed after all tries.",
            ["told", "outcome"],
            registry=registry,
        )
        self._wanted = Gauge(
            "carbon_router_scaling_replicas",
            "Replicas of a model in a region: ready (they serve), or wanted, as of the last hint.",
            ["model", "region", "state"],
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._wake = Gauge(
            "carbon_router_scaling_wake_seconds",
            "From asked-for to ready: what hints reckon with, measured or assumed.",
            ["model", "region", "kind"],
            multiprocess_mode="mostrecent",
            registry=registry,
        )

    def begun(self, told: Iterable[str]) -> None:
        """``told``: who is, from now on: series begin at 0."""
        for name in told:
            for outcome in OUTCOMES:
                self._hints.labels(name, outcome)

    def told(self, name: str, outcome: str) -> None:
        """``outcome``: of OUTCOMES."""
        self._hints.labels(name, outcome).inc()

    def show(self, model: str, region: str, ready: int, wanted: int) -> None:
        """Replicas, as of now."""
        self._wanted.labels(model, region, "ready").set(ready)
        self._wanted.labels(model, region, "wanted").set(wanted)

    def show_wake(self, model: str, region: str, seconds: float, measured: int) -> None:
        """``measured``: of how many, 0 where it is assumed."""
        kind, other = ("measured", "assumed") if measured else ("assumed", "measured")
        self._wake.labels(model, region, kind).set(seconds)
        if measured:
            self._wake.remove(model, region, other)
