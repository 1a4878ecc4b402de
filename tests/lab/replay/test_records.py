import math

import pytest

from router.core.latency import PACE_TOKENS
from router.lab.replay.records import (
    FleetEnergy,
    Record,
    RecordedRun,
    mean_tpot_ms,
    meets,
    percentile,
    summarise,
)
from router.model import Budget


def record(serial=0, region="west", ttft_ms=50.0, e2e_ms=500.0, energy_j=100.0, met=True):
    return Record(
        serial, "chat", "home", region, f"{region}-0", 0.0, ttft_ms, e2e_ms, 10.0, energy_j,
        energy_j / 4, energy_j / 1e4, met,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (Budget(), True),
        (Budget(ttft_ms=50.0, tpot_ms=10.0, e2e_ms=500.0), True),
        (Budget(ttft_ms=49.9), False),
        (Budget(tpot_ms=9.99), False),
        (Budget(e2e_ms=499.9), False),
    ],
)
def test_meets_checks_every_limit(budget, kept):
    # 45 tokens after the first, in 450 ms.
    assert meets(budget, ttft_ms=50.0, e2e_ms=500.0, output_tokens=46) is kept


def test_a_short_answer_has_the_pace_of_a_longer_one():
    """A prompt in one of few gaps is no slow pace."""
    pace_ms = 450.0 / (PACE_TOKENS - 1)
    for tokens in (1, 2, 10, PACE_TOKENS):
        assert meets(Budget(tpot_ms=pace_ms * 1.001), 50.0, 500.0, tokens)
        assert not meets(Budget(tpot_ms=pace_ms * 0.999), 50.0, 500.0, tokens)


def test_an_unknown_ttft_is_not_held_against_an_answer():
    assert meets(Budget(ttft_ms=1.0, tpot_ms=1.0, e2e_ms=500.0), math.nan, 500.0, 10)
    assert not meets(Budget(e2e_ms=499.0), math.nan, 500.0, 10)


def test_refused_requests_count_against_attainment():
    summary = summarise([record(0), record(1, met=False)], offered=4)
    assert (summary.completed, summary.met) == (2, 0.25)
    assert summary.j_per_request == 100.0
    assert summary.g_per_request == pytest.approx(0.01)
    assert summary.marginal_energy_j == 50.0


def test_a_pace_is_that_of_answers_with_two_tokens_and_a_known_start():
    slow, lone, unknown = record(1, e2e_ms=650.0), record(2), record(3, ttft_ms=math.nan)
    lone = lone._replace(output_tokens=1.0)
    summary = summarise([record(0), slow, lone, unknown], offered=4)
    paces_ms = mean_tpot_ms(50.0, 500.0, 10.0), mean_tpot_ms(50.0, 650.0, 10.0)
    assert (summary.tpot_p50_ms, summary.tpot_p95_ms) == paces_ms
    assert math.isnan(summarise([lone, unknown], offered=2).tpot_p50_ms)


def test_nothing_completed_has_no_figures():
    summary = summarise([], offered=3)
    assert summary.met == 0.0
    assert math.isnan(summary.e2e_p95_ms) and math.isnan(summary.g_per_request)


def test_percentiles_are_nearest_rank():
    values = [float(i) for i in range(1, 101)]
    assert [percentile(values, q) for q in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_a_run_knows_its_shares_and_totals():
    run = RecordedRun("p", 4, (record(0), record(1), record(2), record(3, "east")), {}, None)
    assert run.shares() == {"east": 0.25, "west": 0.75}
    fleet = FleetEnergy(busy_j=10.0, idle_j=5.0, busy_g=2.0, idle_g=1.0)
    assert (fleet.total_j, fleet.total_g) == (15.0, 3.0)
