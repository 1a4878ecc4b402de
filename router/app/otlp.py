"""The collector that one gateway process sends to, by its settings and OpenTelemetry's variables.

What the file says comes first, then the variable of a signal, such as
``OTEL_EXPORTER_OTLP_TRACES_...``, then that of all signals, then OpenTelemetry's own default.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, Literal, TypeAlias

import router
from router.config.settings import Config, OtlpSettings
from router.errors import ConfigError, DataError
from router.extras import need
from router.telemetry.tracing.conventions import BY_NAME
from router.trust.secrets import Secret, read_secret, without_secret

Signal: TypeAlias = Literal["traces", "metrics", "logs"]

AT: Final = "telemetry.otlp"
_NAME: Final = "carbon-router"
_EVERY_S: Final = 60.0
_MOST_SHOWN: Final = 128
_INTERVAL: Final = "OTEL_METRIC_EXPORT_INTERVAL"
_PROTOCOLS: Final = {"grpc": "grpc", "http/protobuf": "http"}
# Module and class of the SDK's exporter; and what of one call is bounded, where it is: of metrics
# points, for a collector's 4 MiB of a gRPC message.
_EXPORTERS: Final[Mapping[str, tuple[str, str, dict[str, int]]]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter", {}),
    "metrics": ("metric_exporter", "OTLPMetricExporter", {"max_export_batch_size": 8192}),
    "logs": ("_log_exporter", "OTLPLogExporter", {}),
}


class Otlp:
    """Builds exporters, and says what is the same of all signals. ``resource``: attributes."""

    def __init__(
        self, config: Config, settings: OtlpSettings, identity: str, environ: Mapping[str, str]
    ) -> None:
        """``identity``: of what sends, among all. Raises ConfigError as `require_target` does."""
        with need("otel", "telemetry to a collector", file=str(config.file), key=AT):
            from opentelemetry.sdk.resources import OTELResourceDetector
        self.settings = settings
        self.convention = BY_NAME[settings.conventions]
        self.scope = (_NAME, router.__version__, self.convention.schema_url)
        self._config = config
        self._environ = environ
        self._headers = _headers(config, settings, environ)
        # `OTEL_SERVICE_NAME`, else `OTEL_RESOURCE_ATTRIBUTES`.
        by_variables = OTELResourceDetector().detect().attributes.get("service.name")
        self.resource = {
            "service.name": str(settings.service_name or by_variables or _NAME),
            "service.version": router.__version__,
            "service.instance.id": identity,
        }

    def exporter(self, signal: Signal) -> Any:
        """The SDK's own, of this signal."""
        from opentelemetry.util.re import parse_env_headers

        settings, headers = self.settings, self._headers
        way = _protocol(self._config, settings, self._environ, signal)
        module, name, options = _EXPORTERS[signal]
        extra: dict[str, Any] = dict(options)
        own = f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{signal.upper()}_CREDENTIAL_PROVIDER"
        if way == "http" and not self._environ.get(own):
            extra["session"] = _session()
        build = getattr(import_module(f"opentelemetry.exporter.otlp.proto.{way}.{module}"), name)
        endpoint = settings.endpoint
        if way == "http" and endpoint is not None:
            endpoint = f"{endpoint.rstrip('/')}/v1/{signal}"
        sent = None if headers is None else dict(parse_env_headers(headers.reveal(), liberal=True))
        return build(endpoint=endpoint, headers=sent, timeout=settings.timeout_ms / 1e3, **extra)

    def clean(self, text: str) -> str:
        """``text`` without the collector's credentials."""
        return without_secret(text, self._headers)


def otlp_of(config: Config, environ: Mapping[str, str]) -> OtlpSettings | None:
    """None where nothing is sent."""
    is_disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return None if is_disabled else config.settings.otlp


def require_target(config: Config, environ: Mapping[str, str]) -> None:
    """Raises ConfigError where something is to be sent and what that takes is not installed, or
    not to be read."""
    settings = otlp_of(config, environ)
    if settings is None:
        return
    with need("otel", "telemetry to a collector", file=str(config.file), key=AT):
        import opentelemetry.exporter.otlp.proto.grpc.trace_exporter
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    signals: tuple[Signal, ...] = ("traces", "metrics", "logs")
    for signal in signals:
        if getattr(settings, signal):
            _protocol(config, settings, environ, signal)
    push_every_s(config, settings, environ)
    _headers(config, settings, environ)


def push_every_s(config: Config, settings: OtlpSettings, environ: Mapping[str, str]) -> float:
    """Between two pushes of metrics. Raises ConfigError for a variable that is no interval."""
    if settings.metrics_every_s is not None:
        return settings.metrics_every_s
    said = environ.get(_INTERVAL, "").strip()
    if not said:
        return _EVERY_S
    if not (said.isascii() and said.isdigit() and 1000 <= int(said[:9]) <= 3_600_000):
        text = f"{_INTERVAL} is {said[:40]!r}; give milliseconds, 1000 to 3600000"
        raise otlp_error(config, "metrics_every_s", text)
    return int(said) / 1e3


def otlp_error(config: Config, key: str, text: str) -> ConfigError:
    """Of a key of ``telemetry.otlp``."""
    return ConfigError(str(config.file), [(f"{AT}.{key}", text)])


def _protocol(
    config: Config, settings: OtlpSettings, environ: Mapping[str, str], signal: Signal
) -> str:
    if settings.protocol is not None:
        return settings.protocol
    of_signal = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"
    for variable in (of_signal, "OTEL_EXPORTER_OTLP_PROTOCOL"):
        said = environ.get(variable, "").strip().lower()
        if said:
            if said not in _PROTOCOLS:
                known = " or ".join(_PROTOCOLS)
                raise otlp_error(config, "protocol", f"{variable} is {said[:40]!r}; say {known}")
            return _PROTOCOLS[said]
    return "grpc"


def _session() -> Any:
    """For calls over HTTP. The SDK follows no redirection, and takes it for an answer."""
    session = import_module("requests").Session()
    session.hooks["response"].append(_require_here)
    return session


def _require_here(response: Any, **_: object) -> None:
    if 300 <= response.status_code < 400:
        response.close()
        there = str(response.headers.get("Location", "nowhere"))[:_MOST_SHOWN]
        raise DataError(f"the collector says {response.status_code} and points to {there}")


def _headers(config: Config, settings: OtlpSettings, environ: Mapping[str, str]) -> Secret | None:
    """Raises ConfigError where they cannot be read."""
    spec = settings.headers
    if spec is None:
        return None
    key = f"{AT}.headers_env" if spec.env else f"{AT}.headers_file"
    return read_secret(str(config.file), key, env=spec.env, file=spec.file, environ=environ)
