"""The grid of the demo's day: what a router could know at each refresh, and what really was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from router.app.carbon.build import build_carbon, grid_zones
from router.carbon.tables.table import read_table
from router.config.settings import Config, TraceSpec
from router.lab.loopback.settle import actual
from router.lab.replay.replay import CarbonView
from router.lab.replay.timed import Period
from router.model import Forecast, Intensity
from router.units import HOUR_S

HOURS_AHEAD = 24


class Grid(NamedTuple):
    """``views``: what was known, refresh by refresh. ``actual``: what was, per grid zone."""

    views: Sequence[CarbonView]
    annual_means: Mapping[str, Intensity]
    actual: Mapping[str, Forecast]


async def replay_sources(config: Config, period: Period) -> Grid:
    """Play the configured sources as a gateway hears them: no value before it was published.

    The first source must be a trace; it is also what really was.
    """
    settings = config.settings.carbon
    zones = grid_zones(config.fleet)
    chain = build_carbon(settings, period.carbon_start).chain
    views = []
    at_s = 0.0
    while at_s < period.seconds:
        now = period.carbon_time(at_s)
        await chain.refresh(zones, now)
        views.append(CarbonView(at_s, chain.view(zones, now, HOURS_AHEAD)))
        # As the gateway does: at the latest just past the hour.
        to_the_hour_s = (HOUR_S - now % HOUR_S) / period.speed
        at_s += min(settings.refresh_s, to_the_hour_s + 0.01)
    means = {zone: mean for zone in zones if (mean := chain.annual_mean(zone)) is not None}
    trace = settings.sources[0]
    assert isinstance(trace, TraceSpec)
    table = read_table(trace.file, settings.signal.factors, trace.hour_ending, zones)
    return Grid(views, means, actual(table, zones, settings.signal))
