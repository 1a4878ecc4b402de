import asyncio
import json
from dataclasses import replace

import pytest
from rich.console import Console

from router.lab.demo import report
from router.lab.demo.day import intensity_range
from router.lab.demo.plot import draw
from router.lab.sim.scenario.assemble import BASELINES
from tests.lab.demo.days import small_day


def printed(what):
    console = Console(width=140, no_color=True)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    return asyncio.run(small_day(tmp_path_factory.mktemp("day")))


def test_the_report_says_what_is_wanted(day):
    text = printed(report.render(day))
    for name in day.fleet.regions:
        assert name in text
    assert all(name in text for name in BASELINES)
    assert "What carbon-first saves, and what by (emulated, replayed; mean of 2 seeds" in text
    assert "which model: no aliases in this scenario" in text and "packing" in text and "±" in text
    assert "emulated servers" in text and "replayed in virtual time" in text
    assert "The same question by place and hour" in text
    assert "Under latency-first (replayed) the same questions emit" in text
    assert "Receipts said" in text and "(+2.0%)" in text
    assert "An hour of the grid lasts 0.2 s here" in text
    assert "nan" not in text


def test_hours_that_are_long_enough_need_no_word(day):
    slow = replace(day, period=replace(day.period, seconds=86_400.0, speed=1.0))
    assert "An hour of the grid lasts" not in " ".join(report._short_hours(slow))


def test_refusals_and_unequal_work_are_shown(day):
    live = replace(day.live, refused={"shed": 3})
    at = [run.policy for run in day.replays].index("latency-first")
    lazy = replace(day.replays[at], records=day.replays[at].records[:10])
    day = replace(day, live=live, replays=[*day.replays[:at], lazy, *day.replays[at + 1 :]])
    text = printed(report.render(day))
    assert "Refused live: 3 shed" in text
    assert "latency-first answered 10" in text and "not the same work" in text


def test_a_day_without_answers_still_reports(day):
    day = replace(day, live=replace(day.live, records=(), fleet=None), receipts_g=0.0)
    text = printed(report.render(day))
    assert "No request was answered" in text
    assert report.as_json(day)["runs"][0]["e2e_p95_ms"] is None


def test_the_figures_are_valid_json(day):
    figures = json.loads(json.dumps(report.as_json(day), allow_nan=False))
    assert figures["emulated"] is True
    assert figures["runs"][1]["policy"] == "carbon-first"
    assert set(figures["regions"]) == set(day.fleet.regions)
    assert set(figures["saving_split"]) == set(BASELINES)
    assert figures["runs"][1]["tpot_p50_ms"] > 0.0


def test_the_range_is_that_of_the_day(day):
    # US-CAL-CISO, 2022-05-14T07:00Z to 2022-05-15T06:00Z in demo_grid.csv.
    assert intensity_range(day, "california") == (100.9, 328.6)


def test_the_plot_is_a_picture(day, tmp_path):
    path = draw(day, tmp_path / "demo.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000
