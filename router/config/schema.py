"""The configuration file as pydantic models: shape and bounds of each key on its own.

What one key means for another (references, feasibility) is checked in ``router.config.checks``.
``docs/config.md`` documents every field and a test holds the two together.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from router.config.fields import (
    Address,
    Fraction,
    Listen,
    Name,
    NameOrEmpty,
    PathText,
    RttMs,
    Seconds,
    Strict,
    Text,
    UnixTime,
    Url,
)
from router.config.profiles import ProfileSchema
from router.config.sources import CarbonSchema as CarbonSchema

Engine = Literal["triton", "vllm", "sglang", "llamacpp", "trtllm", "tgi"]


class ServerSchema(Strict):
    """The gateway's own sockets and limits."""

    listen: Listen = Field(
        default="127.0.0.1:8500", description="gRPC address; port 0 picks a free one"
    )
    admin: Listen = Field(
        default="127.0.0.1:9500", description="/metrics, /healthz and /readyz over HTTP"
    )
    workers: int = Field(default=1, ge=1, le=256, description="processes that share `listen`")
    max_message_mib: int = Field(default=64, ge=1, le=2047, description="largest gRPC message, MiB")
    drain_s: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="how long in-flight requests may finish after SIGTERM, s",
    )
    deadline_margin_ms: float = Field(
        default=5.0,
        ge=0,
        le=1000,
        description="taken off the caller's deadline when it travels on, ms",
    )
    share_port: bool = Field(
        default=False,
        description="let other gateways of this host listen on the same addresses",
    )
    frozen_after_s: float | None = Field(
        default=None,
        ge=1,
        le=86_400,
        description="an event loop that stands still for so long is ended, s; left out: 5 for a "
        "worker, which is replaced, 30 for a process alone, which ends with code 1",
    )
    origin: NameOrEmpty = Field(
        default="",
        description="origin at which this gateway sits; empty: the caller's",
    )


class ClockSchema(Strict):
    """A replay clock for carbon data only. Leave it out for the wall clock."""

    start: UnixTime = Field(description="first moment, UTC, such as 2022-05-14T00:00Z")
    speed: float = Field(default=1.0, gt=0, le=1e6, description="carbon seconds per wall second")


class LoadSchema(Strict):
    """How model servers are asked for their load."""

    scrape_s: Seconds = Field(
        default=1.0, ge=0.05, description="between two scrapes of one endpoint, s"
    )
    stale_after_s: Seconds = Field(default=10.0, description="an older reading no longer counts, s")
    timeout_ms: float = Field(default=800.0, gt=0, le=60_000, description="of one scrape, ms")


class HealthSchema(Strict):
    """Outlier ejection: healthy, ejected, probing."""

    probe_s: Seconds = Field(
        default=5.0, description="between two readiness probes of an endpoint, s"
    )
    consecutive_failures: int = Field(
        default=5, ge=1, le=1000, description="in a row, then ejected"
    )
    failure_percentage: float = Field(
        default=85.0, gt=0, le=100, description="of recent requests, %"
    )
    min_requests: int = Field(
        default=50, ge=1, le=100_000, description="before failure_percentage says anything"
    )
    base_ejection_s: Seconds = Field(
        default=10.0, description="first ejection; doubles each time, s"
    )
    max_ejection_s: Seconds = Field(default=300.0, description="longest ejection, s")
    max_ejected_fraction: Fraction = Field(default=0.5, description="of all endpoints, at most")
    busy_s: Seconds = Field(default=1.0, description="an endpoint that says busy is left alone, s")


class RetrySchema(Strict):
    """Retries before the first response byte, and their throttle (as gRPC's retryThrottling)."""

    max_attempts: int = Field(
        default=3, ge=1, le=10, description="endpoints tried, the first included"
    )
    throttle_tokens: float = Field(
        default=10.0, gt=0, le=1000, description="retry budget when full"
    )
    token_ratio: float = Field(default=0.1, gt=0, le=1, description="token earned by one success")


class NetworkSchema(Strict):
    """Energy of moving bytes between caller and region."""

    kwh_per_gb: float = Field(
        default=0.001, ge=0, le=1, description="kWh per GB (Caribou, SOSP 2024)"
    )


class OriginSchema(Strict):
    """Where requests come from."""

    rtt_ms: dict[Name, RttMs] = Field(description="round-trip time to each region, ms")


class RttSchema(Strict):
    """A table of round-trip times: first column the origin, one column a region, ms."""

    file: PathText = Field(description="CSV, relative to the configuration file")
    columns: dict[Name, Name] = Field(
        default_factory=dict, description="region to column, where their names differ"
    )
    origins: list[Name] | None = Field(
        default=None, min_length=1, description="rows to take; left out: all"
    )


