"""Configuration -> objects, but for carbon (`router.app.carbon.build`)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from router.app.carbon.build import grid_zones
from router.backends.oip.backend import ChannelOptions, GrpcBackend
from router.backends.openai.backend import HttpBackend
from router.backends.openai.pool import HttpOptions
from router.carbon.chain.chain import CarbonChain
from router.clock import ReplayClock, WallClock
from router.config.settings import ClockSettings, Config, ServerSettings, Settings
from router.contract import Upstream
from router.core.board import Board
from router.core.columns import build_snapshot
from router.core.latency import z_of
from router.core.layout import Layout
from router.core.rungs import CI_HOURS
from router.director import RequestLimits, View
from router.load.answers import ServerReports
from router.load.usage import HttpReports
from router.model import Intensity
from router.trust.access import AccessTable

# Without a deadline a call to a server that hangs would hold its place for ever.
NO_DEADLINE_TIMEOUT_S = 900.0
# The coming hours that WatchRegions and the kernel's longest run may want.
VIEW_HOURS = 24


def build_clock(settings: ClockSettings | None) -> WallClock:
    """The wall, or a replay of another day."""
    return ReplayClock(settings.start, settings.speed) if settings else WallClock()


def build_view(
    config: Config,
    layout: Layout,
    board: Board,
    chain: CarbonChain,
    now: float,
    version: int,
    marginal: CarbonChain | None = None,
) -> View:
    """A snapshot of what the chain knows at ``now``, beside the live board and ``marginal``."""
    zones = grid_zones(config.fleet)
    snapshot = build_snapshot(
        layout,
        config.policy,
        chain.view(zones, now, max(VIEW_HOURS, CI_HOURS)),
        _known(zones, chain),
        now,
        version,
    )
    if marginal is None:
        return View(snapshot, board)
    beside = marginal.view(zones, now, 1)
    return View(snapshot, board, {zone: view.at(now) for zone, view in beside.items()})


def build_board(config: Config, layout: Layout, previous: Board | None = None) -> Board:
    """Live columns for a layout, taking over the seats of the board before a reload."""
    policy = config.policy
    z, tpot_z = z_of(policy.quantile), z_of(policy.tpot_quantile)
    return Board(layout, config.settings.health, z, previous, tpot_z)


def build_upstreams(
    settings: ServerSettings,
    on_malformed: Callable[[], None],
    access: AccessTable | None = None,
) -> dict[str, Upstream]:
    """How endpoints are reached, by the protocols that ``endpoints[].protocol`` may name.

    ``on_malformed``: told of an unusable load report. ``access``: TLS and keys by address. Build it
    inside a running event loop.
    """
    most_bytes = settings.max_message_mib * 2**20
    leave_s = NO_DEADLINE_TIMEOUT_S
    oip = GrpcBackend(ChannelOptions(max_message_bytes=most_bytes, leave_s=leave_s), access)
    openai = HttpBackend(HttpOptions(max_message_bytes=most_bytes, leave_s=leave_s), access)
    return {
        "oip": Upstream(oip, ServerReports(on_malformed)),
        # A stream's report is a field of its head.
        "openai": Upstream(openai, HttpReports(on_malformed), reports_first=True, catalogue=openai),
    }


def build_limits(settings: Settings) -> RequestLimits:
    """Bounds of one request's story."""
    return RequestLimits(
        max_attempts=settings.retry.max_attempts,
        timeout_s=NO_DEADLINE_TIMEOUT_S,
        margin_s=settings.server.deadline_margin_ms / 1e3,
        kwh_per_gb=settings.network_kwh_per_gb,
        max_wait_s=settings.server.max_wait_ms / 1e3,
    )


def build_rng(seed: int | None = None) -> random.Random:
    """Randomness for draws among near-ties and jitter; nothing secret depends on it."""
    return random.Random(seed)


def _known(zones: Sequence[str], chain: CarbonChain) -> dict[str, Intensity]:
    means = {zone: chain.annual_mean(zone) for zone in zones}
    return {zone: mean for zone, mean in means.items() if mean is not None}
