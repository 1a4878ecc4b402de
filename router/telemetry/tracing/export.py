"""Spans to a collector, by OpenTelemetry's SDK: its batches, its thread, its exporters.

Imported where spans are sent somewhere, and nowhere else: the SDK takes a while, and room.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from router.telemetry.tracing.span import Span

# Of the SDK and of its exporters, which would write a line for every batch.
_SDK_LOGGER: Final = "opentelemetry"
# Whose lines say why spans cannot be exported. Others have what callers wrote in `tracestate`.
_EXPORTERS_LOGGER: Final = "opentelemetry.exporter"
_MOST_SHOWN: Final = 300

_log = logging.getLogger(__name__)


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
        self._told = _Told(exporter, on_spans, clean)
        self._processor = BatchSpanProcessor(
            self._told,
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
            self._told.give_up()
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


class _Told(SpanExporter):
    """An exporter that tells once when it begins to fail, and once when it sends again.

    ``taken``: how many spans were handed to it, whatever became of them.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        on_spans: Callable[[str, int], None],
        clean: Callable[[str], str],
    ) -> None:
        self.taken = 0
        self._exporter = exporter
        self._on_spans = on_spans
        self._clean = clean
        self._failing = False
        self._ended = False
        self._words = _LastWords()
        self._words.addFilter(logging.Filter(_EXPORTERS_LOGGER))
        logger = logging.getLogger(_SDK_LOGGER)
        self._propagated = logger.propagate
        logger.propagate = False
        logger.addHandler(self._words)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As the exporter does; counted, and its failures told."""
        self.taken += len(spans)
        if self._ended:
            self._on_spans("dropped", len(spans))
            return SpanExportResult.FAILURE
        self._words.text = ""
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            self._words.text = type(error).__name__
            result = SpanExportResult.FAILURE
        sent = result is SpanExportResult.SUCCESS
        self._on_spans("exported" if sent else "failed", len(spans))
        if not sent and not self._failing:
            cause = self._clean(self._words.text)[:_MOST_SHOWN]
            _log.warning("spans cannot be exported", extra={"cause": cause})
        elif sent and self._failing:
            _log.info("spans are exported again")
        self._failing = not sent
        return result

    def shutdown(self) -> None:
        """After the last batch."""
        self.give_up()

    def give_up(self) -> None:
        """End the call that is under way, if any; send nothing more."""
        if not self._ended:
            self._ended = True
            self._exporter.shutdown()

    def release(self) -> None:
        """The SDK's own lines go where they went before."""
        logger = logging.getLogger(_SDK_LOGGER)
        logger.removeHandler(self._words)
        logger.propagate = self._propagated


class _LastWords(logging.Handler):
    """What an exporter complained of last."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.text = record.getMessage()
