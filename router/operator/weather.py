"""What a configuration's weather is worth a look for, and whether it can be had."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from router.app.carbon.build import grid_zones
from router.app.carbon.live import ProviderDeps, Sessions, wants
from router.app.carbon.weather import WeatherSources, weather_sources
from router.app.compose import build_clock, build_rng
from router.app.loading import load
from router.carbon.forecast import Nowcast
from router.carbon.forecast.design import WEEK_H
from router.carbon.forecast.weather import STALE_H
from router.carbon.providers.provider import Want
from router.carbon.weather.conditions import WeatherForecast
from router.carbon.weather.open_meteo import NAME
from router.config import CarbonSettings, LiveSpec, TraceSpec, format_time
from router.config.settings import Config, WeatherSpec
from router.errors import ConfigError
from router.model import Kind
from router.units import DAY_S, HOUR_S

_OBSERVED: Final = frozenset({Kind.MEASURED, Kind.ESTIMATED})


def weather_notes(config: Config, forecaster: Nowcast | None, now: float) -> list[str]:
    """What was read of the file, how many calls there will be, and which grid zones have none.

    ``forecaster``: with the file read, as `configured_carbon` leaves it. Nobody is asked.
    """
    spec = config.settings.carbon.weather
    if spec is None or forecaster is None:
        return []
    zones = grid_zones(config.fleet)
    points = spec.schema.points
    known = {zone: forecaster.weather(zone) for zone in zones}
    notes = [_told(zone, forecast, now) for zone, forecast in known.items() if forecast is not None]
    notes += _call_notes(config, spec, zones)
    without = [zone for zone in zones if known[zone] is None and zone not in points]
    if without:
        notes.append(f"weather: none for {', '.join(without)}: forecast from the past alone")
    if not _is_observed(config.settings.carbon):
        notes.append(
            "weather: no source of carbon observes intensities, and there is no carbon.history: it "
            "corrects nothing; add a live source or a trace"
        )
    return notes


def _is_observed(carbon: CarbonSettings) -> bool:
    """Whether the forecaster ever learns an intensity that it could correct by weather."""
    if carbon.history is not None:
        return True
    return any(
        source.kind in _OBSERVED
        if isinstance(source, TraceSpec)
        else isinstance(source, LiveSpec) and Want.LATEST in wants(source)
        for source in carbon.sources
    )


def _told(zone: str, forecast: WeatherForecast, now: float) -> str:
    """What was said of a grid zone's weather, and whether it is any use now."""
    begin, end = (format_time(hour * HOUR_S) for hour in (forecast.first_h, forecast.end_h))
    text = f"{forecast.source}: {zone} from {begin} to {end}"
    gaps = int(np.isnan(forecast.values).any(axis=1).sum())
    if gaps:
        text += f", {gaps} of {len(forecast.values)} hours not known in full"
    origin_h = math.floor(now / HOUR_S)
    old_h = origin_h - forecast.issued_at / HOUR_S
    if old_h > STALE_H:
        return (
            f"{text}; written {format_time(forecast.issued_at)}, more than {STALE_H} h ago: it "
            "corrects nothing; write it anew"
        )
    if forecast.end_h <= origin_h:
        return f"{text}: no hour ahead of now, {format_time(now)}: it corrects nothing"
    week = np.full((WEEK_H, 1), np.nan)
    places = np.arange(origin_h - WEEK_H, origin_h) - forecast.first_h
    held = (places >= 0) & (places < len(forecast.values))
    week[held, 0] = forecast.values[places[held]].sum(axis=1)
    lacking = int(np.isnan(week).sum())
    if lacking:
        return (
            f"{text}: {lacking} hours of the seven days before now are not known, which what is "
            "ahead is held against: it corrects nothing"
        )
    return text


def _call_notes(config: Config, spec: WeatherSpec, zones: Sequence[str]) -> list[str]:
    points, limit = spec.schema.points, spec.schema.calls_per_h
    strange = sorted(set(points) - set(zones))
    notes = []
    if strange:
        notes.append(
            f"carbon.weather.points: no region is in {', '.join(strange)}: not asked for; grid "
            f"zones of the fleet: {', '.join(zones)}"
        )
    asked = sum(len(points[zone]) for zone in zones if zone in points)
    if not asked:
        return notes
    shares = config.settings.state.redis is not None
    workers = 1 if shares else config.settings.server.workers
    each = " by all gateways together" if shares else f" by {workers} workers" * (workers > 1)
    hourly = workers * asked * HOUR_S / spec.schema.refresh_s
    text = (
        f"{NAME}: about {math.ceil(hourly * DAY_S / HOUR_S)} calls a day, {hourly:.1f} an hour"
        f"{each}; limit: {limit} an hour"
    )
    if hourly > limit:
        text += (
            ": over it, so weather will be older; raise carbon.weather.calls_per_h as far as your "
            "plan allows, or refresh_s, or name fewer points"
        )
    return [*notes, text]


def check_weather(config_path: Path) -> list[str]:
    """Read the file and ask for every point of the fleet's grid zones, once; notes of how it went.

    Raises ConfigError where any of it cannot be had, or none is named, and TraceError.
    """
    config = load(config_path)
    spec, zones = config.settings.carbon.weather, grid_zones(config.fleet)
    if spec is None:
        raise ConfigError(str(config_path), [("carbon.weather", "is not given: there is none")])
    clock, forecaster = build_clock(config.settings.clock), Nowcast()
    deps = ProviderDeps(clock, build_rng(), os.environ, Sessions())
    sources = weather_sources(spec, forecaster, zones, deps)
    if sources is None:
        return []
    now, began = clock.now(), clock.monotonic()
    asyncio.run(_ask(sources, zones, now, deps.sessions))
    took_ms = 1e3 * (clock.monotonic() - began)
    failed = [
        ("carbon.weather", f"{zone}: {attempt.source}: {attempt.why}")
        for zone, attempts in sources.attempts.items()
        for attempt in attempts
        if not attempt.ok
    ]
    if failed:
        raise ConfigError(str(config_path), failed)
    found = {zone: forecaster.weather(zone) for zone in zones}
    notes = [_told(zone, one, now) for zone, one in found.items() if one is not None]
    if any(zone in spec.schema.points for zone in zones):
        notes.append(f"{NAME}: answers, {took_ms:.0f} ms for all points")
    return notes


async def _ask(
    sources: WeatherSources, zones: Sequence[str], now: float, sessions: Sessions
) -> None:
    try:
        await sources.refresh(zones, now)
    finally:
        await sessions.close()
