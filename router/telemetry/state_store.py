"""The store that gateways share, in the metrics: its calls, how they ended, how long they took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from router.telemetry.labels import LabelGuard

_ANSWERED: Final = "answered"
# As `router.state.redis.failures.StoreFault`.
CAUSES: Final = (
    "unreachable", "tls", "timeout", "denied", "read_only", "full", "loading", "cluster_down",
    "refused", "other",
)  # fmt: skip
_SECONDS: Final = (5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5)


class StoreMetrics:
    """On one registry; without a store its series never appear. Labels are the store's calls and
    causes of failure."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._causes = LabelGuard((_ANSWERED, *CAUSES))
        self._calls = Counter(
            "carbon_router_state_store_calls_total",
            "Calls of the store that gateways share, by outcome: answered, or why it failed. None "
            "is part of a request.",
            ("call", "outcome"),
            registry=registry,
        )
        self._seconds = Histogram(
            "carbon_router_state_store_seconds",
            "Time of a call of the store, failed ones included.",
            ("call",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._failing = Gauge(
            "carbon_router_state_store_failing_seconds",
            "For how long the store has been failing; 0 while it answers. The longest of all "
            "workers.",
            (),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._observe: dict[str, Callable[[float], None]] = {}

    def called(self, call: str, cause: str, seconds: float) -> None:
        """Count one call; ``cause`` of its failure, "" when it was answered."""
        self._calls.labels(call, self._causes(cause or _ANSWERED)).inc()
        observe = self._observe.get(call)
        if observe is None:
            observe = self._observe[call] = self._seconds.labels(call).observe
        observe(seconds)

    def show(self, failing_s: float) -> None:
        """Set the gauge."""
        self._failing.set(failing_s)
