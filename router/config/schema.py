"""The configuration file as pydantic models: shape and bounds of each key on its own.

What one key means for another (references, feasibility) is checked in ``router.config.checks``.
``docs/config.md`` documents every field and a test holds the two together.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from router.config.aliases import AliasSchema
from router.config.budgets import OneOrSeveral
from router.config.deferral import DeferralSchema
from router.config.discovery import DiscoverySchema
from router.config.endpoints import EndpointSchema
from router.config.fields import (
    EnvName,
    Fraction,
    Jurisdiction,
    Listen,
    Name,
    NameOrEmpty,
    PathText,
    RttMs,
    Seconds,
    Strict,
    Text,
    UnixTime,
)
from router.config.identity import IdentitySchema
from router.config.ledger import LedgerSchema
from router.config.profiles import ProfileSchema
from router.config.receipts import ReceiptsSchema
from router.config.redis import RedisSchema
from router.config.scaling import ScalingSchema
from router.config.sources import CarbonSchema
from router.config.telemetry import TelemetrySchema
from router.config.tls import BackendsSchema, ListenerTlsSchema

HttpPath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$", max_length=256)]
HostName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_-]+)*$", max_length=253),
]
# A tenant's name, or `*`.
EnergyTenant = Annotated[str, Field(min_length=1, max_length=128)]


class ServerSchema(Strict):
    """The gateway's own sockets and limits."""

    listen: Listen = Field(
        default="127.0.0.1:8500", description="gRPC address; port 0 picks a free one"
    )
    admin: Listen = Field(
        default="127.0.0.1:9500", description="/metrics, /healthz and /readyz over HTTP"
    )
    http: Listen | None = Field(
        default=None,
        description="address of OpenAI's and Anthropic's HTTP; left out: not served",
    )
    picker: Listen | None = Field(
        default=None,
        description="address of the endpoint picker, which proxies ask over gRPC where their "
        "requests go (docs/picker.md); left out: not served",
    )
    scaler: Listen | None = Field(
        default=None,
        description="address that KEDA asks over gRPC how many replicas a region should have "
        "(docs/kubernetes.md); left out: not served",
    )
    http_paths: list[HttpPath] = Field(
        default_factory=list,
        description="further paths of servers that callers may POST to, such as /v1/chat/custom; "
        "those in docs/http.md need no mention",
    )
    energy_tenants: list[EnergyTenant] = Field(
        default_factory=list,
        description="by x-tenant: whose HTTP answers state usage.energy unasked; `*`: all",
    )
    grpc_receipts: Literal["compact", "full"] = Field(
        default="compact",
        description="how gRPC answers tell theirs where the caller does not say: all in "
        "`x-carbon`, or in a trailer a figure",
    )
    tls: ListenerTlsSchema | None = Field(
        default=None, description="of `listen` and `http`; left out: plaintext (gRPC: h2c)"
    )
    admin_tls: ListenerTlsSchema | None = Field(
        default=None, description="of `admin`; left out: plaintext"
    )
    admin_token_env: EnvName | None = Field(
        default=None,
        description="variable with the token that `admin` wants as `authorization: Bearer ...`",
    )
    admin_token_file: PathText | None = Field(
        default=None, description="file with it, watched; left out both: everybody is answered"
    )
    admin_hosts: list[HostName] = Field(
        default_factory=list,
        description="public names by which `admin` is called, beside the one it listens on, where "
        "it has neither TLS nor a token: others are refused, as a web page could have its own name "
        "point here",
    )
    http_hosts: list[HostName] = Field(
        default_factory=list,
        description="likewise of `http`, where it listens on loopback with neither TLS nor "
        "`identity`",
    )
    insecure: bool = Field(
        default=False,
        description="listen beyond loopback without TLS, or without knowing who calls, all the "
        "same",
    )
    workers: int = Field(default=1, ge=1, le=256, description="processes that share `listen`")
    max_message_mib: int = Field(default=64, ge=1, le=2047, description="largest gRPC message, MiB")
    max_buffered_mib: int | None = Field(
        default=None,
        ge=1,
        le=1_048_576,
        description="request bytes held at once by a process, MiB; left out: 4 max_message_mib",
    )
    max_requests: int = Field(
        default=16_384, ge=1, le=1_000_000, description="calls at once in a process, of any kind"
    )
    max_streams: int = Field(
        default=1_024, ge=1, le=1_000_000, description="calls at once on one connection"
    )
    max_connections: int = Field(
        default=8_192,
        ge=1,
        le=1_000_000,
        description="of clients to a process; fewer where it may not have the descriptors",
    )
    max_metadata_kib: int = Field(default=16, ge=1, le=1024, description="headers of a call, KiB")
    idle_s: float = Field(
        default=300.0, ge=1, le=86_400, description="a connection without a call is closed, s"
    )
    max_age_s: float = Field(
        default=1800.0, ge=1, le=86_400, description="a connection is renewed, calls finish, s"
    )
    show_addresses: bool = Field(
        default=False, description="whether the control API tells callers the endpoints' addresses"
    )
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
    max_wait_ms: float = Field(
        default=250.0,
        ge=0,
        le=10_000,
        description="a request waits so long for a place before it is shed, ms",
    )
    origin: NameOrEmpty = Field(
        default="",
        description="origin at which this gateway sits; empty: the caller's",
    )

    @model_validator(mode="after")
    def _agrees(self) -> ServerSchema:
        if self.admin_token_env is not None and self.admin_token_file is not None:
            raise ValueError("give admin_token_env or admin_token_file, not both")
        if self.max_buffered_mib is not None and self.max_buffered_mib < self.max_message_mib:
            raise ValueError(
                f"max_buffered_mib ({self.max_buffered_mib}) must be at least max_message_mib "
                f"({self.max_message_mib}): one message would not fit"
            )
        return self


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
    """Ejection: healthy, ejected, probing. Dead servers are out at once, however many; outliers
    (they fail what others answer) by the figures below."""

    probe_s: Seconds = Field(
        default=5.0, description="between two readiness probes of an endpoint in peace, s"
    )
    detect_s: float = Field(
        default=2.0,
        ge=1,
        le=60,
        description="a server that answers nothing any more is out within, s",
    )
    consecutive_failures: int = Field(
        default=5, ge=1, le=1000, description="of one caller in a row, then an outlier"
    )
    failure_percentage: float = Field(
        default=10.0, gt=0, le=100, description="of a caller's recent requests, answered elsewhere"
    )
    min_requests: int = Field(
        default=20, ge=1, le=40, description="before failure_percentage says anything"
    )
    base_ejection_s: Seconds = Field(
        default=10.0, description="first ejection; doubles each time, s"
    )
    max_ejection_s: Seconds = Field(default=300.0, description="longest ejection, s")
    max_ejected_fraction: Fraction = Field(
        default=0.5,
        description="of a model's endpoints, for failures that could not be tried elsewhere",
    )
    busy_s: Seconds = Field(default=1.0, description="an endpoint that says busy is left alone, s")
    max_busy_s: Seconds = Field(default=5.0, description="however long it asks for, at most, s")


