"""What `check` and `explain` do: the same objects as `serve`, without sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

from router.app.compose import (
    Carbon,
    build_board,
    build_carbon,
    build_clock,
    build_rng,
    build_view,
    coverage,
    grid_zones,
)
from router.config import load
from router.config.settings import Config
from router.core.columns import is_stale
from router.core.energy import J_PER_KWH
from router.core.explanation import Explanation
from router.core.explanation import explain as explain_request
from router.core.layout import Layout
from router.core.lengths import LengthModel
from router.errors import ConfigError
from router.model import Request


def check(config_path: Path) -> list[str]:
    """Validate a configuration and the data it names. Returns notes: legal, but worth a look.

    Raises ConfigError, and TraceError for a carbon table.
    """
    config = load(config_path)
    now = build_clock(config.settings.clock).now()
    carbon = build_carbon(config.settings.carbon, now)
    require_coverage(config, carbon)
    asyncio.run(carbon.chain.refresh(grid_zones(config.fleet), now))
    covered = coverage(carbon.sources, grid_zones(config.fleet))
    return [
        *(f"{zone}: known to {', '.join(names)}" for zone, names in covered.items()),
        *config.notes,
        *_carbon_notes(config, carbon, now),
    ]


def require_coverage(config: Config, carbon: Carbon) -> None:
    """Raises ConfigError naming every region whose grid zone no configured source knows."""
    covered = coverage(carbon.sources, grid_zones(config.fleet))
    problems = [
        (
            f"regions.{region.name}.grid_zone",
            f"no carbon source knows {region.grid_zone!r}; add a trace with that column, or its "
            "annual mean under a static source's g_per_kwh",
        )
        for region in config.fleet.regions.values()
        if not covered[region.grid_zone]
    ]
    if problems:
        raise ConfigError(str(config.file), problems)


def explain(config_path: Path, request: Request, at: float | None) -> Explanation:
    """Rank every candidate for ``request`` at ``at`` (unix s; None: the configured clock's now).

    No load is known to a process that serves nothing: every replica is taken as idle and healthy.
    Raises ConfigError, TraceError and RequestError leaves.
    """
    config = load(config_path)
    now = build_clock(config.settings.clock).now() if at is None else at
    carbon = build_carbon(config.settings.carbon, now)
    require_coverage(config, carbon)
    asyncio.run(carbon.chain.refresh(grid_zones(config.fleet), now))
    layout = Layout(config.fleet)
    view = build_view(config, layout, build_board(config, layout), carbon.chain, now, 1)
    layout.find(request.model, request.version)
    lengths = LengthModel(config.fleet.priors, config.policy.quantile)
    expected = lengths.expect(
        request.model, request.tenant, request.input_tokens, request.max_output_tokens
    )
    network_j = request.payload_bytes / 1e9 * config.settings.network_kwh_per_gb * J_PER_KWH
    return explain_request(
        request, view.snapshot, view.board, expected, now, build_rng(0), network_j
    )


def _carbon_notes(config: Config, carbon: Carbon, now: float) -> list[str]:
    zones = grid_zones(config.fleet)
    known = carbon.chain.view(zones, now, 1)
    notes = []
    for zone in zones:
        forecast = known.get(zone)
        if forecast is None:
            notes.append(f"{zone}: no source has a value for it now; it would be excluded")
            continue
        current = forecast.at(now)
        if is_stale(config.policy, current, now):
            notes.append(
                f"{zone}: the best value now is {current.g_per_kwh:.0f} g/kWh, {current.kind} "
                f"from {current.source}: stale by the policy, {config.policy.stale_carbon}"
            )
    return notes
