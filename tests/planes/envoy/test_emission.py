"""The module's kernel is Python's to the last bit. ``PARITY_QUESTIONS`` says how many are asked;
CI asks a tenth of the 100,000 that a change of compilers deserves."""

import math
import os
import random

import numpy as np
import pytest
from hypothesis import given, settings

from router.core import kernel
from router.core import kernel_rows as k
from router.core.burden import burden_of
from router.core.evaluation import evaluate
from router.core.layout import ANYWHERE
from router.core.obstacle import obstacle
from router.core.rungs import rungs_of
from router.model import LengthPrior, Spread
from router.planes.envoy.emission import kernel_stamp, rows_header
from tests import factories as f
from tests.core.kernel_worlds import ASKS, UNIFORM, arrays, numbers, worlds
from tests.examples import examples
from tests.planes.envoy import host as hosts

QUESTIONS = int(os.environ.get("PARITY_QUESTIONS", "10000"))
SIZES = (8, 64, 250, 1_000)
HOURS = 6


def same(one, other):
    """Bit for bit, NaN for NaN."""
    return np.array_equal(
        np.array(one, float).view(np.int64), np.array(other, float).view(np.int64)
    )


class Fleet:
    """A fleet of ``n`` endpoints with requests on it, some of them out, under three policies."""

    def __init__(self, n):
        self.rng = rng = random.Random(n)
        names = [f"r{i:02d}" for i in range(min(n, 34))]
        lies_in = (("eu", "de"), ("eu", "fr"), ("us",))
        regions = [f.region(one, rng.choice(lies_in), rng.uniform(1.0, 1.7)) for one in names]
        served = (f.served(f.token_profile()), f.served(f.token_profile("slow", tpot_base_ms=20.0)))
        endpoints = [
            f.endpoint(f"e{i:05d}", rng.choice(names), rng.choice(served), max_in_flight=64)
            for i in range(n)
        ]
        used = {one.region for one in endpoints}
        rtt_ms = {origin: {one: rng.uniform(1.0, 300.0) for one in names} for origin in "abc"}
        fleet = f.fleet(
            *endpoints, regions=[one for one in regions if one.name in used], rtt_ms=rtt_ms,
            priors={served[0].name: LengthPrior(300.0, 200.0, 500.0)},
        )  # fmt: skip
        carbon = f.forecasts(**{one: [rng.uniform(20, 800) for _ in range(24)] for one in used})
        snapshot = f.snapshot(fleet, f.policy(), carbon)
        board = f.board(snapshot)
        for seat in board.seats.values():
            for _ in range(rng.randrange(70)):
                seat.take(burden_of(12.0, 300.0, 200.0, rng.choice([math.inf, 64.0])), f.NOW)
        ((self.key, self.columns),) = [one for one in snapshot.columns.items() if not one[0][1]]
        self.live = board.live(*self.key)
        self.live[k.ELIGIBLE, rng.sample(range(n), n // 8)] = 0.0
        self.params = [
            params
            for one in (f.policy(), f.policy(spread=Spread.PACK, near_tie=0.1), f.shipped_policy())
            for params in rungs_of(one)
        ]

    def question(self):
        rng, columns = self.rng, self.columns
        out = rng.uniform(1.0, 800.0)
        rows = columns.origin_rows
        scalars = (
            rng.choice(list(rows.values())), rng.uniform(1.0, 4000.0), out, 2.0 * out,
            rng.choice([0.0, 3.6]), rng.choice([math.inf, 120.0, 400.0]),
            rng.choice([math.inf, 25.0, 40.0]), rng.choice([math.inf, 3000.0, 20_000.0]),
            rng.choice([ANYWHERE, 1, 2, 6]), rng.choice([3600.0, 1800.0, 5.0, 0.5]), f.NOW + 1.0,
        )  # fmt: skip
        return rng.choice(self.params), scalars


@hosts.missing
@pytest.mark.parametrize("n", SIZES)
def test_the_module_chooses_as_python_does(host, n):
    fleet = Fleet(n)
    columns, live = fleet.columns, fleet.live
    candidates, found = columns.candidates, 0
    mine, theirs = columns.scratch, np.empty_like(columns.scratch)
    asked = max(1, QUESTIONS // len(SIZES))
    for _ in range(asked):
        params, scalars = fleet.question()
        if fleet.rng.random() < 0.02:
            live[k.BATCH, fleet.rng.randrange(n)] = fleet.rng.randrange(65)
        given = (
            columns.table, live, candidates.labels, candidates.starts, params, *scalars,
            columns.uncached, fleet.rng.random(),
        )  # fmt: skip
        answer = kernel.choose(*given, mine)
        assert same(host.choose(*given, theirs), answer), given
        found += answer[0] >= 0
    # Both kinds were asked: what runs somewhere, and what runs nowhere.
    assert 0.2 * asked < found < asked


@hosts.missing
@given(worlds(), ASKS, UNIFORM)
@settings(max_examples=examples(200), deadline=None)
def test_of_any_world(host, world, ask, draw):
    table, live, labels, starts, params, scratch = arrays(world)
    asked = numbers(world, ask)
    given = (table, live, labels, starts, params, *asked)
    answer = kernel.choose(*given, draw, scratch)
    theirs = np.full_like(scratch, np.nan)
    assert same(host.choose(*given, draw, theirs), answer)
    # Of S_BEST but a region each is written.
    assert same(theirs[: k.S_BEST], scratch[: k.S_BEST])


@hosts.missing
@given(worlds(), ASKS)
@settings(max_examples=examples(100), deadline=None)
def test_what_stands_in_the_way_is_told_alike(host, world, ask):
    table, live, labels, starts, params, _ = arrays(world)
    asked = numbers(world, ask)
    terms, reasons = np.empty((live.shape[1], k.EVALUATED)), np.empty(live.shape[1], np.int64)
    evaluate(table, live, labels, params, *asked, terms, reasons)
    why, told_terms, told = host.obstacle(table, live, labels, starts, params, *asked)
    assert same(told_terms, terms)
    assert told.tolist() == reasons.tolist()
    assert why == obstacle(labels, reasons, ask["residency"])


def test_rows_have_the_same_numbers_in_c():
    lines = rows_header().splitlines()
    assert f"#define K_LIVE_ROWS {k.LIVE_ROWS}" in lines
    assert f"#define K_E2E_BUDGET {k.E2E_BUDGET}" in lines
    # Whole numbers alone.
    assert "UNKNOWN_CI" not in rows_header()


def test_the_stamp_is_of_what_the_kernel_is_made_of():
    assert kernel_stamp() == kernel_stamp()
    assert len(kernel_stamp()) == 64
