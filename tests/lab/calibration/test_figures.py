import json
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from router.lab.calibration import EXIT_CODES
from router.lab.calibration.comparison import Comparison, FleetFigures, Side, as_json
from router.lab.calibration.figures import (
    Answers,
    checks,
    figures,
    host_timing,
    loopback,
    rows,
    shortcomings,
)
from router.lab.calibration.report import render
from router.lab.calibration.run import central
from router.lab.replay.timed import Period

REGIONS = ("west", "east")
PUNCTUAL = [900, 60, 39, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]


def answers(west=600, east=400, factor=1.0, slower=1.0, refused=None):
    """Latencies rise evenly to 1000 ms; J and g are the same for every request."""
    count = west + east
    steps = np.linspace(1.0, 1000.0, count) * slower
    each = np.full(count, factor)
    return Answers(
        region=np.array([0] * west + [1] * east),
        ttft_ms=steps / 10.0,
        e2e_ms=steps,
        energy_j=100.0 * each,
        marginal_energy_j=40.0 * each,
        gco2e=0.01 * each,
        met=np.ones(count, bool),
        refused=refused or {},
    )


def comparison(live, draws, offered=1000, lag=PUNCTUAL, cpu=None):
    kept = host_timing(lag, PUNCTUAL, cpu or {"gateway": 0.3})
    found = rows(REGIONS, live, draws)
    fleet = FleetFigures(1e5, 2e4, 10.0, 2.0)
    return Comparison(
        "six", "carbon-first", Period(60.0, 1.65e9, 1440.0), offered, len(draws), tuple(found),
        tuple(checks(REGIONS, live, draws, offered)), tuple(checks(REGIONS, live, draws, offered)),
        loopback([2.0] * 30), Side(live.refused, fleet),
        Side(draws[0].refused, fleet), 9.5, 0.0, kept,
        shortcomings(kept, offered, found[-1]), ("compressed",),
    )  # fmt: skip


def by_name(one):
    return {check.what: check for check in one.checks}


def test_figures_of_a_region_and_of_all():
    whole, west = figures(answers()), figures(answers(), 0)
    assert (whole.answered, whole.share, west.answered, west.share) == (1000, 1.0, 600, 0.6)
    assert whole.e2e_p95_ms == pytest.approx(950.0)
    assert whole.ttft_p50_ms == pytest.approx(50.0)
    assert (whole.energy_j, west.energy_j) == pytest.approx((1e5, 6e4))
    assert whole.gco2e == pytest.approx(10.0)


def test_figures_of_nothing_are_unknown():
    nothing = figures(answers(), 7)
    assert nothing.answered == 0 and math.isnan(nothing.e2e_p95_ms)


def test_equal_sides_are_within():
    one = comparison(answers(), [answers()])
    assert one.verdict == "within" and all(check.difference == 0.0 for check in one.checks)


@pytest.mark.parametrize(
    ("live", "what", "ok"),
    [
        (answers(629, 371), "share of west", True),
        (answers(631, 369), "share of west", False),
        (answers(569, 431), "share of east", False),
        (answers(slower=1.099), "p95 end to end", True),
        (answers(slower=1.101), "p95 end to end", False),
        (answers(slower=0.899), "p95 TTFT", False),
        (answers(factor=1.049), "emissions", True),
        (answers(factor=1.051), "emissions", False),
        (answers(factor=0.949), "energy", False),
        (answers(597, 398), "share answered", True),
        (answers(591, 394), "share answered", False),
    ],
)
def test_each_figure_is_held_to_its_tolerance(live, what, ok):
    one = comparison(live, [answers()])
    assert by_name(one)[what].ok is ok
    assert (one.verdict == "within") is all(check.ok for check in one.checks)


def test_an_unknown_figure_is_outside():
    live = replace(answers(), gco2e=np.full(1000, math.nan))
    one = comparison(live, [answers()])
    assert not by_name(one)["emissions"].ok and one.verdict == "outside"


def test_the_loopbacks_delay_is_the_probes_median_and_needs_enough_of_them():
    assert loopback([9.0, 1.0, 3.0] * 7) == (21, 3.0, 9.0, 3.0)
    assert loopback([3.0] * 19).delay_ms == loopback([-3.0] * 40).delay_ms == 0.0
    few = loopback([])
    assert few.probes == 0 and math.isnan(few.p50_ms) and few.delay_ms == 0.0


