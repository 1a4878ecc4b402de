"""What an operator sets beside the fleet and the policy, as frozen values with units in names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from router.config.deferral import DeferralSettings
from router.config.discovery_settings import DiscoverySettings
from router.config.identity import IdentitySchema
from router.config.ledger import LedgerSettings
from router.config.live import LiveSchema
from router.config.receipts import ReceiptSigning
from router.config.weather import WeatherSchema
from router.model import Fleet, Kind, Policy, Signal


class SecretSpec(NamedTuple):
    """Where a key is to be read from: an environment variable or a file, never both."""

    env: str = ""
    file: Path | None = None


class PemFiles(NamedTuple):
    """``cert``, ``key``: who we are; ``ca``: whom we believe. None of what is not given."""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None


class ClientAuth(StrEnum):
    """Whether clients show a certificate."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class ListenerTls(NamedTuple):
    """TLS of what we listen on."""

    files: PemFiles
    client_auth: ClientAuth = ClientAuth.NONE


class EndpointTls(NamedTuple):
    """TLS towards an endpoint. ``at``: where the file says so, for messages. ``server_name``: that
    its certificate must have; "" for the host of its address."""

    at: str
    files: PemFiles = PemFiles()
    server_name: str = ""


class EndpointCredentials(NamedTuple):
    """A key for an endpoint. ``at``: where the file says so, for messages. ``scheme``: the word
    before it in ``header``, "" for none."""

    at: str
    header: str
    scheme: str
    secret: SecretSpec


class EndpointAccess(NamedTuple):
    """How an endpoint is reached: None for plaintext, and where it gets no key."""

    tls: EndpointTls | None = None
    credentials: EndpointCredentials | None = None


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The gateway's own sockets and limits. ``listen``, ``admin``, ``http``, ``picker``,
    ``scaler``: ``host:port``; None where it is not served.

    ``max_buffered_mib``, ``max_requests`` and ``max_connections``: of one process;
    ``max_streams``: of one connection.
    ``frozen_after_s``: None for 5 s where there are workers, which are replaced at once, and 30 s
    for a process alone, which somebody else has to start again.
    ``tls``, ``admin_tls``: None for plaintext. ``admin_token``: None where everybody is answered.
    ``admin_hosts``, ``http_hosts``: names by which ``admin`` and ``http`` are called, beside the
    ones that they listen on.
    """

    listen: str
    admin: str
    workers: int
    max_message_mib: int
    max_buffered_mib: int
    max_requests: int
    max_streams: int
    max_connections: int
    max_metadata_kib: int
    idle_s: float
    max_age_s: float
    show_addresses: bool
    drain_s: float
    deadline_margin_ms: float
    max_wait_ms: float
    share_port: bool = False
    frozen_after_s: float | None = None
    http: str | None = None
    picker: str | None = None
    scaler: str | None = None
    http_paths: frozenset[str] = frozenset()
    energy_tenants: frozenset[str] = frozenset()
    grpc_receipts: str = "compact"
    tls: ListenerTls | None = None
    admin_tls: ListenerTls | None = None
    admin_token: SecretSpec | None = None
    admin_hosts: frozenset[str] = frozenset()
    http_hosts: frozenset[str] = frozenset()
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class ClockSettings:
    """A replay clock for carbon data: from ``start`` (unix s) at ``speed`` times wall speed."""

    start: float
    speed: float


@dataclass(frozen=True, slots=True)
class TraceSpec:
    """A table of past or forecast intensity; ``kind`` says what its values are."""

    file: Path
    kind: Kind
    lag_s: float
    hour_ending: bool
    name: str = "trace"


@dataclass(frozen=True, slots=True)
class ClimatologySpec:
    """The month-by-hour means that ship with the package (average, lifecycle)."""

    name: str = "climatology"


@dataclass(frozen=True, slots=True)
class StaticSpec:
    """Annual means: the operator's own by grid zone, over the shipped table where comparable.

    ``shipped_table``: false when the configured signal is not average/lifecycle, which is what
    the shipped annual means are.
    """

    g_per_kwh: dict[str, float]
    shipped_table: bool

    name: str = "static"


@dataclass(frozen=True, slots=True)
class LiveSpec:
    """A live provider. ``schema``: as in the file; ``at``: its key path there, for messages.

    ``zones``: grid zone to the provider's id, shipped ones overridden. ``secrets``: by what they
    are (``key``, or ``user`` and ``password``).
    """

    schema: LiveSchema
    name: str
    at: str
    signal: Signal
    zones: Mapping[str, str]
    secrets: Mapping[str, SecretSpec]


@dataclass(frozen=True, slots=True)
class HistorySpec:
    """Past values for the forecaster, of the configured signal."""

    file: Path
    hour_ending: bool


@dataclass(frozen=True, slots=True)
class WeatherSpec:
    """Where the weather ahead comes from. ``file``: resolved; ``key``: None where none is given."""

    schema: WeatherSchema
    file: Path | None = None
    key: SecretSpec | None = None


SourceSpec = TraceSpec | ClimatologySpec | StaticSpec | LiveSpec


@dataclass(frozen=True, slots=True)
class CarbonSettings:
    """Where carbon intensity comes from; ``sources`` in order of preference, never empty.

    ``orders``: grid zone to source names, where it has an order of its own. ``marginal``: sources
    of the second chain, often none. ``coordinates``: grid zone to (lat, lon) of a region there.
    """

    signal: Signal
    refresh_s: float
    sources: tuple[SourceSpec, ...]
    orders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    marginal: tuple[SourceSpec, ...] = ()
    history: HistorySpec | None = None
    weather: WeatherSpec | None = None
    coordinates: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How model servers are asked for their load."""

    scrape_s: float
    stale_after_s: float
    timeout_ms: float


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """When an endpoint is taken out, for how long, and when it is tried again."""

    probe_s: float
    detect_s: float
    consecutive_failures: int
    failure_percentage: float
    min_requests: int
    base_ejection_s: float
    max_ejection_s: float
    max_ejected_fraction: float
    busy_s: float
    max_busy_s: float


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """Retries and their budget: a share of all requests, and a few at the start."""

    max_attempts: int
    budget_ratio: float
    budget_reserve: float


