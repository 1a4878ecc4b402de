"""What a configuration with live providers will do: who answers for whom, and how many calls."""

from __future__ import annotations

import math

from router.app.carbon.build import grid_zones
from router.app.carbon.chains import CarbonChains, ConfiguredSource
from router.app.carbon.live import calls_per_hour
from router.carbon.chain.chain import SourceOrder
from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import StaticSource
from router.config.live import LimitSchema
from router.config.settings import Config, LiveSpec
from router.units import HOUR_S

_DAY_H = 24


def region_notes(config: Config, carbon: CarbonChains) -> list[str]:
    """Per region: who measures, who forecasts, who stands in, what is reported beside."""
    notes = []
    for region in config.fleet.regions.values():
        zone = region.grid_zone
        order = carbon.orders[zone]
        standing = [
            m.source.name
            for m in carbon.members
            if isinstance(m.source, Climatology | StaticSource) and m.source.name in order.measured
        ]
        measured = [name for name in order.measured if name not in standing]
        parts = [
            f"measured: {_then(measured) or 'nobody'}",
            f"forecast: {_then([*order.forecast, 'own']) if measured else _then(order.forecast)}",
        ]
        parts.append(f"else {_then(standing)}" if standing else "else nothing")
        if carbon.marginal is not None:
            beside = carbon.marginal_orders[zone].measured
            parts.append(f"marginal beside: {_then(beside) or 'nobody'}")
        notes.append(f"regions.{region.name} ({zone}): {'; '.join(parts)}")
        if not standing:
            notes.append(
                f"{zone}: if its providers are silent for long, nothing stands in and it would be "
                "excluded; give its annual mean under a static source's g_per_kwh"
            )
    return notes


def call_notes(config: Config, carbon: CarbonChains) -> list[str]:
    """Per live provider: calls an hour and a day at most, beside its limit."""
    zones = grid_zones(config.fleet)
    shares = config.settings.state.redis is not None
    workers = 1 if shares else config.settings.server.workers
    each = f" by {workers} workers" if workers > 1 else ""
    if shares:
        each = " by all gateways together"
    notes = []
    for members, by_zone in (
        (carbon.members, carbon.orders),
        (carbon.marginal_members, carbon.marginal_orders),
    ):
        for member in members:
            if isinstance(member.spec, LiveSpec):
                orders = [by_zone[zone] for zone in zones]
                notes += _calls(member, member.spec, orders, workers, each)
    return notes


def _calls(
    member: ConfiguredSource, spec: LiveSpec, orders: list[SourceOrder], workers: int, each: str
) -> list[str]:
    """``each``: who makes them, where that is more than one process."""
    if member.provider is None:
        return []
    measured = sum(member.source.name in order.measured for order in orders)
    ahead = sum(member.source.name in order.forecast for order in orders)
    hourly = workers * calls_per_hour(spec, member.provider, measured, ahead)
    if not hourly:
        return [f"{member.name}: not asked for any region"]
    limits = " and ".join(f"{one.calls} in {one.per_s:g} s" for one in spec.schema.limits)
    text = (
        f"{member.name}: at most about {math.ceil(hourly * _DAY_H)} calls a day, "
        f"{hourly:.1f} an hour"
        f"{each}; limit: {limits or 'none'}"
    )
    if any(hourly > _an_hour(one) for one in spec.schema.limits):
        return [
            f"{text}: over it, so values will be older; raise {spec.at}.limits as far as your plan "
            "allows, or ask for fewer grid zones"
        ]
    return [text]


def _an_hour(limit: LimitSchema) -> float:
    return limit.calls * HOUR_S / limit.per_s


def _then(names: list[str] | tuple[str, ...]) -> str:
    return ", then ".join(names)
