"""What `check` and `explain` do: the same objects as `serve`, without its sockets."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from router.app.carbon.build import configured_carbon, coverage, grid_zones
from router.app.carbon.chains import CarbonChains
from router.app.carbon.live import ProviderDeps, Sessions
from router.app.compose import build_board, build_clock, build_rng, build_view
from router.app.ledger import require_ledger
from router.app.loading import load
from router.app.shared_state import build_store, try_store
from router.app.tracing import require_otlp
from router.app.trust import Trust
from router.carbon.chain.attempt import SourceAttempt
from router.config.settings import Config, RedisAddress
from router.contract import Clock, StateStore
from router.core.columns import is_stale
from router.core.explanation import Explanation
from router.core.explanation import explain as explain_request
from router.core.layout import Layout
from router.core.lengths import LengthModel
from router.errors import ConfigError, StateStoreError
from router.model import Intensity, Request
from router.operator.calls import call_notes, region_notes
from router.operator.grants import identity_notes
from router.operator.weather import weather_notes
from router.units import DAY_S, network_j


class Explained(NamedTuple):
    """A decision's reasons, and the carbon data behind them by grid zone.

    ``attempts``: who was asked, and how it went. ``marginal``: reported beside, never decided by.
    """

    explanation: Explanation
    attempts: Mapping[str, tuple[SourceAttempt, ...]]
    marginal: Mapping[str, Intensity]


def check(config_path: Path) -> list[str]:
    """Validate a configuration and the data it names. Returns notes: legal, but worth a look.

    Neither a live provider is asked, nor for weather, nor what gateways share. Raises ConfigError,
    and TraceError for a table of carbon or weather.
    """
    config = load(config_path)
    clock = build_clock(config.settings.clock)
    notes = Trust(config, build_clock(None), os.environ).summary()
    build_store(config, clock, "", os.environ)
    carbon = configured_carbon(
        config, clock.now(), provider_deps(clock, config.settings.server.workers)
    )
    zones = grid_zones(config.fleet)
    covered = coverage(carbon.sources, zones)
    notes += [f"{zone}: known to {', '.join(names)}" for zone, names in covered.items()]
    notes += identity_notes(config)
    require_ledger(config)
    require_otlp(config, os.environ)
    notes += _settling_notes(config, carbon)
    notes += weather_notes(config, carbon.forecaster, clock.now())
    if carbon.live:
        notes += region_notes(config, carbon)
        notes += call_notes(config, carbon)
        return [*notes, *config.notes]
    now = clock.now()
    asyncio.run(carbon.chain.refresh(zones, now))
    return [*notes, *config.notes, *_carbon_notes(config, carbon, now)]


def _settling_notes(config: Config, carbon: CarbonChains) -> list[str]:
    ledger = config.settings.ledger
    if ledger is None or ledger.settle_every_s is None:
        return []
    asked = ", ".join(dict.fromkeys(spec.name for spec in carbon.live))
    rounds = math.ceil(DAY_S / ledger.settle_every_s)
    calls = f"each asks {asked} for up to 30 days, beside their limits" if asked else "no calls"
    return [f"ledger.settle: {rounds} rounds a day, {calls}"]


def check_store(config_path: Path) -> str:
    """Ask the store that ``state.redis`` names for all that a gateway does; a note of how it went.

    Raises ConfigError where it cannot be had, or none is named.
    """
    config = load(config_path)
    clock, identity = build_clock(config.settings.clock), f"check-{secrets.token_hex(5)}"
    store = build_store(config, clock, identity, os.environ)
    redis = config.settings.state.redis
    if store is None or redis is None:
        raise ConfigError(str(config_path), [("state.redis", "is not given: there is no store")])
    began = clock.monotonic()
    try:
        asyncio.run(_try_and_close(store, identity, clock.now()))
    except StateStoreError as error:
        asked = f"{error} ({_place_of(redis.address)})"
        raise ConfigError(str(config_path), [("state.redis", asked)]) from None
    took_ms = 1e3 * (clock.monotonic() - began)
    return f"state.redis: the store answers, {took_ms:.0f} ms for all that a gateway asks of it"


def _place_of(address: RedisAddress) -> str:
    """Where it is looked for; without users and passwords."""
    return address.path or ", ".join(f"{host}:{port}" for host, port in address.hosts)


async def _try_and_close(store: StateStore, identity: str, now: float) -> None:
    try:
        await try_store(store, identity, now)
    finally:
        await store.close()


def provider_deps(clock: Clock, processes: int = 1) -> ProviderDeps:
    """What live providers need, on a session that is not open yet; keys are in the environment."""
    return ProviderDeps(clock, build_rng(), os.environ, Sessions(), processes)


def explain(config_path: Path, request: Request, at: float | None) -> Explained:
    """Rank every candidate for ``request`` at ``at`` (unix s; None: the configured clock's now).

    No load is known to a process that serves nothing: every replica is taken as idle and healthy.
    Live providers are asked, once. Raises ConfigError, TraceError and RequestError leaves.
    """
    config = load(config_path)
    clock = build_clock(config.settings.clock)
    now = clock.now() if at is None else at
    deps = provider_deps(clock)
    carbon = configured_carbon(config, now, deps)
    if carbon.live and at is not None:
        fix = "answers for now only; leave --at out, or explain with a trace"
        raise ConfigError(str(config_path), [(carbon.live[0].at, fix)])
    zones = grid_zones(config.fleet)
    asyncio.run(_refresh_once(carbon, zones, now, deps.sessions))
    layout = Layout(config.fleet)
    view = build_view(config, layout, build_board(config, layout), carbon.chain, now, 1)
    layout.find(request.model, request.version)
    lengths = LengthModel(config.fleet.priors, config.policy.quantile)
    expected = lengths.expect(
        request.model, request.tenant, request.input_tokens, request.max_output_tokens
    )
    carried_j = network_j(request.payload_bytes, config.settings.network_kwh_per_gb)
    explanation = explain_request(
        request, view.snapshot, view.board, expected, now, build_rng(0), carried_j
    )
    return Explained(explanation, carbon.attempts(), carbon.marginals(zones, now))


async def _refresh_once(
    carbon: CarbonChains, zones: list[str], now: float, sessions: Sessions
) -> None:
    try:
        await carbon.refresh(zones, now)
    finally:
        await sessions.close()


def _carbon_notes(config: Config, carbon: CarbonChains, now: float) -> list[str]:
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
