"""The metrics of ``/metrics`` to a collector: read from where that page is, pushed now and then.

One source of truth: what Prometheus would scrape at this moment is what is sent. Imported where it
is sent, and nowhere else: the SDK takes a while, and room.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import Metric as Family
from prometheus_client.samples import Sample

from router.telemetry.otlp.names import metric_name
from router.telemetry.otlp.told import LEAVE_S, ToldExports
from router.telemetry.tracing.conventions import Conventions

_NS: Final = 1e9
_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE


class PushOptions(NamedTuple):
    """``every_s``: between two pushes; ``began_at``: unix s, since when totals are counted."""

    every_s: float
    began_at: float
    convention: Conventions


class MetricPush:
    """Pushes what ``read`` gives from a thread of its own; a collector that is away costs nothing
    but that thread's time, and nothing piles up: the next push has all that this one had."""

    def __init__(
        self,
        exporter: MetricExporter,
        read: Callable[[], Iterable[Family]],
        resource: Mapping[str, str],
        scope: tuple[str, str, str],
        options: PushOptions,
        told: ToldExports,
        now: Callable[[], float],
    ) -> None:
        """``resource``, ``scope``: as of `router.telemetry.tracing.export`; ``now``: unix s."""
        self._exporter = exporter
        self._read = read
        self._resource = Resource.create(dict(resource))
        self._scope = InstrumentationScope(*scope)
        self._options = options
        self._told = told
        self._now = now
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metric push", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Push once more, for about ``timeout_s`` at most."""
        self._stop.set()
        self._thread.join(timeout_s)
        if self._told.end():
            self._exporter.shutdown()
        self._thread.join(LEAVE_S)
        self._told.release()

    def _run(self) -> None:
        while not self._stop.wait(self._options.every_s):
            self._told.export(self._push, 1)
        self._told.export(self._push, 1)

    def _push(self) -> bool:
        options = self._options
        made = metrics_of(self._read(), options.began_at, self._now(), options.convention)
        of_scope = ScopeMetrics(self._scope, made, self._scope.schema_url or "")
        data = MetricsData([ResourceMetrics(self._resource, [of_scope], "")])
        return self._exporter.export(data) is MetricExportResult.SUCCESS


def metrics_of(
    families: Iterable[Family], began_at: float, now: float, convention: Conventions
) -> list[Metric]:
    """OTLP's form of Prometheus ``families``; without what has no value. Times: unix s."""
    start_ns, now_ns = round(began_at * _NS), round(now * _NS)
    made = []
    for family in families:
        named = metric_name(family.name, convention)
        if named is None:
            continue
        data: Sum | Gauge | Histogram
        if family.type == "histogram":
            data = Histogram(_distributions(family, start_ns, now_ns), _CUMULATIVE)
        elif family.type == "counter":
            data = Sum(_numbers(family, start_ns, now_ns), _CUMULATIVE, is_monotonic=True)
        elif family.type == "gauge" and named.is_sum:
            data = Sum(_numbers(family, start_ns, now_ns), _CUMULATIVE, is_monotonic=False)
        elif family.type == "gauge":
            data = Gauge(_numbers(family, None, now_ns))
        else:
            continue
        if data.data_points:
            made.append(Metric(named.name, family.documentation, named.unit, data))
    return made


def _numbers(family: Family, start_ns: int | None, now_ns: int) -> list[NumberDataPoint]:
    return [
        NumberDataPoint(dict(sample.labels), start_ns or 0, now_ns, float(sample.value))
        for sample in family.samples
        if not math.isnan(sample.value) and not sample.name.endswith("_created")
    ]


def _distributions(family: Family, start_ns: int, now_ns: int) -> list[HistogramDataPoint]:
    rows: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        key = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            rows.setdefault(key, []).append(sample)
        elif sample.name.endswith("_sum"):
            sums[key] = float(sample.value)
    points = []
    for key, buckets in rows.items():
        buckets.sort(key=lambda sample: float(sample.labels["le"]))
        # Prometheus counts all that is below a bound, OTLP what is between two.
        totals = [int(sample.value) for sample in buckets]
        counts = [total - below for total, below in zip(totals, (0, *totals), strict=False)]
        points.append(
            HistogramDataPoint(
                dict(key),
                start_ns,
                now_ns,
                totals[-1],
                sums.get(key, 0.0),
                counts,
                [float(sample.labels["le"]) for sample in buckets[:-1]],
                # Nobody keeps them.
                min=None,  # type: ignore[arg-type]
                max=None,  # type: ignore[arg-type]
                exemplars=[_exemplar(s, now_ns) for s in buckets if s.exemplar is not None],
            )
        )
    return points


def _exemplar(sample: Sample, now_ns: int) -> Exemplar:
    exemplar = sample.exemplar
    assert exemplar is not None
    at_ns = now_ns if exemplar.timestamp is None else round(float(exemplar.timestamp) * _NS)
    # Its trace is told as an attribute: a field of its own takes the span, too, which is not kept.
    return Exemplar(dict(exemplar.labels), float(exemplar.value), at_ns)
