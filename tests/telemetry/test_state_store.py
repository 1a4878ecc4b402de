"""The store that gateways share, in the metrics."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from router.telemetry.state_store import StoreMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"carbon_router_state_store_{name}", labels)


def test_calls_are_counted_by_outcome_and_timed(registry: CollectorRegistry) -> None:
    metrics = StoreMetrics(registry)
    metrics.called("get", "", 0.003)
    metrics.called("get", "timeout", 0.05)
    metrics.called("put", "something new", 0.001)
    assert value(registry, "calls_total", call="get", outcome="answered") == 1.0
    assert value(registry, "calls_total", call="get", outcome="timeout") == 1.0
    assert value(registry, "calls_total", call="put", outcome="other") == 1.0
    assert value(registry, "seconds_count", call="get") == 2.0
    assert value(registry, "seconds_bucket", call="get", le="0.005") == 1.0


def test_for_how_long_it_has_been_failing(registry: CollectorRegistry) -> None:
    metrics = StoreMetrics(registry)
    assert value(registry, "failing_seconds") == 0.0
    metrics.show(4.5)
    assert value(registry, "failing_seconds") == 4.5
    assert value(registry, "calls_total", call="get", outcome="answered") is None