@dataclass(frozen=True, slots=True)
class RequestFileSettings:
    """Where successful requests are written. ``sample``: fraction that gets a row; ``max_bytes`` of
    the file before it is rotated, ``keep`` rotated ones beside it; ``tenant``: hash, plain, omit.
    """

    file: Path
    sample: float
    max_bytes: int
    keep: int
    tenant: str


class RedisTopology(StrEnum):
    """How a Redis is laid out."""

    STANDALONE = "standalone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class RedisAddress(NamedTuple):
    """Where a Redis is. ``hosts``: of the server, of its sentinels or of some nodes of its cluster;
    none of a Unix socket at ``path``. ``service``: what the sentinels call it.
    """

    topology: RedisTopology
    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    service: str = ""
    database: int = 0
    path: str = ""


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """What several gateways share. ``timeout_s``: to connect, and of one answer;
    ``load_bytes_per_s``: a process moves by its exchanges of load, at most."""

    address: RedisAddress
    prefix: str
    timeout_s: float
    load_bytes_per_s: float = 4.0 * 2**20
    username: str = ""
    password: SecretSpec | None = None
    sentinel_username: str = ""
    sentinel_password: SecretSpec | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Where what is known outlives the process, and is shared. ``file`` None: what is learned is
    not kept; ``redis`` None: nothing is shared with other gateways.
    """

    file: Path | None = None
    redis: RedisSettings | None = None


class BudgetScope(StrEnum):
    """Whose requests an account of a carbon budget adds up."""

    TENANT = "tenant"
    MODEL = "model"
    FLEET = "fleet"


class OnExhausted(StrEnum):
    """What becomes of a request for which a carbon budget has nothing left. SHED: it is refused;
    GREENEST_ONLY: it goes where it emits least; VARIANT: the same, and by whichever variant of an
    alias its caller takes, whatever quality was agreed on; WARN: it is served, and told; DEFER: it
    waits where it may, goes where it emits least once it can wait no longer, and is refused else.
    """

    SHED = "shed"
    GREENEST_ONLY = "greenest_only"
    VARIANT = "variant"
    WARN = "warn"
    DEFER = "defer"


@dataclass(frozen=True, slots=True)
class CarbonBudget:
    """Emissions allowed on one UTC day, whole micrograms, over all gateways.

    ``limit_ug``: of each name that is not in ``limits_ug``; None: those have no limit. ``shadow``:
    what would be done is told, and not done. ``gateways``: among how many at least a limit is
    divided while the store that they share cannot be reached.
    """

    name: str
    per: BudgetScope
    limit_ug: int | None
    limits_ug: Mapping[str, int]
    on_exhausted: OnExhausted
    shadow: bool
    gateways: int = 1

    def limit_of(self, name: str) -> int | None:
        """Of one tenant or model; None where it has none."""
        return self.limits_ug.get(name, self.limit_ug)


@dataclass(frozen=True, slots=True)
class CarbonBudgetSettings:
    """Every carbon budget. ``tenants``: those that have accounts of their own, whoever else
    comes."""

    budgets: tuple[CarbonBudget, ...] = ()
    tenants: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Who may call. ``schema``: as in the file; ``folder``: that its paths are relative to."""

    schema: IdentitySchema = field(default_factory=IdentitySchema)
    folder: Path = Path()

    @property
    def authenticates(self) -> bool:
        """Whether anybody is asked who calls."""
        schema = self.schema
        by_key = schema.keys_file is not None or schema.keys_in_store
        return by_key or schema.jwt is not None or schema.mtls is not None

    @property
    def keys_file(self) -> Path | None:
        """None where there is none."""
        return None if self.schema.keys_file is None else self.folder / self.schema.keys_file


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """A collector of OpenTelemetry. ``endpoint``, ``protocol``, ``headers``, ``service_name``,
    ``sample_ratio``, ``metrics_every_s``: None where the environment says, or nobody. ``tenant``:
    how it is kept."""

    endpoint: str | None
    protocol: str | None
    headers: SecretSpec | None
    timeout_ms: float
    service_name: str | None
    sample_ratio: float | None
    conventions: str
    tenant: str
    queue_spans: int
    traces: bool = True
    metrics: bool = False
    metrics_every_s: float | None = None
    logs: bool = False
    queue_records: int = 2048


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where hints of replicas are sent. ``tls``: None for plaintext."""

    url: str
    timeout_s: float
    max_tries: int
    tls: EndpointTls | None
    credentials: EndpointCredentials | None


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """What is run with hints of replicas."""

    argv: tuple[str, ...]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ScalingSettings:
    """``wake_s``: that a replica is taken to need until it serves, where none was seen."""

    webhook: WebhookSettings | None = None
    command: CommandSettings | None = None
    every_s: float = 60.0
    wake_s: float = 180.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator sets that is neither fleet nor policy. ``clock`` None: the wall.

    ``access``: by address; of endpoints in plaintext and without a key there is none.
    ``exposed``: what strangers can reach because the operator says so, in words.
    ``receipt_signing``: None where receipts are not signed.
    """

    server: ServerSettings
    clock: ClockSettings | None
    carbon: CarbonSettings
    load: LoadSettings
    health: HealthSettings
    retry: RetrySettings
    network_kwh_per_gb: float
    request_file: RequestFileSettings | None = None
    state: StateSettings = StateSettings()
    access: Mapping[str, EndpointAccess] = field(default_factory=dict)
    exposed: tuple[str, ...] = ()
    carbon_budgets: CarbonBudgetSettings = CarbonBudgetSettings()
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    ledger: LedgerSettings | None = None
    discovery: tuple[DiscoverySettings, ...] = ()
    receipt_signing: ReceiptSigning | None = None
    otlp: OtlpSettings | None = None
    deferral: DeferralSettings | None = None
    scaling: ScalingSettings | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """One configuration file as values. ``notes``: legal, but worth an operator's look.

    ``free``: what `tune` may change of the policy, by field, in words; serving does not.
    """

    file: Path
    fleet: Fleet
    policy: Policy
    settings: Settings
    notes: tuple[str, ...]
    free: Mapping[str, str] = field(default_factory=dict)

    @property
    def most_endpoints(self) -> int:
        """As many as there may be, with all that discovery may find."""
        found = sum(one.max_endpoints for one in self.settings.discovery)
        return len(self.fleet.endpoints) + found
