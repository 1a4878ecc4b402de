"""What an operator sets beside the fleet and the policy, as frozen values with units in names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from router.model import Fleet, Kind, Policy, Signal


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The gateway's own sockets and limits. ``listen``/``admin``: ``host:port``."""

    listen: str
    admin: str
    workers: int
    max_message_mib: int
    drain_s: float
    deadline_margin_ms: float


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


@dataclass(frozen=True, slots=True)
class ClimatologySpec:
    """The month-by-hour means that ship with the package (average, lifecycle)."""


@dataclass(frozen=True, slots=True)
class StaticSpec:
    """Annual means: the operator's own by grid zone, over the shipped table where comparable.

    ``shipped_table``: false when the configured signal is not average/lifecycle, which is what
    the shipped annual means are.
    """

    g_per_kwh: dict[str, float]
    shipped_table: bool


SourceSpec = TraceSpec | ClimatologySpec | StaticSpec


@dataclass(frozen=True, slots=True)
class CarbonSettings:
    """Where carbon intensity comes from; ``sources`` in order of preference, never empty."""

    signal: Signal
    refresh_s: float
    sources: tuple[SourceSpec, ...]


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How model servers are asked for their load."""

    scrape_s: float
    stale_after_s: float
    timeout_ms: float


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """Outlier ejection: when an endpoint is taken out, for how long, and when it is tried again."""

    probe_s: float
    consecutive_failures: int
    failure_percentage: float
    min_requests: int
    base_ejection_s: float
    max_ejection_s: float
    max_ejected_fraction: float
    busy_s: float


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """Retries and their throttle (gRFC A6: a failure costs a token, a success earns a fraction)."""

    max_attempts: int
    throttle_tokens: float
    token_ratio: float


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


@dataclass(frozen=True, slots=True)
class Config:
    """One configuration file as values. ``notes``: legal, but worth an operator's look."""

    file: Path
    fleet: Fleet
    policy: Policy
    settings: Settings
    notes: tuple[str, ...]