class RetrySchema(Strict):
    """Retries before the first response byte, and how many there may be.

    What never reached a server, and all but one request of a connection that broke, cost nothing.
    """

    max_attempts: int = Field(
        default=3, ge=1, le=10, description="servers that see a request, the first included"
    )
    budget_ratio: float = Field(
        default=0.2, ge=0, le=1, description="retries, as a share of all requests"
    )
    budget_reserve: float = Field(
        default=10.0, ge=0, le=1000, description="retries that a gateway begins with"
    )


class RequestLogSchema(Strict):
    """Successful requests as rows of a file that `simulate` reads as a workload."""

    file: PathText = Field(description="CSV, relative to the configuration file")
    sample: float = Field(default=1.0, gt=0, le=1, description="fraction of requests with a row")
    max_mib: int = Field(default=100, ge=1, le=1_000_000, description="then it is rotated, MiB")
    keep: int = Field(default=5, ge=0, le=1000, description="rotated files beside it, at most")
    tenant: Literal["hash", "plain", "omit"] = Field(
        default="hash", description="x-tenant in it: a hash, as it is, or left out"
    )


class LogSchema(Strict):
    """What is written beside the lines on stderr."""

    requests: RequestLogSchema | None = Field(
        default=None, description="successful requests; left out: none are written"
    )


class StateSchema(Strict):
    """What outlives a restart, and what several gateways share."""

    file: PathText | None = Field(
        default=None,
        description="relative to the configuration file; left out: every start learns anew",
    )
    redis: RedisSchema | None = Field(
        default=None, description="shared with other gateways; left out: with none"
    )


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
    residency: list[Jurisdiction] = Field(
        default_factory=list,
        description="jurisdictions it lies in, matched against x-residency whatever their case",
    )


_LENGTHS = ("input_tokens", "output_tokens", "output_tokens_p95")
Tokens = Annotated[float, Field(gt=0, le=10_000_000)]
# An empty list could be read as "anywhere" and as "nowhere".
Residency = Annotated[list[Jurisdiction], Field(min_length=1)]