class LocationSchema(Strict):
    """A point on Earth, in degrees."""

    lat: float = Field(ge=-90, le=90, description="north positive")
    lon: float = Field(ge=-180, le=180, description="east positive")


class RegionSchema(Strict):
    """Where part of the fleet runs: by `cloud`, `grid_zone` or `location`, one at least."""

    cloud: Name | None = Field(
        default=None,
        description="cloud region, such as gcp:europe-west4: gives grid_zone, pue and location",
    )
    location: LocationSchema | None = Field(
        default=None, description="gives grid_zone where a shipped cloud region is within 100 km"
    )
    grid_zone: Name | None = Field(
        default=None, description="carbon-data area, such as US-CAL-CISO; over those two"
    )
    pue: float | None = Field(
        default=None,
        ge=1.0,
        le=3.0,
        description="power usage effectiveness, facility over IT; needed without `cloud`",
    )
    pue_source: Text | None = Field(
        default=None, description="where the PUE comes from; left out: operator, or the shipped's"
    )
    residency: list[Name] = Field(
        default_factory=list, description="jurisdictions, matched against x-residency"
    )


class ModelSchema(Strict):
    """What to expect of a model's requests before any was seen."""

    input_tokens: float = Field(gt=0, le=10_000_000, description="mean prompt, tokens")
    output_tokens: float = Field(gt=0, le=10_000_000, description="mean answer, tokens")
    output_tokens_p95: float = Field(gt=0, le=10_000_000, description="95th percentile, tokens")

    @model_validator(mode="after")
    def _ordered(self) -> ModelSchema:
        if self.output_tokens_p95 < self.output_tokens:
            raise ValueError(
                f"output_tokens_p95 ({self.output_tokens_p95:g}) must be at least output_tokens "
                f"({self.output_tokens:g})"
            )
        return self


class ServedSchema(Strict):
    """One model on one endpoint."""

    name: Name = Field(description="as callers name it")
    profile: Name = Field(description="energy and latency, shipped or from `profiles`")
    version: NameOrEmpty = Field(default="", description="empty: any version")
    context_tokens: int | None = Field(
        default=None, ge=1, le=100_000_000, description="input plus output limit; left out: none"
    )


class MetricsSchema(Strict):
    """Where an endpoint tells its load."""

    url: Url = Field(description="Prometheus text, such as http://127.0.0.1:8002/metrics")
    engine: Engine = Field(description="whose metric names to read")


class EndpointSchema(Strict):
    """One addressable model server."""

    name: Name = Field(description="unique")
    region: Name = Field(description="a key of `regions`")
    address: Address = Field(description="host:port, gRPC Open Inference Protocol v2")
    models: list[ServedSchema] = Field(min_length=1, description="what it serves")
    max_in_flight: int = Field(ge=1, le=1_000_000, description="requests at once, at most")
    metrics: MetricsSchema | None = Field(
        default=None, description="left out: own in-flight counts only"
    )
    emulated: bool = Field(
        default=False, description="its energy and latency are not real hardware"
    )


def _text_or_mapping(value: Any) -> Any:
    if not isinstance(value, str | dict):
        raise ValueError("give a shipped policy's name, a path ending in .yaml, or a mapping")
    return value


class ConfigSchema(Strict):
    """The whole file."""

    version: Literal[1] = Field(description="format of this file, 1")
    server: ServerSchema = Field(default_factory=ServerSchema, description="sockets and limits")
    policy: Annotated[Any, AfterValidator(_text_or_mapping)] = Field(
        default="carbon-first", description="a shipped name, a path to a YAML file, or inline"
    )
    clock: ClockSchema | None = Field(
        default=None, description="replay clock; left out: the wall clock"
    )
    carbon: CarbonSchema = Field(default_factory=CarbonSchema, description="intensity sources")
    load: LoadSchema = Field(default_factory=LoadSchema, description="scraping model servers")
    health: HealthSchema = Field(default_factory=HealthSchema, description="outlier ejection")
    retry: RetrySchema = Field(default_factory=RetrySchema, description="retries, throttled")
    network: NetworkSchema = Field(default_factory=NetworkSchema, description="transfer energy")
    origins: dict[Name, OriginSchema] = Field(
        default_factory=dict, description="where requests come from; needed unless `rtt` is given"
    )
    rtt: RttSchema | None = Field(default=None, description="round-trip times as a table")
    default_origin: NameOrEmpty = Field(
        default="", description="stands in for an unknown origin; empty: refuse"
    )
    regions: dict[Name, RegionSchema] = Field(min_length=1, description="where the fleet runs")
    models: dict[Name, ModelSchema] = Field(
        default_factory=dict, description="request lengths to expect; needed by token profiles"
    )
    endpoints: list[EndpointSchema] = Field(min_length=1, description="the model servers")
    profiles: dict[Name, ProfileSchema] = Field(
        default_factory=dict, description="own profiles beside the shipped ones"
    )
