"""Traces of one gateway process: built by its settings and OpenTelemetry's variables.

What the file says comes first, then the variable of traces, ``OTEL_EXPORTER_OTLP_TRACES_...``, then
that of all signals, then OpenTelemetry's own default.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Final

import router
from router.config.settings import Config, OtlpSettings
from router.contract import Clock, Tracer
from router.errors import ConfigError
from router.extras import need
from router.telemetry.tracing.conventions import BY_NAME
from router.telemetry.tracing.metrics import SpanMetrics
from router.telemetry.tracing.tracer import RequestTracer, TraceOptions
from router.trust.secrets import Secret, read_secret, without_secret

if TYPE_CHECKING:
    from router.telemetry.tracing.export import SpanExport

_AT: Final = "telemetry.otlp"
_NAME: Final = "carbon-router"
_RATIO: Final = 0.1
# OpenTelemetry's own, of its batches.
_EVERY_S: Final = 5.0
_BATCH_SPANS: Final = 512
# At the end: for spans that wait.
_LAST_S: Final = 2.0
_PROTOCOLS: Final = {"grpc": "grpc", "http/protobuf": "http"}
_SAMPLERS: Final = {"parentbased_always_on": 1.0, "parentbased_always_off": 0.0}
_BY_RATIO: Final = "parentbased_traceidratio"


def require_otlp(config: Config, environ: Mapping[str, str]) -> None:
    """Raises ConfigError where traces are asked for and what they take is not installed, or not
    to be read."""
    settings = config.settings.otlp
    if settings is None or _is_disabled(environ):
        return
    with need("otel", "telemetry to a collector", file=str(config.file), key=_AT):
        import opentelemetry.exporter.otlp.proto.grpc.trace_exporter
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    _protocol(config, settings, environ)
    _ratio(config, settings, environ)
    _headers(config, settings, environ)


class ProcessTraces:
    """``tracer``: None where nothing is sent."""

    def __init__(
        self,
        config: Config,
        identity: str,
        clock: Clock,
        rng: Random,
        environ: Mapping[str, str],
        metrics: SpanMetrics,
    ) -> None:
        """``identity``: of this process among all; ``clock``: the wall's.

        Raises ConfigError as `require_otlp` does.
        """
        self.tracer: Tracer | None = None
        self._export: SpanExport | None = None
        settings = config.settings.otlp
        if settings is None or _is_disabled(environ):
            return
        require_otlp(config, environ)
        # Not before it is asked for: the SDK takes a while, and room.
        from opentelemetry.sdk.resources import OTELResourceDetector

        from router.telemetry.tracing.export import ExportOptions, SpanExport

        headers = _headers(config, settings, environ)
        convention = BY_NAME[settings.conventions]
        # `OTEL_SERVICE_NAME`, else `OTEL_RESOURCE_ATTRIBUTES`.
        by_variables = OTELResourceDetector().detect().attributes.get("service.name")
        name = settings.service_name or by_variables or _NAME
        self._export = SpanExport(
            _exporter(settings, _protocol(config, settings, environ), headers),
            {
                "service.name": str(name),
                "service.version": router.__version__,
                "service.instance.id": identity,
            },
            (_NAME, router.__version__, convention.schema_url),
            ExportOptions(settings.queue_spans, _EVERY_S, _BATCH_SPANS),
            metrics.count,
            lambda text: without_secret(text, headers),
        )
        options = TraceOptions(_ratio(config, settings, environ), settings.tenant, convention)
        self.tracer = RequestTracer(options, self._export.put, clock, rng)

    def close(self) -> None:
        """Send what waits, and give up on what takes too long."""
        if self._export is not None:
            self._export.close(_LAST_S)


def _is_disabled(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _exporter(settings: OtlpSettings, protocol: str, headers: Secret | None) -> Any:
    from opentelemetry.util.re import parse_env_headers

    sent = None if headers is None else dict(parse_env_headers(headers.reveal(), liberal=True))
    timeout_s = settings.timeout_ms / 1e3
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as by_grpc

        return by_grpc.OTLPSpanExporter(endpoint=settings.endpoint, headers=sent, timeout=timeout_s)
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as by_http

    base = settings.endpoint
    return by_http.OTLPSpanExporter(
        endpoint=None if base is None else f"{base.rstrip('/')}/v1/traces",
        headers=sent,
        timeout=timeout_s,
    )


def _protocol(config: Config, settings: OtlpSettings, environ: Mapping[str, str]) -> str:
    if settings.protocol is not None:
        return settings.protocol
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        said = environ.get(variable, "").strip().lower()
        if said:
            if said not in _PROTOCOLS:
                known = " or ".join(_PROTOCOLS)
                raise _error(config, "protocol", f"{variable} is {said[:40]!r}; say {known}")
            return _PROTOCOLS[said]
    return "grpc"


def _ratio(config: Config, settings: OtlpSettings, environ: Mapping[str, str]) -> float:
    if settings.sample_ratio is not None:
        return settings.sample_ratio
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if not sampler:
        return _RATIO
    if sampler in _SAMPLERS:
        return _SAMPLERS[sampler]
    if sampler != _BY_RATIO:
        known = ", ".join((*_SAMPLERS, _BY_RATIO))
        text = f"OTEL_TRACES_SAMPLER is {sampler[:40]!r}; parents are honoured here: say {known}"
        raise _error(config, "sample_ratio", text)
    said = environ.get("OTEL_TRACES_SAMPLER_ARG", "1.0").strip()
    try:
        ratio = float(said)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        text = f"OTEL_TRACES_SAMPLER_ARG is {said[:40]!r}; give a number from 0 to 1"
        raise _error(config, "sample_ratio", text)
    return ratio


def _headers(config: Config, settings: OtlpSettings, environ: Mapping[str, str]) -> Secret | None:
    """Raises ConfigError where they cannot be read."""
    spec = settings.headers
    if spec is None:
        return None
    key = f"{_AT}.headers_env" if spec.env else f"{_AT}.headers_file"
    return read_secret(str(config.file), key, env=spec.env, file=spec.file, environ=environ)


def _error(config: Config, key: str, text: str) -> ConfigError:
    return ConfigError(str(config.file), [(f"{_AT}.{key}", text)])