def test_both_simulations_are_reported_and_the_one_with_the_loopbacks_delay_judged():
    live = answers(slower=1.2)
    one = replace(comparison(live, [live]), unaware=tuple(checks(REGIONS, live, [answers()], 1000)))
    told = as_json(one)
    assert one.verdict == "within"
    off = {check["what"]: check["ok"] for check in told["checks_without_path_delay"]}
    assert not off["p95 TTFT"] and off["emissions"]
    assert all(check["ok"] for check in told["checks"])
    assert told["loopback"] == {
        "probes": 30, "added_ms_p50": 2.0, "added_ms_p95": 2.0, "simulated_path_delay_ms": 2.0,
    }  # fmt: skip


def test_the_draw_of_the_middle_grams_is_compared():
    draws = [(answers(factor=factor), factor) for factor in (1.2, 0.9, 1.0, 1.1, 0.8)]
    assert [factor for _, factor in central(draws)] == [1.0, 0.8, 0.9, 1.1, 1.2]


def test_draws_give_the_range_and_the_first_one_is_compared():
    one = comparison(answers(), [answers(), answers(620, 380), answers(590, 410)])
    check = by_name(one)["share of west"]
    assert (check.simulated, check.low, check.high) == (0.6, 0.59, 0.62)
    assert one.rows[0].share_range == (0.59, 0.62)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"lag": [0, 0, 0, 0, 0, 900, 100, 0, 0, 0, 0, 0, 0, 0]}, "the callers woke up"),
        ({"lag": []}, "the callers woke up"),
        ({"cpu": {"gateway": 0.93}}, "gateway used 93% of a core"),
        ({"offered": 499}, "499 requests are too few"),
    ],
)
def test_a_machine_that_keeps_no_time_allows_no_conclusion(changes, why):
    """But what agrees nevertheless, agrees."""
    one = comparison(answers(factor=2.0), [answers()], **changes)
    assert one.verdict == "inconclusive" and why in one.shortcomings[0]
    if "offered" not in changes:
        assert comparison(answers(), [answers()], **changes).verdict == "within"


def test_milliseconds_added_to_every_first_token_are_the_machines():
    slow = answers()
    slow = replace(slow, ttft_ms=slow.ttft_ms + 14.0)
    one = comparison(slow, [answers()])
    assert one.verdict == "inconclusive" and "14.0 ms longer" in one.shortcomings[0]
    path = replace(slow, ttft_ms=answers().ttft_ms + 2.0)
    assert not comparison(path, [answers()]).shortcomings


def test_nothing_offered_is_no_agreement():
    nothing = answers(0, 0)
    assert comparison(nothing, [nothing], offered=0).verdict == "inconclusive"


def test_every_verdict_has_an_exit_code():
    assert EXIT_CODES["within"] == 0 and EXIT_CODES["outside"] == 1
    assert EXIT_CODES["inconclusive"] not in (0, 1, 2)


def test_the_json_has_every_figure_and_null_for_the_unknown():
    live = replace(answers(refused={"shed": 3}), ttft_ms=np.full(1000, math.nan))
    written = json.loads(json.dumps(as_json(comparison(live, [answers()])), allow_nan=False))
    assert written["verdict"] == "outside" and written["refused"]["live"] == {"shed": 3}
    assert [region["name"] for region in written["regions"]] == ["west", "east", "all"]
    everything = written["regions"][-1]
    assert everything["live"]["ttft_p95_ms"] is None
    assert everything["simulated"]["ttft_p95_ms"] == pytest.approx(95.0)
    assert {check["what"] for check in written["checks"] if check["ok"]} >= {"emissions"}
    assert written["machine"]["callers_lag_ms"]["p95"] == 2.0


def shown(one):
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(render(one))
    return " ".join(capture.get().split())


def test_the_report_shows_both_sides_and_says_how_figures_came_to_be():
    text = shown(comparison(answers(refused={"shed": 3}), [answers(620, 380)]))
    assert "live / simulated" in text and "60.0 / 62.0" in text and "emulated" in text
    assert "Without an answer, live: 3 shed." in text and "compressed" in text
    assert (
        "share of west, % │ 60.0 │ 62.0 │ 62.0 .. 62.0 │ -2.0 points │ -2.0 points │ 3 points │ ok"
        in text
    )
    assert "Within tolerance" in text and "0.0 ms longer at the median" in text


def test_the_report_names_what_is_outside_and_why_it_may_not_conclude():
    text = shown(comparison(answers(factor=2.0), [answers()]))
    assert "Outside tolerance: energy, emissions." in text
    text = shown(comparison(answers(factor=2.0), [answers()], cpu={"emulator": 0.9}))
    assert "No conclusion (energy, emissions outside tolerance): the machine was too small" in text
