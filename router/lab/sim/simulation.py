"""One simulation as values: fleet, traffic, what the grid really emitted and what was known of it.

Built by ``router.lab.sim.scenario.loading`` from a scenario file; read by the engine, the bound and
the tuner.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from router.carbon.tables.table import TraceTable
from router.config.settings import HealthSettings
from router.lab.sim.traffic.columns import Names, Traffic
from router.model import Fleet, Forecast, Intensity, Policy, Signal


class GridSignal(Protocol):
    """What a router can know of the grid. ``updates``: unix seconds at which it changes."""

    def updates(self, start: float, end: float) -> Iterable[float]:
        """Rising times in [start, end) at which the view changes; the first is ``start``."""
        ...

    def view(self, now: float) -> Mapping[str, Forecast]:
        """By grid zone: hourly slots from the hour containing ``now`` on; nothing published later.

        Called with rising ``now`` only.
        """
        ...


class Workload(Protocol):
    """The requests of a scenario; the same seed gives the same requests every time."""

    names: Names

    def chunks(self) -> Iterable[Traffic]:
        """Consecutive chunks in order of arrival, none empty; a fresh pass at every call."""
        ...


@dataclass(frozen=True, slots=True)
class Outage:
    """Endpoints that are down in [``start_s``, ``end_s``), seconds since the scenario's start.

    Gateways learn of it ``noticed_after_s`` later; what was running there is lost and counted as
    failed, as is what is sent there before it is noticed. ``endpoints``: names.
    """

    endpoints: frozenset[str]
    start_s: float
    end_s: float
    noticed_after_s: float


class ScaledBy(StrEnum):
    """Who says which replicas are released: each by itself, once it is idle, or the hints that a
    gateway gives (`router.app.scaling`)."""

    IDLE = "idle"
    HINTS = "hints"


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """Replicas are released, which then draw ``asleep_w``, and take ``wake_s`` at ``wake_w`` to
    come back. W of the whole server.

    By idleness ``release_after_s`` after their last request ended; the first request on a released
    replica waits until it is awake. By hints once they were not wanted for ``release_after_s`` and
    have ended what they had; gateways send nobody there before they are awake again.
    """

    release_after_s: float
    wake_s: float
    wake_w: float
    by: ScaledBy = ScaledBy.IDLE
    asleep_w: float = 0.0

    @property
    def idle_s(self) -> float:
        """How long a replica idles until it is released for that; inf where it is not."""
        return self.release_after_s if self.by is ScaledBy.IDLE else math.inf

    @property
    def wait_s(self) -> float:
        """The longest that a request waits for its replica to wake."""
        return self.wake_s if self.by is ScaledBy.IDLE else 0.0


@dataclass(frozen=True, slots=True)
class Gateways:
    """Independent gateways; requests go to one of them by the hash of their place in the list.

    Each knows its own requests at once and those of the others from a poll of the endpoints every
    ``staleness_s`` seconds, each gateway at its own phase. ``staleness_s`` 0: always exact.
    ``prefixes``: whether they look at what prompts begin with. ``exchange_s``: between two
    exchanges of each through a store that they share, from which they then know of each other, and
    which divides places among them; 0: they share none.
    """

    count: int
    staleness_s: float
    prefixes: bool = True
    exchange_s: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """Everything that is the same for every policy that is tried.

    ``start``: unix seconds UTC; ``actual``: what each grid zone really emitted, hourly, without a
    gap from ``start`` to ``start + duration_s`` (its last value holds for what still runs then);
    ``policies``: those asked for, baselines not included; ``warm_up_s``: requests before it are
    routed, but not counted. ``path_delay_ms``: by region, what a round trip there takes beyond
    ``fleet.rtt_ms``; no router is told. ``defers``: some requests may wait, until a deadline.
    """

    name: str
    fleet: Fleet
    policies: tuple[Policy, ...]
    health: HealthSettings
    start: float
    duration_s: float
    seed: int
    workload: Workload
    carbon_signal: Signal
    actual: TraceTable
    annual_means: Mapping[str, Intensity]
    signal: GridSignal
    gateways: Gateways
    outages: tuple[Outage, ...]
    autoscaling: Autoscaling | None
    network_kwh_per_gb: float
    warm_up_s: float
    path_delay_ms: Mapping[str, float] = field(default_factory=dict)
    defers: bool = False
