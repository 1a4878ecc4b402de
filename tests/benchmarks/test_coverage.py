"""What benchmarks say of how often something that was told held."""

from __future__ import annotations

import importlib
import math
import random
from typing import Any

import pytest

coverage: Any = pytest.importorskip("benchmarks.coverage", reason="COVERAGE NOT TRIED: no source")
E2E = 2


def answer(told: float, came: float) -> Any:
    return coverage.Answer((math.nan, math.nan, told), (math.nan, math.nan, came))


def test_a_receipt_is_read_and_a_short_answer_has_31_gaps():
    told = {"predicted_ttft_ms": 100.0, "predicted_tpot_ms": 9.0, "predicted_e2e_ms": 500.0}
    came = {"actual_ttft_ms": 80.0, "actual_e2e_ms": 390.0, "output_tokens": 4}
    assert coverage.answer_of(told | came) == ((100.0, 9.0, 500.0), (80.0, 10.0, 390.0))
    long = told | came | {"output_tokens": 63}
    assert coverage.answer_of(long).came[1] == 5.0


def test_of_an_answer_in_one_piece_only_the_whole_is_counted():
    one = coverage.answer_of({"predicted_e2e_ms": 500.0, "actual_e2e_ms": 390.0})
    assert [coverage.coverage([one], figure).answers for figure in range(3)] == [0, 0, 1]


def test_shares_are_of_what_is_known_and_the_bound_itself_is_within():
    found = coverage.coverage([answer(10.0, 10.0), answer(10.0, 5.0), answer(10.0, 11.0)], E2E)
    assert (found.answers, found.share, found.over) == (3, pytest.approx(2 / 3), 1.0)
    assert not found.is_met
    assert math.isnan(coverage.coverage([answer(math.nan, 1.0)], E2E).share)


def test_it_has_settled_once_the_next_hundred_hold_as_they_ought_to():
    rng = random.Random(1)
    late = [answer(10.0, 20.0)] * 70
    steady = [answer(10.0, 12.0 if rng.random() < 0.05 else 8.0) for _ in range(300)]
    slack = [answer(100.0, 8.0)] * 150
    after = coverage.settled_after(late + steady, E2E)
    assert 50 <= after <= 70
    # Where nothing at all is beyond, more is told than is so.
    assert coverage.settled_after(slack, E2E) is None
    assert coverage.settled_after(steady[:99], E2E) is None


def test_a_profile_that_is_off_says_so_many_times_as_long():
    rig = importlib.import_module("benchmarks.llama_rig")
    profile = {"kind": "token", "base_w": 8.0, "prefill_ms_per_token": 6.0, "tpot_base_ms": 17.0}
    assert rig.off_by(profile, 10.0) == profile | {
        "prefill_ms_per_token": 60.0,
        "tpot_base_ms": 170.0,
    }


def test_half_of_what_comes_is_streamed_and_as_often_as_it_ought_to():
    told = importlib.import_module("benchmarks.told_latency")
    come = told.asks(5.0, 400.0, random.Random(2))
    assert len(come) / 400.0 == pytest.approx(5.0, rel=0.1)
    assert sum(one.stream for one in come) / len(come) == pytest.approx(0.5, abs=0.05)


def test_a_run_is_a_row_whose_first_requests_do_not_count():
    told = importlib.import_module("benchmarks.told_latency")
    whole = {"predicted_e2e_ms": 500.0, "actual_e2e_ms": 390.0}
    late = {"predicted_e2e_ms": 300.0, "actual_e2e_ms": 390.0}
    run = {
        "policy": "latency-first", "off": 10.0, "load": 0.3, "per_s": 5.5, "warm": 1,
        "others": 0.25, "receipts": [late, {"refused": 429}, *[whole] * 19, late],
    }  # fmt: skip
    _, _, row = told.table([run])
    assert "| 10 x as long | 30% of 5.5/s | 0.25 | 20, 0 |" in row
    assert "| 95.0 |" in row
