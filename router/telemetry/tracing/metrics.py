"""What becomes of spans, in the metrics."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter

from router.telemetry.labels import LabelGuard

OUTCOMES: Final = ("exported", "failed", "dropped")


class SpanMetrics:
    """On one registry; its series appear with the first span. Safe from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._outcomes = LabelGuard(OUTCOMES)
        self._spans = Counter(
            "carbon_router_spans_total",
            "Spans of sampled requests and their attempts: exported, failed (the collector did not "
            "take them), or dropped because more waited than may.",
            ("outcome",),
            registry=registry,
        )

    def count(self, outcome: str, spans: int) -> None:
        """``outcome``: of `OUTCOMES`."""
        self._spans.labels(self._outcomes(outcome)).inc(spans)
