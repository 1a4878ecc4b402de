"""Certificates in the metrics."""

import math

from prometheus_client import CollectorRegistry, generate_latest

from router.telemetry.trust import TrustMetrics

EXPIRY = "carbon_router_tls_certificate_expiry_timestamp_seconds"
RELOADS = "carbon_router_trust_reloads_total"


def test_what_expires_is_shown_while_it_is_there():
    registry = CollectorRegistry()
    metrics = TrustMetrics(registry)
    metrics.know(["server.tls", "backends.tls"])
    metrics.show({"server.tls": 1.7e9, "backends.tls": math.inf})
    assert registry.get_sample_value(EXPIRY, {"source": "server.tls"}) == 1.7e9
    assert registry.get_sample_value(EXPIRY, {"source": "backends.tls"}) is None
    metrics.show({})
    assert registry.get_sample_value(EXPIRY, {"source": "server.tls"}) is None


def test_reloads_and_handshakes_are_counted_by_source():
    registry = CollectorRegistry()
    metrics = TrustMetrics(registry)
    metrics.know(["server.tls"])
    for outcome in ("applied", "refused", "refused"):
        metrics.reloaded("server.tls", outcome)
    metrics.reloaded("never heard of", "applied")
    metrics.handshake_failed("server.tls", "certificate")
    found = {"source": "server.tls", "outcome": "refused"}
    assert registry.get_sample_value(RELOADS, found) == 2
    assert registry.get_sample_value(RELOADS, {"source": "other", "outcome": "applied"}) == 1
    assert b"handshakes_failed_total" in generate_latest(registry)
