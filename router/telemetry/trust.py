"""Metrics of certificates and other files that say who is who."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter

from router.telemetry.gauges import SeriesGauge
from router.telemetry.labels import LabelGuard


class TrustMetrics:
    """``source``, everywhere: the key of the configuration that names the files."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sources = LabelGuard()
        self._expires = SeriesGauge(
            registry,
            "carbon_router_tls_certificate_expiry_timestamp_seconds",
            "When a certificate in force expires; the first of all workers.",
            "livemin",
            ("source",),
        )
        self._reloads = Counter(
            "carbon_router_trust_reloads_total",
            "Certificates, keys and tokens whose files changed, by process: applied, or refused.",
            ["source", "outcome"],
            registry=registry,
        )

        self._handshakes = Counter(
            "carbon_router_tls_handshakes_failed_total",
            "TLS handshakes of clients over HTTP that came to nothing, by listener; gRPC does not "
            "tell of its own.",
            ["source", "reason"],
            registry=registry,
        )

    def know(self, sources: Iterable[str]) -> None:
        """Let these become labels; anything else is ``other``."""
        self._sources.learn(sources)

    def show(self, expires_at: Mapping[str, float]) -> None:
        """By source, unix s; of those that expire at all."""
        self._expires.show(
            {(self._sources(name),): at for name, at in expires_at.items() if math.isfinite(at)}
        )

    def handshake_failed(self, source: str, reason: str) -> None:
        """``reason``: of `router.trust.listener.FAILURES`."""
        self._handshakes.labels(source, reason).inc()

    def reloaded(self, source: str, outcome: str) -> None:
        """``outcome``: applied or refused."""
        self._reloads.labels(self._sources(source), outcome).inc()
