"""Metrics of deferred work: what waits, and what became of it."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

_OUTCOMES: Final = ("answered", "failed", "put_back", "expired", "taken_over")


class DeferralMetrics:
    """Of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Gauge(
            "carbon_router_deferred_open",
            "Requests of batches that have not ended, of all processes at their queue, by state: "
            "waiting, or under_way.",
            ["state"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._ended = Counter(
            "carbon_router_deferred_requests_total",
            "Requests of batches by what became of them here: answered, failed, put back to wait "
            "again, expired at their deadline, or taken over from a process that is no more.",
            ["outcome"],
            registry=registry,
        )

    def begun(self) -> None:
        """Work is deferred from now on: series begin at 0."""
        for outcome in _OUTCOMES:
            self._ended.labels(outcome)

    def ended(self, outcome: str, count: int = 1) -> None:
        """``count`` more came to ``outcome``."""
        if count:
            self._ended.labels(outcome).inc(count)

    def show(self, waiting: int, under_way: int) -> None:
        """So many there are now."""
        self._requests.labels("waiting").set(waiting)
        self._requests.labels("under_way").set(under_way)
