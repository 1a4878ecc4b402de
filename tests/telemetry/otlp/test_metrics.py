"""Metrics on the wire: real exporters of the SDK, and a collector that takes, refuses or hangs."""

import math
import threading

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as ByGrpc
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as ByHttp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from router.telemetry.otlp.metrics import MetricPush, PushOptions, metrics_of
from router.telemetry.otlp.told import ToldExports
from router.telemetry.tracing.conventions import DEPLOYED
from tests.fakes.otlp_collector import PATIENCE_S, Collector, attributes

SCOPE = ("carbon-router", "9.9", "https://opentelemetry.io/schemas/1.36.0")


@pytest.fixture
def registry():
    made = CollectorRegistry()
    counter = Counter("carbon_router_gco2e_grams_total", "g", ["region"], registry=made)
    counter.labels("north").inc(2.5)
    gauge = Gauge("carbon_router_load_age_seconds", "age", ["endpoint"], registry=made)
    gauge.labels("a").set(math.inf)
    gauge.labels("gone").set(math.nan)
    ratio = Histogram("carbon_router_predicted_over_actual", "r", ["quantity"],
                      buckets=(0.5, 1.0), registry=made)  # fmt: skip
    for value in (0.2, 0.7, 0.8, 3.0):
        ratio.labels("ttft").observe(value, {"trace_id": f"{7:032x}"})
    Counter("carbon_router_unseen_total", "no series", ["x"], registry=made)
    Info("carbon_router_about", "no number", registry=made).info({"a": "b"})
    ProcessCollector(registry=made)
    return made


def by_name(registry):
    made = metrics_of(registry.collect(), 100.0, 160.5, DEPLOYED)
    return {metric.name: metric for metric in made}


def test_prometheus_figures_are_otlps(registry):
    found = by_name(registry)
    assert {name for name in found if not name.startswith("process.")} == {
        "carbon_router.gco2e", "carbon_router.load_age", "carbon_router.predicted_over_actual",
    }  # fmt: skip
    grams = found["carbon_router.gco2e"]
    (point,) = grams.data.data_points
    assert (grams.unit, grams.data.is_monotonic) == ("g", True)
    assert (point.value, point.attributes) == (2.5, {"region": "north"})
    assert (point.start_time_unix_nano, point.time_unix_nano) == (100_000_000_000, 160_500_000_000)
    (age,) = found["carbon_router.load_age"].data.data_points
    assert (age.value, age.attributes) == (math.inf, {"endpoint": "a"})
    assert found["process.cpu.time"].data.is_monotonic
    assert not found["process.memory.usage"].data.is_monotonic


def test_buckets_are_what_is_between_two_bounds(registry):
    (point,) = by_name(registry)["carbon_router.predicted_over_actual"].data.data_points
    assert point.explicit_bounds == [0.5, 1.0]
    assert point.bucket_counts == [1, 2, 1]
    assert (point.count, point.sum, point.attributes) == (
        4,
        pytest.approx(4.7),
        {"quantity": "ttft"},
    )
    assert [one.value for one in point.exemplars] == [0.2, 0.8, 3.0]
    assert point.exemplars[0].filtered_attributes == {"trace_id": f"{7:032x}"}


@pytest.fixture
def collector():
    with Collector() as made:
        yield made


class Counts(dict):
    def __init__(self):
        self.changed = threading.Condition()

    def __call__(self, outcome, items):
        with self.changed:
            self[outcome] = self.get(outcome, 0) + items
            self.changed.notify_all()

    def wait(self, outcome):
        with self.changed:
            assert self.changed.wait_for(lambda: outcome in self, PATIENCE_S)


def push(collector, registry, counts, way="grpc", every_s=0.05, timeout=5.0):
    if way == "grpc":
        exporter = ByGrpc(endpoint=f"http://127.0.0.1:{collector.port}", timeout=timeout)
    else:
        exporter = ByHttp(
            endpoint=f"http://127.0.0.1:{collector.http_port}/v1/metrics", timeout=timeout
        )
    return MetricPush(
        exporter, registry.collect, {"service.name": "gw"}, SCOPE,
        PushOptions(every_s, 100.0, DEPLOYED), ToldExports("metrics", counts, str), lambda: 160.0,
    )  # fmt: skip


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_they_arrive_now_and_then_and_once_more_at_the_end(collector, registry, way):
    counts = Counts()
    made = push(collector, registry, counts, way, every_s=3600.0)
    made.close(PATIENCE_S)
    resource, scope, found = collector.pushes.get(timeout=PATIENCE_S)
    assert resource["service.name"] == "gw"
    assert scope == ("carbon-router", SCOPE[2])
    grams = found["carbon_router.gco2e"].sum
    assert grams.aggregation_temporality == grams.DESCRIPTOR.file.enum_types_by_name[
        "AggregationTemporality"
    ].values_by_name["AGGREGATION_TEMPORALITY_CUMULATIVE"].number  # fmt: skip
    assert attributes(grams.data_points[0].attributes) == {"region": "north"}
    (ratio,) = found["carbon_router.predicted_over_actual"].histogram.data_points
    assert (list(ratio.bucket_counts), ratio.count) == ([1, 2, 1], 4)
    assert not ratio.HasField("max")
    assert counts == {"exported": 1}
    assert collector.pushes.empty()


def test_a_collector_that_was_away_gets_the_totals_of_now(collector, registry):
    collector.failing = grpc.StatusCode.INVALID_ARGUMENT
    counts = Counts()
    made = push(collector, registry, counts)
    counts.wait("failed")
    collector.failing = None
    *_, found = collector.pushes.get(timeout=PATIENCE_S)
    assert found["carbon_router.gco2e"].sum.data_points[0].as_double == 2.5
    made.close(PATIENCE_S)


def test_a_collector_that_hangs_does_not_hold_the_end(collector, registry):
    collector.gate.clear()
    made = push(collector, registry, Counts(), timeout=30.0)
    assert collector.calls.acquire(timeout=30)
    # Where the call could not be broken off this would take its 30 seconds.
    ended = threading.Thread(target=made.close, args=(0.1,))
    ended.start()
    ended.join(10.0)
    assert not ended.is_alive()