class ModelSchema(Strict):
    """What to expect of a model's requests before any was seen, and where they may run."""

    input_tokens: Tokens | None = Field(default=None, description="mean prompt, tokens")
    output_tokens: Tokens | None = Field(default=None, description="mean answer, tokens")
    output_tokens_p95: Tokens | None = Field(default=None, description="95th percentile, tokens")
    residency: Residency | None = Field(
        default=None, description="jurisdictions it may run in; left out: any"
    )

    @model_validator(mode="after")
    def _ordered(self) -> ModelSchema:
        mean, p95 = self.output_tokens, self.output_tokens_p95
        if mean is not None and p95 is not None and p95 < mean:
            raise ValueError(
                f"output_tokens_p95 ({p95:g}) must be at least output_tokens ({mean:g})"
            )
        missing = [name for name in _LENGTHS if getattr(self, name) is None]
        if missing and (len(missing) < len(_LENGTHS) or self.residency is None):
            raise ValueError(f"{', '.join(missing)}: required, but missing; lengths come together")
        return self

    def lengths(self) -> tuple[float, float, float] | None:
        """Mean prompt, mean answer and its 95th percentile, tokens; None where not stated."""
        mean_in, mean, p95 = self.input_tokens, self.output_tokens, self.output_tokens_p95
        if mean_in is None or mean is None or p95 is None:
            return None
        return mean_in, mean, p95


class TenantSchema(Strict):
    """What the operator holds one tenant to."""

    residency: Residency = Field(description="jurisdictions its requests may run in")


def _text_or_mapping(value: Any) -> Any:
    if not isinstance(value, str | dict):
        raise ValueError("give a shipped policy's name, a path ending in .yaml, or a mapping")
    return value


class ConfigSchema(Strict):
    """The whole file."""

    version: Literal[1] = Field(description="format of this file, 1")
    server: ServerSchema = Field(default_factory=ServerSchema, description="sockets and limits")
    identity: IdentitySchema = Field(
        default_factory=IdentitySchema, description="who may call; left out: anybody"
    )
    policy: Annotated[Any, AfterValidator(_text_or_mapping)] = Field(
        default="carbon-first", description="a shipped name, a path to a YAML file, or inline"
    )
    clock: ClockSchema | None = Field(
        default=None, description="replay clock; left out: the wall clock"
    )
    carbon: CarbonSchema = Field(default_factory=CarbonSchema, description="intensity sources")
    carbon_budget: OneOrSeveral = Field(
        default_factory=list, description="grams that may be emitted a day; one or several"
    )
    load: LoadSchema = Field(default_factory=LoadSchema, description="scraping model servers")
    health: HealthSchema = Field(default_factory=HealthSchema, description="when endpoints are out")
    retry: RetrySchema = Field(default_factory=RetrySchema, description="retries, bounded")
    log: LogSchema = Field(default_factory=LogSchema, description="requests as a file")
    ledger: LedgerSchema | None = Field(
        default=None, description="what every request emitted, as Parquet; left out: not kept"
    )
    deferral: DeferralSchema | None = Field(
        default=None, description="batches, which wait for their turn; left out: not served"
    )
    scaling: ScalingSchema | None = Field(
        default=None,
        description="who is told how many replicas are wanted where (docs/scaling.md); left out: "
        "whoever asks `server.scaler`",
    )
    receipts: ReceiptsSchema = Field(
        default_factory=ReceiptsSchema, description="receipts that are asked for by their ids"
    )
    telemetry: TelemetrySchema = Field(
        default_factory=TelemetrySchema, description="what is told to other systems"
    )
    state: StateSchema = Field(default_factory=StateSchema, description="what outlives a restart")
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
    aliases: dict[Name, AliasSchema] = Field(
        default_factory=dict,
        max_length=256,
        description="names that stand for one of several models, chosen with the place "
        "(docs/variants.md); left out: none",
    )
    tenants: dict[Name, TenantSchema] = Field(
        default_factory=dict, description="by x-tenant: what each is held to"
    )
    unlisted_tenants: Literal["refuse", "serve"] = Field(
        default="refuse", description="where `tenants` lists any: requests of others, or of none"
    )
    backends: BackendsSchema = Field(
        default_factory=BackendsSchema, description="how endpoints are reached, where they say not"
    )
    endpoints: list[EndpointSchema] = Field(
        default_factory=list, description="the model servers; one at least, or `discovery`"
    )
    discovery: list[DiscoverySchema] = Field(
        default_factory=list, max_length=64, description="where further endpoints are found"
    )
    profiles: dict[Name, ProfileSchema] = Field(
        default_factory=dict, description="own profiles beside the shipped ones"
    )
