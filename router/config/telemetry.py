"""``telemetry`` of the file: where traces, metrics and log go by OTLP."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from router.config.fields import BaseUrl, EnvName, PathText, Strict, Text
from router.config.settings import OtlpSettings, SecretSpec


class OtlpSchema(Strict):
    """A collector of OpenTelemetry. What is left out is as its own variables say it."""

    endpoint: BaseUrl | None = Field(
        default=None,
        description="such as http://collector:4317; left out: `OTEL_EXPORTER_OTLP_ENDPOINT`, or a "
        "collector on this machine",
    )
    protocol: Literal["grpc", "http"] | None = Field(
        default=None,
        description="gRPC, or protobuf over HTTP; left out: `OTEL_EXPORTER_OTLP_PROTOCOL`, or grpc",
    )
    headers_env: EnvName | None = Field(
        default=None,
        description="variable with headers for the collector, `key=value,key=value`; left out, as "
        "`headers_file` is: `OTEL_EXPORTER_OTLP_HEADERS`",
    )
    headers_file: PathText | None = Field(default=None, description="or a file with them")
    timeout_ms: float = Field(
        default=10_000.0, ge=100, le=60_000, description="of one call of the collector, ms"
    )
    service_name: Text | None = Field(
        default=None,
        description="left out: `OTEL_SERVICE_NAME`, that of `OTEL_RESOURCE_ATTRIBUTES`, or "
        "carbon-router",
    )
    sample_ratio: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="of requests that come without a trace; others as their caller does. Left out: "
        "`OTEL_TRACES_SAMPLER`, or 0.1",
    )
    traces: bool = Field(default=True, description="spans of requests that are sampled")
    metrics: bool = Field(
        default=False, description="what `/metrics` shows, pushed; that page stays"
    )
    metrics_every_s: float | None = Field(
        default=None,
        ge=1,
        le=3600,
        description="left out: `OTEL_METRIC_EXPORT_INTERVAL` (ms), or 60",
    )
    logs: bool = Field(
        default=False, description="lines of the log as records; they are written as ever, too"
    )
    conventions: Literal["deployed", "latest"] = Field(
        default="deployed",
        description="release of the semantic conventions that attributes are named by",
    )
    tenant: Literal["omit", "hash", "plain"] = Field(
        default="omit", description="x-tenant in spans: left out, a hash, or as it is"
    )
    queue_spans: int = Field(
        default=2048,
        ge=1,
        le=100_000,
        description="of a process that may wait for the collector; beyond it they are dropped, "
        "counted",
    )

    queue_records: int = Field(
        default=2048,
        ge=1,
        le=100_000,
        description="lines of the log of a process that may wait for the collector; beyond it they "
        "are dropped, counted",
    )

    @model_validator(mode="after")
    def _something_is_sent(self) -> Self:
        if not (self.traces or self.metrics or self.logs):
            raise ValueError("nothing would be sent: set traces, metrics or logs, or leave it out")
        return self

    @model_validator(mode="after")
    def _one_place_of_headers(self) -> Self:
        if self.headers_env is not None and self.headers_file is not None:
            raise ValueError("give headers_env or headers_file, not both")
        return self


class TelemetrySchema(Strict):
    """What is told to others of what the gateway does, beside `/metrics` and its log."""

    otlp: OtlpSchema | None = Field(
        default=None,
        description="what goes to a collector: traces where nothing else is said, `{}` is enough; "
        "left out: nothing",
    )


def otlp_settings(schema: TelemetrySchema, folder: Path) -> OtlpSettings | None:
    """None where nothing is sent; ``folder``: of the configuration file."""
    otlp = schema.otlp
    if otlp is None:
        return None
    env, file = otlp.headers_env, otlp.headers_file
    values = otlp.model_dump(exclude={"headers_env", "headers_file"})
    headers = SecretSpec(env or "", folder / file if file else None) if env or file else None
    return OtlpSettings(**values, headers=headers)
