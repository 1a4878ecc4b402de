"""Lines of the log on the wire: real exporters of the SDK, and a collector that takes or hangs."""

import logging
import threading

import pytest
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as ByGrpc
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as ByHttp

from router.telemetry.otlp.logs import LogExport, LogOptions
from router.telemetry.otlp.told import ToldExports
from tests.fakes.otlp_collector import PATIENCE_S, Collector, attributes

SCOPE = ("carbon-router", "9.9", "https://opentelemetry.io/schemas/1.36.0")
TRACE_ID, SPAN_ID = f"{2**127 + 5:032x}", f"{7:016x}"


@pytest.fixture
def collector():
    with Collector() as made:
        yield made


def exporter(collector, way, timeout=5.0):
    if way == "grpc":
        return ByGrpc(endpoint=f"http://127.0.0.1:{collector.port}", timeout=timeout)
    return ByHttp(endpoint=f"http://127.0.0.1:{collector.http_port}/v1/logs", timeout=timeout)


def export(made, counts, queue_records=100):
    def count(outcome, items):
        counts[outcome] = counts.get(outcome, 0) + items

    options = LogOptions(queue_records, 0.02, 50)
    return LogExport(
        made, {"service.name": "gw"}, SCOPE, options, ToldExports("log lines", count, str)
    )


def line(message="request %s", *args, **extra):
    record = logging.LogRecord("router.requests", logging.ERROR, "f.py", 1, message, args, None)
    record.__dict__.update(extra)
    return record


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_a_line_arrives_with_its_trace_and_all_that_it_says(collector, way):
    counts = {}
    made = export(exporter(collector, way), counts)
    made.handle(
        line("request %s", "failed", trace_id=TRACE_ID, span_id=SPAN_ID, reason="shed", attempts=2,
             stack=["a:1 f", "b:2 g"], nothing=None)
    )  # fmt: skip
    made.handle(line("plain"))
    (resource, scope, record), (_, _, plain) = (
        collector.records.get(timeout=PATIENCE_S) for _ in range(2)
    )
    made.end(PATIENCE_S)
    assert resource["service.name"] == "gw"
    assert scope == ("router.requests", SCOPE[2])
    assert record.body.string_value == "request failed"
    assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert (record.severity_text, record.severity_number) == ("ERROR", 17)
    assert record.time_unix_nano > 0
    assert attributes(record.attributes) == {
        "carbon_router.reason": "shed",
        "carbon_router.attempts": 2,
        "carbon_router.stack": ("a:1 f", "b:2 g"),
    }
    assert plain.trace_id == plain.span_id == b""
    assert counts == {"exported": 2}


def test_an_error_has_its_type_and_stack(collector):
    made = export(exporter(collector, "grpc"), {})
    try:
        raise ValueError("why")
    except ValueError as error:
        record = line("died")
        record.exc_info = (type(error), error, error.__traceback__)
    made.handle(record)
    told = attributes(collector.records.get(timeout=PATIENCE_S)[2].attributes)
    made.end(PATIENCE_S)
    assert told["exception.type"] == "ValueError"
    assert "test_logs.py" in told["exception.stacktrace"]


def test_a_collector_that_hangs_holds_nobody_and_what_waits_is_bounded(collector):
    collector.gate.clear()
    counts = {}
    made = export(exporter(collector, "grpc", timeout=30.0), counts, queue_records=10)
    made.handle(line("first"))
    assert collector.calls.acquire(timeout=30)
    for number in range(25):
        made.handle(line(f"line {number}"))
    assert counts == {"dropped": 15}
    ended = threading.Thread(target=made.end, args=(0.1,))
    ended.start()
    ended.join(10.0)
    assert not ended.is_alive()
    assert counts["dropped"] >= 25


@pytest.mark.parametrize("wrong", [line("%d lines", "no"), line(trace_id="no", span_id="no")])
def test_a_line_that_cannot_be_told_is_dropped_and_fails_nobody(collector, wrong):
    counts = {}
    made = export(exporter(collector, "grpc"), counts)
    made.handle(wrong)
    assert counts == {"dropped": 1}
    made.handle(line("next"))
    collector.records.get(timeout=PATIENCE_S)
    made.end(PATIENCE_S)
    assert counts == {"dropped": 1, "exported": 1}


def test_what_is_said_of_sending_is_not_sent(collector):
    made = export(exporter(collector, "grpc"), {})
    made.handle(line("first"))
    collector.records.get(timeout=PATIENCE_S)
    about = line("log lines cannot be exported")
    about.thread = made._told.thread
    made.handle(about)
    made.end(PATIENCE_S)
    assert collector.records.empty()
