"""Spans to a collector, by OpenTelemetry's SDK: its batches, its thread, its exporters.

Imported where spans are sent somewhere, and nowhere else: the SDK takes a while, and room.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from router.telemetry.otlp.told import LEAVE_S, ToldExports
from router.telemetry.tracing.span import Span


class ExportOptions(NamedTuple):
    """``queue_spans``: that may wait for the collector; beyond it they are dropped, counted.
    ``every_s``: a batch goes after so long at most, or when it is ``batch_spans``."""

    queue_spans: int
    every_s: float
    batch_spans: int


class SpanExport:
    """Takes spans on the hot path, and sends them from a thread. ``on_spans``: told of how many
    were exported, failed or dropped, from several threads."""

    def __init__(
        self,
        exporter: SpanExporter,
        resource: Mapping[str, str],
        scope: tuple[str, str, str],
        options: ExportOptions,
        on_spans: Callable[[str, int], None],
        clean: Callable[[str], str],
    ) -> None:
        """``resource``: beside ``OTEL_RESOURCE_ATTRIBUTES`` and above them; ``scope``: name,
        version and schema of what makes spans; ``clean``: takes secrets out of what is logged."""
        self._resource = Resource.create(dict(resource))
        self._scope = InstrumentationScope(*scope)
        self._most = options.queue_spans
        self._on_spans = on_spans
        # Written by the event loop alone, and by the thread that sends alone.
        self._put = 0
        self._told = ToldExports("spans", on_spans, clean)
        self._exporter = _TellingSpans(exporter, self._told)
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=options.queue_spans,
            schedule_delay_millis=options.every_s * 1e3,
            max_export_batch_size=min(options.batch_spans, options.queue_spans),
        )

    def put(self, span: Span) -> None:
        """Queue a finished span, or count it as dropped; never waits."""
        if self._put - self._told.taken >= self._most:
            self._on_spans("dropped", 1)
            return
        self._put += 1
        self._processor.on_end(self._readable(span))

    def close(self, timeout_s: float) -> None:
        """Send what waits, for about ``timeout_s`` at most; the rest is dropped, counted."""
        # The SDK would wait for half a minute, and its exporter's retries are part of that.
        ending = threading.Thread(target=self._processor.shutdown, name="spans end", daemon=True)
        ending.start()
        ending.join(timeout_s)
        if ending.is_alive():
            self._exporter.shutdown()
            ending.join(LEAVE_S)
        lost = self._put - self._told.taken
        if lost > 0:
            self._on_spans("dropped", lost)
        self._told.release()

    def _readable(self, span: Span) -> ReadableSpan:
        state = TraceState.from_header([span.state]) if span.state else None
        flags = TraceFlags(span.flags)
        context = SpanContext(span.trace_id, span.span_id, False, flags, state)
        parent = None
        if span.parent_id:
            parent = SpanContext(span.trace_id, span.parent_id, span.parent_is_remote, flags, state)
        return ReadableSpan(
            span.name,
            context,
            parent,
            self._resource,
            span.attributes,
            kind=SpanKind.SERVER if span.is_server else SpanKind.CLIENT,
            status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
            start_time=span.started_ns,
            end_time=span.ended_ns,
            instrumentation_scope=self._scope,
        )


class _TellingSpans(SpanExporter):
    """The SDK's exporter behind `ToldExports`."""

    def __init__(self, exporter: SpanExporter, told: ToldExports) -> None:
        self._exporter = exporter
        self._told = told

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As the exporter does."""
        sent = self._told.export(
            lambda: self._exporter.export(spans) is SpanExportResult.SUCCESS, len(spans)
        )
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """After the last batch, or in the midst of one: end the call that is under way, if any."""
        if self._told.end():
            self._exporter.shutdown()
