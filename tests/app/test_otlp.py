"""The collector of each signal: by the file, then its own variable, then that of all."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from router.app.loading import load
from router.app.otlp import Otlp, otlp_of, push_every_s, require_target
from tests.app.support import configured


@pytest.fixture
def config(tmp_path):
    def build(**otlp):
        return load(configured(tmp_path, {"telemetry": {"otlp": otlp}}))

    return build


def otlp(config, environ):
    return Otlp(config, config.settings.otlp, "id-1", environ)


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_by_http_each_signal_has_its_path_and_by_grpc_its_service(config, signal):
    by_http = otlp(config(endpoint="http://c:4318/base/", protocol="http"), {}).exporter(signal)
    assert by_http._endpoint == f"http://c:4318/base/v1/{signal}"
    by_grpc = otlp(config(endpoint="http://c:4317"), {}).exporter(signal)
    assert by_grpc._endpoint == "c:4317"
    for made in (by_http, by_grpc):
        made.shutdown()


class Elsewhere(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(308)
        self.send_header("Location", "https://collector.example/v1/logs")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_what_is_sent_elsewhere_is_not_exported(config, signal, caplog):
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        made = otlp(config(endpoint=endpoint, protocol="http"), {}).exporter(signal)
        try:
            assert made.export([]).name == "FAILURE"
        finally:
            made.shutdown()
            server.shutdown()
            serving.join()
    assert "says 308 and points to https://collector.example/v1/logs" in caplog.text


def test_a_signals_own_variable_comes_first(config, monkeypatch):
    environ = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://logs:1/in",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    made = otlp(config(), environ).exporter("logs")
    assert made._endpoint == "http://logs:1/in"
    made.shutdown()


def test_how_often_is_of_the_file_or_the_variable_or_a_minute(config):
    def every_s(environ, **said):
        one = config(**said)
        return push_every_s(one, one.settings.otlp, environ)

    assert every_s({}) == 60.0
    assert every_s({"OTEL_METRIC_EXPORT_INTERVAL": "5000"}) == 5.0
    assert every_s({"OTEL_METRIC_EXPORT_INTERVAL": "5000"}, metrics_every_s=7) == 7.0


def test_a_variable_that_is_not_used_is_not_judged(config):
    require_target(config(), {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/json"})
    assert otlp_of(config(), {"OTEL_SDK_DISABLED": "true"}) is None
