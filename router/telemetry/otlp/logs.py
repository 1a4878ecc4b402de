"""Lines of the log to a collector, beside where they are written to.

Imported where they are sent, and nowhere else: the SDK takes a while, and room.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from router.telemetry.logs import exception_lines, fields_of
from router.telemetry.otlp.told import LEAVE_S, ToldExports
from router.telemetry.tracing import conventions as names

_NS: Final = 1e9
_TRACE, _SPAN = "trace_id", "span_id"
_SEVERITIES: Final = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}


class LogOptions(NamedTuple):
    """``queue_records``: that may wait for the collector; beyond it they are dropped, counted.
    ``every_s``: a batch goes after so long at most, or when it is ``batch_records``."""

    queue_records: int
    every_s: float
    batch_records: int


class LogExport(logging.Handler):
    """Takes records from any thread, never waits, and sends them from a thread."""

    def __init__(
        self,
        exporter: LogRecordExporter,
        resource: Mapping[str, str],
        scope: tuple[str, str, str],
        options: LogOptions,
        told: ToldExports,
    ) -> None:
        """``resource``, ``scope``: as of `router.telemetry.tracing.export`; each record's scope has
        the name of its logger."""
        super().__init__()
        self._resource = Resource.create(dict(resource))
        self._version, self._schema_url = scope[1], scope[2]
        self._most = options.queue_records
        self._told = told
        self._put = 0
        self._counting = threading.Lock()
        self._exporter = _TellingRecords(exporter, told)
        self._processor = BatchLogRecordProcessor(
            self._exporter,
            schedule_delay_millis=options.every_s * 1e3,
            max_export_batch_size=min(options.batch_records, options.queue_records),
            max_queue_size=options.queue_records,
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Queue ``record``, or count it as dropped."""
        # What is said of sending a line would be the next to be sent, for ever.
        if record.thread == self._told.thread:
            return
        with self._counting:
            if self._put - self._told.taken >= self._most:
                self._told.dropped(1)
                return
            self._put += 1
        try:
            made = _record(record)
        except Exception:
            # Of a line whose values do not fit it: its writer is not to fail for it.
            with self._counting:
                self._put -= 1
            self._told.dropped(1)
            return
        scope = InstrumentationScope(record.name, self._version, self._schema_url)
        self._processor.on_emit(ReadWriteLogRecord(made, self._resource, scope))

    def end(self, timeout_s: float) -> None:
        """Send what waits, for about ``timeout_s`` at most; the rest is dropped, counted."""
        ending = threading.Thread(target=self._processor.shutdown, name="logs end", daemon=True)
        ending.start()
        ending.join(timeout_s)
        if ending.is_alive():
            self._exporter.shutdown()
            ending.join(LEAVE_S)
        lost = self._put - self._told.taken
        if lost > 0:
            self._told.dropped(lost)
        self._told.release()


class _TellingRecords(LogRecordExporter):
    """The SDK's exporter behind `ToldExports`."""

    def __init__(self, exporter: LogRecordExporter, told: ToldExports) -> None:
        self._exporter = exporter
        self._told = told

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """As the exporter does."""
        sent = self._told.export(
            lambda: self._exporter.export(batch) is LogRecordExportResult.SUCCESS, len(batch)
        )
        return LogRecordExportResult.SUCCESS if sent else LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        """Nothing waits here."""
        return True

    def shutdown(self) -> None:
        """After the last batch, or in the midst of one: end the call that is under way, if any."""
        if self._told.end():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]


def _record(record: logging.LogRecord) -> LogRecord:
    fields = fields_of(record)
    context = _context(fields.pop(_TRACE, ""), fields.pop(_SPAN, ""))
    made: dict[str, str | bool | int | float | tuple[str, ...]] = {}
    for key, value in fields.items():
        made[f"{names.OURS}{key}"] = value
    if record.exc_info and record.exc_info[0] is not None:
        made[names.EXCEPTION_TYPE] = record.exc_info[0].__qualname__
        made[names.EXCEPTION_STACK] = exception_lines(record)
    return LogRecord(
        timestamp=round(record.created * _NS),
        observed_timestamp=round(record.created * _NS),
        context=context,
        severity_text=record.levelname,
        severity_number=_SEVERITIES.get(record.levelno, SeverityNumber.UNSPECIFIED),
        body=record.getMessage(),
        attributes=made,
    )


def _context(trace_id: object, span_id: object) -> Context:
    """Of the span that a record is part of; empty where it is of none."""
    if not (isinstance(trace_id, str) and isinstance(span_id, str) and trace_id and span_id):
        return Context()
    span = SpanContext(int(trace_id, 16), int(span_id, 16), False, TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(span), Context())
