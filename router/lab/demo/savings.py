"""What the demo's policy saves against every baseline, and what by: replayed, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from router.config import Config
from router.lab.demo import fleet as demo_fleet
from router.lab.demo.day import policies_of, replay_all
from router.lab.demo.grid import Grid
from router.lab.replay.records import RecordedRun
from router.lab.replay.timed import Period
from router.lab.study.attribution import SplitFigures, SplitRuns, split
from router.lab.study.causes import Levers, PolicyVariant, chains_of


def split_day(
    config: Config, period: Period, grid: Grid, first: Sequence[RecordedRun], seeds: range
) -> dict[str, Any]:
    """The savings by baseline and cause (`router.lab.study.attribution.split`).

    ``first``: the replays under the first of ``seeds``. Every further one makes up other requests.
    """
    by_seed = [{run.policy: figures(run) for run in first}]
    for seed in seeds[1:]:
        requests = demo_fleet.traffic(config.fleet.priors, period, seed)
        runs = replay_all(config, requests, period, grid, seed)
        by_seed.append({run.policy: figures(run) for run in runs})

    def of(variant: PolicyVariant, number: int) -> SplitFigures:
        return by_seed[number][variant.policy.name]

    product, *baselines = policies_of(config)
    chains = chains_of([product], baselines, Levers(releases=False))
    return split(chains, SplitRuns(of, len(seeds), scaled=False))


def figures(run: RecordedRun) -> SplitFigures:
    """Idle replicas are kept on, as they were."""
    summary = run.summary()
    done = summary.completed
    return SplitFigures(
        run.fleet.total_g / done if run.fleet is not None and done else math.nan,
        summary.g_per_request,
        done / summary.offered if summary.offered else math.nan,
        summary.met,
        summary.tpot_p50_ms,
        summary.tpot_p95_ms,
    )
