"""The demo's day when it is over: what ran live, what would have run otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.config import Config
from router.config.loading import parse_policy
from router.lab.demo.grid import Grid
from router.lab.loopback.client import CallerCounts
from router.lab.loopback.settle import settled
from router.lab.replay.records import FleetEnergy, Record, RecordedRun
from router.lab.replay.replay import CarbonView, Scenario, replay
from router.lab.replay.timed import Period, TimedRequest
from router.lab.sim.scenario.assemble import BASELINES
from router.model import Fleet, Forecast, Policy

PRODUCT = "carbon-first"


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """``actual``: intensities that really were, by grid zone; ``views``: what was known of them.
    ``live``: through the gateway, grams settled at the actual intensity. ``receipts_g``: grams
    as the gateway said at once, ``known_as`` how it knew the grid. ``replays``: every policy in
    virtual time, the product first. ``splits``: what the product saves against each baseline, by
    cause, over ``seeds`` seeds. ``cpu_s``: CPU seconds by process.
    """

    fleet: Fleet
    period: Period
    requests: Sequence[TimedRequest]
    actual: Mapping[str, Forecast]
    views: Sequence[CarbonView]
    live: RecordedRun
    receipts_g: float
    known_as: str
    replays: Sequence[RecordedRun]
    splits: Mapping[str, Any]
    seeds: int
    cpu_s: Mapping[str, float]
    wall_s: float


def settle(
    counts: CallerCounts, offered: int, fleet: Fleet, grid: Grid, period: Period, drawn: FleetEnergy
) -> RecordedRun:
    """The live run with grams at the intensity that really was while each request ran."""
    records = settled(counts.records, fleet, grid.actual, period)
    return RecordedRun(f"{PRODUCT} (live)", offered, tuple(records), dict(counts.refused), drawn)


def replay_all(
    config: Config, requests: Sequence[TimedRequest], period: Period, grid: Grid, seed: int = 0
) -> list[RecordedRun]:
    """The same requests under the product and every baseline. ``seed``: of near-ties drawn."""
    scenario = Scenario(
        config.fleet,
        requests,
        period,
        grid.views,
        grid.annual_means,
        grid.actual,
        config.settings.health,
    )
    return [replay(scenario, policy, seed) for policy in policies_of(config)]


def policies_of(config: Config) -> list[Policy]:
    """The product, then every baseline."""
    return [_policy(name, config) for name in (PRODUCT, *BASELINES)]


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
