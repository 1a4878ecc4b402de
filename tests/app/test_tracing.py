import random
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry

from router.app.loading import load
from router.app.tracing import ProcessTraces, require_otlp
from router.errors import ConfigError
from router.telemetry.tracing.conventions import DEPLOYED, LATEST
from router.telemetry.tracing.metrics import SpanMetrics
from tests.app.support import configured
from tests.director.support import ANSWER, Hands, Room
from tests.fakes.otlp_collector import Collector

SECRET = "s3cret-of-the-collector"


@pytest.fixture
def collector():
    with Collector() as made:
        yield made


@pytest.fixture
def traces(tmp_path, monkeypatch):
    """Builds traces for ``telemetry.otlp`` and an environment, and closes them."""
    made = []

    def build(otlp, **environ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        changes = None if otlp is None else {"telemetry": {"otlp": otlp}}
        config = load(configured(tmp_path, changes))
        registry = CollectorRegistry()
        metrics = SpanMetrics(registry)
        one = ProcessTraces(config, "id-1", Hands(), random.Random(1), environ, metrics)
        made.append(one)
        return one, registry

    yield build
    for one in made:
        one.close()


async def routed(traces):
    await Room(dict.fromkeys("abc", ANSWER), tracer=traces.tracer).infer(tenant="acme")
    traces.close()


async def test_nothing_is_sent_unless_it_is_asked_for(traces):
    assert traces(None)[0].tracer is None
    # What OpenTelemetry's variables say by themselves starts nothing.
    assert traces(None, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")[0].tracer is None
    assert traces({}, OTEL_SDK_DISABLED="True")[0].tracer is None


def test_the_sdk_is_loaded_where_it_is_asked_for_alone():
    code = "import sys, router.app.process; print([m for m in sys.modules if 'opentele' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("way", ["grpc", "http"])
async def test_the_file_says_where_to_and_how(traces, collector, tmp_path, way):
    (tmp_path / "headers").write_text(f"api-key={SECRET},x-team=green\n")
    port = collector.port if way == "grpc" else collector.http_port
    otlp = {
        "endpoint": f"http://127.0.0.1:{port}", "protocol": way, "sample_ratio": 1.0,
        "headers_file": "headers", "service_name": "gw-eu", "tenant": "plain",
    }  # fmt: skip
    one, registry = traces(
        otlp,
        OTEL_SERVICE_NAME="another",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=staging,service.name=third",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_HEADERS="api-key=another",
        OTEL_TRACES_SAMPLER="parentbased_always_off",
    )
    await routed(one)
    (resource, (scope, schema), _), (_, _, whole) = collector.take(2)
    assert resource["service.name"] == "gw-eu"
    assert resource["service.instance.id"] == "id-1"
    assert resource["deployment.environment.name"] == "staging"
    assert (scope, schema) == ("carbon-router", DEPLOYED.schema_url)
    assert whole.name.endswith("ModelInfer")
    assert collector.headers[0]["api-key"] == SECRET
    assert collector.headers[0]["x-team"] == "green"
    found = registry.get_sample_value("carbon_router_spans_total", {"outcome": "exported"})
    assert found == 2.0


@pytest.mark.parametrize("way", ["grpc", "http/protobuf"])
async def test_what_the_file_leaves_out_the_environment_says(traces, collector, way):
    port = collector.port if way == "grpc" else collector.http_port
    one, _ = traces(
        {"conventions": "latest"},
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
        OTEL_EXPORTER_OTLP_PROTOCOL=way,
        OTEL_EXPORTER_OTLP_HEADERS="api-key=of-the-environment",
        OTEL_SERVICE_NAME="from-there",
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="1.0",
    )
    await routed(one)
    (resource, (_, schema), _), _ = collector.take(2)
    assert resource["service.name"] == "from-there"
    assert schema == LATEST.schema_url
    assert collector.headers[0]["api-key"] == "of-the-environment"


async def test_attributes_of_the_resource_name_the_service_where_nothing_else_does(
    traces, collector
):
    one, _ = traces(
        {"sample_ratio": 1.0, "endpoint": f"http://127.0.0.1:{collector.port}"},
        OTEL_RESOURCE_ATTRIBUTES="service.name=of-the-cluster,service.namespace=models",
    )
    await routed(one)
    (resource, _, _), _ = collector.take(2)
    assert resource["service.name"] == "of-the-cluster"
    assert resource["service.namespace"] == "models"


async def test_the_variable_of_traces_comes_before_that_of_all(traces, collector):
    one, _ = traces(
        {"sample_ratio": 1.0},
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://127.0.0.1:{collector.http_port}/v1/traces",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="http/protobuf",
    )
    await routed(one)
    assert len(collector.take(2)) == 2


@pytest.mark.parametrize(
    ("otlp", "environ", "place", "words"),
    [
        ({}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "protocol", "http/protobuf"),
        ({}, {"OTEL_TRACES_SAMPLER": "always_on"}, "sample_ratio", "parentbased_always_on"),
        (
            {},
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "7"},
            "sample_ratio",
            "from 0 to 1",
        ),
        ({"headers_env": "NOT_SET"}, {}, "headers_env", "NOT_SET is not set"),
        (
            {"metrics": True},
            {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/json"},
            "protocol",
            "METRICS_PROTOCOL",
        ),
        ({}, {"OTEL_METRIC_EXPORT_INTERVAL": "60s"}, "metrics_every_s", "milliseconds"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(tmp_path, otlp, environ, place, words):
    config = load(configured(tmp_path, {"telemetry": {"otlp": otlp}}))
    with pytest.raises(ConfigError) as raised:
        require_otlp(config, environ)
    ((key, text),) = raised.value.problems
    assert key == f"telemetry.otlp.{place}"
    assert words in text


@pytest.mark.parametrize(
    "otlp",
    [
        {"headers_env": "A", "headers_file": "b"},
        {"sample_ratio": 1.1},
        {"endpoint": "collector:4317"},
        {"protocol": "http/json"},
        {"traces": False},
        {"metrics_every_s": 0.5},
    ],
)
def test_the_file_is_checked(tmp_path, otlp):
    with pytest.raises(ConfigError):
        load(configured(tmp_path, {"telemetry": {"otlp": otlp}}))


async def test_a_collector_that_is_away_says_nothing_of_its_headers(traces, tmp_path, caplog):
    (tmp_path / "headers").write_text(f"api-key={SECRET}\n")
    one, _ = traces({
        "endpoint": "http://127.0.0.1:1", "timeout_ms": 100, "sample_ratio": 1.0,
        "headers_file": "headers",
    })  # fmt: skip
    await routed(one)
    assert len([line for line in caplog.records if "cannot be exported" in line.message]) == 1
    assert SECRET not in caplog.text + str([vars(line) for line in caplog.records])
