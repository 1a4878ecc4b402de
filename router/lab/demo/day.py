"""The demo's day when it is over: what ran live, what would have run otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from router.config import Config
from router.config.loading import parse_policy
from router.lab.demo.grid import Grid
from router.lab.loopback.client import CallerCounts
from router.lab.loopback.settle import settled
from router.lab.replay.records import FleetEnergy, Record, RecordedRun
from router.lab.replay.replay import Scenario, replay
from router.lab.replay.timed import Period, TimedRequest
from router.model import Fleet, Forecast, Policy, Spread

PRODUCT = "carbon-first"
# What the hour and the packing are worth each, by taking one away.
NO_PACKING = "carbon-first, spread"
NO_HOURS = "static-greenest, packed"
BASELINES = ("latency-first", "least-loaded", "round-robin", "static-greenest")


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """``live``: through the gateway, grams settled at the actual intensity. ``receipts_g``: grams
    as the gateway said at once, ``known_as`` how it knew the grid. ``replays``: every policy in
    virtual time, the product first. ``cpu_s``: CPU seconds by process.
    """

    fleet: Fleet
    period: Period
    requests: Sequence[TimedRequest]
    actual: Mapping[str, Forecast]
    live: RecordedRun
    receipts_g: float
    known_as: str
    replays: Sequence[RecordedRun]
    cpu_s: Mapping[str, float]
    wall_s: float


def settle(
    counts: CallerCounts, offered: int, fleet: Fleet, grid: Grid, period: Period, drawn: FleetEnergy
) -> RecordedRun:
    """The live run with grams at the intensity that really was while each request ran."""
    records = settled(counts.records, fleet, grid.actual, period)
    return RecordedRun(f"{PRODUCT} (live)", offered, tuple(records), dict(counts.refused), drawn)


def replay_all(
    config: Config, requests: Sequence[TimedRequest], period: Period, grid: Grid
) -> list[RecordedRun]:
    """The same requests under the product, the product without its packing or without the hour's
    intensity, and every baseline."""
    scenario = Scenario(
        config.fleet,
        requests,
        period,
        grid.views,
        grid.annual_means,
        grid.actual,
        config.settings.health,
    )
    product = _policy(PRODUCT, config)
    unpacked = replace(product, name=NO_PACKING, spread=Spread.SPREAD)
    hourless = replace(product, name=NO_HOURS, annual_mean=True)
    baselines = (_policy(name, config) for name in BASELINES)
    policies = [product, unpacked, hourless, *baselines]
    return [replay(scenario, policy) for policy in policies]


def _policy(name: str, config: Config) -> Policy:
    schema, _ = parse_policy(name, Path(config.file))
    return schema.build(name, config.settings.carbon.signal)


def by_region(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records grouped by region, every list in the order of the requests."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.region, []).append(record)
    return found


def intensity_range(day: Day, region: str) -> tuple[float, float]:
    """Least and greatest actual intensity of a region's grid zone over the day, g/kWh."""
    forecast = day.actual[day.fleet.regions[region].grid_zone]
    hours = [0.0, *day.period.boundaries()[:-1]]
    values = [forecast.at(day.period.carbon_time(at_s) + 1.0).g_per_kwh for at_s in hours]
    return min(values), max(values)


def saving(product: float, baseline: float) -> float:
    """Fraction of ``baseline`` that ``product`` avoids; negative where it costs more."""
    return 1.0 - product / baseline
