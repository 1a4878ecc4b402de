"""Spans on the wire: real exporters of the SDK, and a collector that takes, refuses or hangs."""

import logging
import threading

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as ByGrpc
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as ByHttp
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import TraceState

from router.telemetry.tracing.export import ExportOptions, SpanExport
from router.telemetry.tracing.span import Span
from tests.fakes.otlp_collector import PATIENCE_S, Collector, attributes

SCOPE = ("carbon-router", "9.9", "https://opentelemetry.io/schemas/1.36.0")
SPAN = Span(
    "ask", 2**127 + 5, 7, 3, True, 1, "v=1", True, 1_000, 2_500, True,
    {"text": "a", "count": 2, "share": 0.5, "yes": True, "many": ("x", "y")},
)  # fmt: skip


class Counts:
    def __init__(self):
        self.by_outcome = {}
        self._changed = threading.Condition()

    def __call__(self, outcome, spans):
        with self._changed:
            self.by_outcome[outcome] = self.by_outcome.get(outcome, 0) + spans
            self._changed.notify_all()

    def wait(self, **wanted):
        with self._changed:
            assert self._changed.wait_for(lambda: self.by_outcome == wanted, PATIENCE_S)


def exporter(collector, way, timeout=5.0):
    if way == "grpc":
        return ByGrpc(endpoint=f"http://127.0.0.1:{collector.port}", timeout=timeout,
                      headers={"api-key": "s3cret-key"})  # fmt: skip
    return ByHttp(endpoint=f"http://127.0.0.1:{collector.http_port}/v1/traces", timeout=timeout,
                  headers={"api-key": "s3cret-key"})  # fmt: skip


def export(made, counts, queue_spans=2048, every_s=0.02, clean=str):
    resource = {"service.name": "gw", "service.instance.id": "i-1"}
    return SpanExport(
        made, resource, SCOPE, ExportOptions(queue_spans, every_s, 512), counts, clean
    )


@pytest.fixture
def collector():
    with Collector() as made:
        yield made


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_a_span_arrives_as_it_is(collector, way):
    counts = Counts()
    made = export(exporter(collector, way), counts)
    made.put(SPAN)
    made.put(SPAN._replace(span_id=8, parent_id=0, is_server=False, failed=False, state=""))
    (resource, scope, span), (_, _, root) = collector.take(2)
    made.close(5.0)
    assert resource["service.name"] == "gw"
    assert resource["telemetry.sdk.language"] == "python"
    assert scope == ("carbon-router", SCOPE[2])
    assert span.trace_id.hex() == f"{2**127 + 5:032x}"
    assert (span.span_id.hex(), span.parent_span_id.hex()) == (f"{7:016x}", f"{3:016x}")
    assert (span.name, span.trace_state) == ("ask", "v=1")
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_000, 2_500)
    assert span.kind == span.SPAN_KIND_SERVER
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert attributes(span.attributes) == SPAN.attributes
    # Bits 8 and 9: it is known that the parent is of another process.
    assert span.flags & 0x300 == 0x300
    assert root.kind == root.SPAN_KIND_CLIENT
    assert root.parent_span_id == b""
    assert collector.headers[0]["api-key"] == "s3cret-key"
    assert counts.by_outcome == {"exported": 2}


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_a_collector_that_refuses_is_told_once_and_again_when_it_takes(collector, way, caplog):
    caplog.set_level(logging.INFO)
    collector.failing = grpc.StatusCode.INVALID_ARGUMENT
    counts = Counts()
    made = export(exporter(collector, way), counts, clean=lambda text: text.replace("room", "***"))
    for number in range(3):
        made.put(SPAN)
        counts.wait(failed=number + 1)
    collector.failing = None
    made.put(SPAN)
    collector.take(1)
    made.close(5.0)
    lines = [record for record in caplog.records if record.name.startswith("router.")]
    assert [one.getMessage() for one in lines] == [
        "spans cannot be exported", "spans are exported again",
    ]  # fmt: skip
    assert lines[0].cause
    assert "room" not in lines[0].cause
    assert counts.by_outcome == {"failed": 3, "exported": 1}


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_a_collector_that_hangs_holds_nobody_and_what_waits_is_bounded(collector, way):
    collector.gate.clear()
    counts = Counts()
    made = export(exporter(collector, way, timeout=30.0), counts, queue_spans=10)
    made.put(SPAN)
    assert collector.calls.acquire(timeout=30)
    for _ in range(25):
        made.put(SPAN)
    assert counts.by_outcome == {"dropped": 15}
    # Where the call could not be broken off this would take its 30 seconds.
    ended = threading.Thread(target=made.close, args=(0.2,))
    ended.start()
    ended.join(10.0)
    assert not ended.is_alive()
    assert counts.by_outcome["dropped"] >= 25


def test_what_callers_write_is_no_cause_of_a_failure(caplog):
    class Failing(SpanExporter):
        def export(self, spans):
            logging.getLogger("opentelemetry.exporter.ours").error("no route")
            # Meanwhile, as the event loop reads the next span's state.
            TraceState.from_header(["nobody's business"])
            return SpanExportResult.FAILURE

    counts = Counts()
    made = export(Failing(), counts)
    made.put(SPAN)
    counts.wait(failed=1)
    made.close(5.0)
    (told,) = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert told.cause == "no route"


def test_a_collector_that_is_not_there_is_no_matter(caplog):
    counts = Counts()
    nobody = ByGrpc(endpoint="http://127.0.0.1:1", timeout=0.2)
    made = export(nobody, counts)
    for _ in range(5):
        made.put(SPAN)
    made.close(5.0)
    assert sum(counts.by_outcome.values()) == 5
    assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 1


def test_the_sdks_own_lines_are_as_before_when_it_is_over(collector):
    logger = logging.getLogger("opentelemetry")
    before = (logger.propagate, list(logger.handlers))
    made = export(exporter(collector, "grpc"), Counts())
    assert not logger.propagate
    made.close(5.0)
    assert (logger.propagate, logger.handlers) == before
