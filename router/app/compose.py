"""Configuration -> objects. Every built-in carbon source is named here and only here."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from router.carbon.chain import CarbonChain
from router.carbon.climatology import Climatology
from router.carbon.forecast import Nowcast
from router.carbon.static import StaticSource
from router.carbon.trace import TraceForecastSource, TraceSource
from router.clock import ReplayClock, WallClock
from router.config.settings import (
    CarbonSettings,
    ClimatologySpec,
    ClockSettings,
    Config,
    Settings,
    TraceSpec,
)
from router.core.board import Board
from router.core.columns import CI_HOURS, build_snapshot
from router.core.latency import z_of
from router.core.layout import Layout
from router.director import Limits, View
from router.model import Fleet, Intensity

# Without a deadline a call to a server that hangs would hold its place for ever.
NO_DEADLINE_TIMEOUT_S = 900.0
# The coming hours that WatchRegions and the kernel's longest run may want.
VIEW_HOURS = 24

Source = TraceSource | TraceForecastSource | Climatology | StaticSource


class Carbon(NamedTuple):
    """The carbon chain of one configuration and the sources behind it, in order."""

    chain: CarbonChain
    sources: tuple[Source, ...]


def build_clock(settings: ClockSettings | None) -> WallClock:
    """The wall, or a replay of another day."""
    return ReplayClock(settings.start, settings.speed) if settings else WallClock()


def build_carbon(settings: CarbonSettings, now: float) -> Carbon:
    """Sources in the operator's order. Raises TraceError, ConfigError, MixedBasisError."""
    sources: list[Source] = []
    climatology: Climatology | None = None
    annual: StaticSource | None = None
    for spec in settings.sources:
        if isinstance(spec, TraceSpec):
            sources.append(
                TraceSource.load(
                    spec.file,
                    signal=settings.signal,
                    kind=spec.kind,
                    lag_s=spec.lag_s,
                    hour_ending=spec.hour_ending,
                )
            )
        elif isinstance(spec, ClimatologySpec):
            climatology = Climatology.load()
            sources.append(climatology)
        else:
            annual = StaticSource.load(settings.signal, spec.g_per_kwh, now)
            sources.append(annual)
    if annual is None:
        # Annual means are what a static policy decides by, whether or not they are a fallback.
        annual = StaticSource.load(settings.signal, {}, now)
    return Carbon(CarbonChain(sources, Nowcast(climatology), annual), tuple(sources))


def grid_zones(fleet: Fleet) -> list[str]:
    """The grid zones that the fleet's regions lie in."""
    return sorted({region.grid_zone for region in fleet.regions.values()})


def build_view(
    config: Config, layout: Layout, board: Board, chain: CarbonChain, now: float, version: int
) -> View:
    """A snapshot of what the chain knows at ``now``, beside the live board."""
    zones = grid_zones(config.fleet)
    snapshot = build_snapshot(
        layout,
        config.policy,
        chain.view(zones, now, max(VIEW_HOURS, CI_HOURS)),
        _known(zones, chain),
        now,
        version,
    )
    return View(snapshot, board)


def build_board(config: Config, layout: Layout, previous: Board | None = None) -> Board:
    """Live columns for a layout, taking over the seats of the board before a reload."""
    return Board(layout, config.settings.health, z_of(config.policy.quantile), previous)


def build_limits(settings: Settings) -> Limits:
    """Bounds of one request's story."""
    return Limits(
        max_attempts=settings.retry.max_attempts,
        timeout_s=NO_DEADLINE_TIMEOUT_S,
        margin_s=settings.server.deadline_margin_ms / 1e3,
        kwh_per_gb=settings.network_kwh_per_gb,
    )


def build_rng(seed: int | None = None) -> random.Random:
    """Randomness for draws among near-ties and jitter; nothing secret depends on it."""
    return random.Random(seed)


def coverage(sources: Sequence[Source], zones: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Per grid zone, the names of the sources that have figures for it, in order."""
    return {
        zone: tuple(source.name for source in sources if zone in source.grid_zones)
        for zone in zones
    }


def _known(zones: Sequence[str], chain: CarbonChain) -> dict[str, Intensity]:
    means = {zone: chain.annual_mean(zone) for zone in zones}
    return {zone: mean for zone, mean in means.items() if mean is not None}
