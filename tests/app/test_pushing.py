"""Metrics and log of a process: sent where the file says so, bounded, and ended with it."""

import logging

import pytest
from prometheus_client import CollectorRegistry

from router.app.loading import load
from router.app.pushing import Pushes
from router.telemetry.metrics import Metrics
from tests.app.support import configured
from tests.director.support import Hands
from tests.fakes.otlp_collector import PATIENCE_S, Collector, attributes


@pytest.fixture
def collector():
    with Collector() as made:
        yield made


@pytest.fixture
def pushes(tmp_path):
    """Builds what a process pushes by ``telemetry.otlp``, and closes it."""
    made = []

    def build(otlp):
        config = load(configured(tmp_path, otlp and {"telemetry": {"otlp": otlp}}))
        registry = CollectorRegistry()
        metrics = Metrics(registry)
        one = Pushes(config, "id-1", {}, Hands(), metrics.otlp, 50.0)
        made.append(one)
        return one, metrics, registry

    yield build
    for one in made:
        one.close()


@pytest.mark.parametrize("otlp", [None, {"endpoint": "http://127.0.0.1:1"}])
def test_nothing_is_pushed_unless_it_is_asked_for(pushes, otlp):
    handlers = list(logging.getLogger().handlers)
    one, _, registry = pushes(otlp)
    one.push_metrics(registry, "gw")
    assert one._push is None
    assert logging.getLogger().handlers == handlers


def test_the_registry_is_pushed_as_of_all_workers(pushes, collector):
    otlp = {"endpoint": f"http://127.0.0.1:{collector.port}", "metrics": True, "traces": False}
    one, metrics, registry = pushes(otlp)
    one.push_metrics(registry, "gw-of-all")
    metrics.reloaded("applied", 77.0)
    one.close()
    resource, _, found = collector.pushes.get(timeout=PATIENCE_S)
    assert resource["service.instance.id"] == "gw-of-all"
    (at,) = found["carbon_router.last_reload_timestamp"].gauge.data_points
    assert (at.as_double, attributes(at.attributes)) == (77.0, {"outcome": "applied"})
    reloads = found["carbon_router.reloads"].sum.data_points
    assert {point.start_time_unix_nano for point in reloads} == {50_000_000_000}


def test_lines_of_the_log_are_sent_and_a_librarys_are_held_back_as_ever(pushes, collector):
    otlp = {"endpoint": f"http://127.0.0.1:{collector.port}", "logs": True}
    one, _, registry = pushes(otlp)
    for _ in range(40):
        logging.getLogger("somebodys").warning("again")
    logging.getLogger("router.app").warning("said", extra={"place": "here"})
    one.close()
    logging.getLogger("router.app").warning("nobody is there any more")
    records = [collector.records.get()[2] for _ in range(collector.records.qsize())]
    said = [record for record in records if record.body.string_value == "said"]
    assert attributes(said[0].attributes) == {"carbon_router.place": "here"}
    assert len(said) == 1
    assert 0 < len(records) - 1 < 40
    count = registry.get_sample_value("carbon_router_log_records_total", {"outcome": "exported"})
    assert count == len(records)
