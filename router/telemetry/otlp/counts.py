"""What becomes of pushed metrics and log records, in the metrics."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter

from router.telemetry.labels import LabelGuard

OUTCOMES: Final = ("exported", "failed", "dropped")


class OtlpMetrics:
    """On one registry; its series appear with the first export. Safe from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._outcomes = LabelGuard(OUTCOMES)
        self._pushes = Counter(
            "carbon_router_metric_pushes_total",
            "Pushes of all metrics by OTLP: exported, or failed (the collector did not take them; "
            "the next has the same totals).",
            ("outcome",),
            registry=registry,
        )
        self._records = Counter(
            "carbon_router_log_records_total",
            "Lines of the log sent by OTLP: exported, failed (the collector did not take them), or "
            "dropped because more waited than may.",
            ("outcome",),
            registry=registry,
        )

    def pushed(self, outcome: str, pushes: int) -> None:
        """``outcome``: of `OUTCOMES`."""
        self._pushes.labels(self._outcomes(outcome)).inc(pushes)

    def logged(self, outcome: str, records: int) -> None:
        """``outcome``: of `OUTCOMES`."""
        self._records.labels(self._outcomes(outcome)).inc(records)
