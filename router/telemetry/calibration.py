"""Metrics of profiles that are fitted to endpoints' meters as they run."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

OUTCOMES: Final = ("adopted", "confirmed", "refused", "failed")


class CalibrationMetrics:
    """Of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._fits = Counter(
            "carbon_router_calibrations_total",
            "Fits of an endpoint's profile to its meter: adopted; confirmed, as they say what is "
            "in force; refused, as they cannot be or are too unsure; or failed.",
            ["endpoint", "outcome"],
            registry=registry,
        )
        self._until = Gauge(
            "carbon_router_calibrated_until_timestamp_seconds",
            "Until when the meter was read by which the endpoint's profile in force was fitted, or "
            "last confirmed.",
            ["endpoint"],
            multiprocess_mode="max",
            registry=registry,
        )

    def begun(self, endpoint: str) -> None:
        """Its series begin at 0."""
        for outcome in OUTCOMES:
            self._fits.labels(endpoint, outcome)

    def fitted(self, endpoint: str, outcome: str) -> None:
        """``outcome``: of OUTCOMES."""
        self._fits.labels(endpoint, outcome).inc()

    def until(self, endpoint: str, at: float) -> None:
        """``at``: unix s."""
        self._until.labels(endpoint).set(at)
