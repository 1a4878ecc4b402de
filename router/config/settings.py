"""What an operator sets beside the fleet and the policy, as frozen values with units in names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from router.config.live import LiveSchema
from router.model import Fleet, Kind, Policy, Signal


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The gateway's own sockets and limits. ``listen``/``admin``: ``host:port``.

    ``max_buffered_mib``, ``max_requests`` and ``max_connections``: of one process;
    ``max_streams``: of one connection.
    ``frozen_after_s``: None for 5 s where there are workers, which are replaced at once, and 30 s
    for a process alone, which somebody else has to start again.
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


class SecretSpec(NamedTuple):
    """Where a key is to be read from: an environment variable or a file, never both."""

    env: str = ""
    file: Path | None = None


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


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator sets that is neither fleet nor policy. ``clock`` None: the wall."""

    server: ServerSettings
    clock: ClockSettings | None
    carbon: CarbonSettings
    load: LoadSettings
    health: HealthSettings
    retry: RetrySettings
    network_kwh_per_gb: float
    request_file: RequestFileSettings | None = None


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
