"""A small, finished day for the tests of what is shown of it."""

from dataclasses import replace

from router.app.loading import load
from router.lab.demo import fleet as demo_fleet
from router.lab.demo.day import Day, replay_all
from router.lab.demo.grid import replay_sources
from router.lab.demo.savings import split_day

SECONDS = 6.0


def write_config(tmp_path, seconds=SECONDS):
    count = demo_fleet.endpoint_count()
    ports = list(range(20000, 20000 + count))
    return demo_fleet.write(tmp_path, demo_fleet.document(ports, 19001, 19002, 19003, seconds))


async def small_day(tmp_path):
    """The demo's fleet and grid, 6 s of it; the replayed product stands in for the live run."""
    config = load(write_config(tmp_path))
    period = demo_fleet.period(SECONDS)
    grid = await replay_sources(config, period)
    requests = demo_fleet.traffic(config.fleet.priors, period, seed=1)
    replays = replay_all(config, requests, period, grid, seed=1)
    live = replace(replays[0], policy="carbon-first (live)")
    return Day(
        fleet=config.fleet,
        period=period,
        requests=requests,
        actual=grid.actual,
        views=grid.views,
        live=live,
        receipts_g=live.summary().gco2e * 1.02,
        known_as="forecast",
        replays=replays,
        splits=split_day(config, period, grid, replays, range(1, 3)),
        seeds=2,
        cpu_s={"gateway": 1.5, "callers": 0.5},
        wall_s=SECONDS,
    )
