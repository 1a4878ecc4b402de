"""Which candidate is chosen."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core import kernel
from router.core.pace import PACE_STEPS, pace_of, pace_step
from tests.core import naive_kernel as naive
from tests.core import naive_terms
from tests.core.kernel_worlds import (
    ASKS,
    UNIFORM,
    arrays,
    choose,
    crossing,
    evaluate,
    llamas,
    numbers,
    one_run,
    premiums_after,
    worlds,
)
from tests.examples import examples


@settings(max_examples=examples(75), deadline=None)
@given(worlds(), ASKS, UNIFORM)
def test_choose_agrees_with_the_twin(world, ask, u):
    figures = evaluate(world, ask)
    rows, near = naive.choose(world, figures, u)
    found = choose(world, ask, u)
    (
        row, ttft, tpot, e2e, energy, run_s, prompt, prefill, queue, first, first_energy,
        first_run_s, cap, paced,
    ) = found  # fmt: skip
    if not rows:
        assert (row, first) == (-1, -1)
        others = (ttft, tpot, e2e, energy, run_s, prompt, prefill, queue, first_energy, first_run_s)
        others += (cap, paced)
        assert all(math.isnan(x) for x in others)
        return
    assert row in rows
    assert first == near
    mine = figures[row]
    assert (ttft, tpot, e2e, energy) == (mine["ttft"], mine["tpot"], mine["e2e"], mine["energy"])
    assert first_energy == figures[first]["energy"]
    twins = {
        at: naive_terms.figures(region, c, ask, world["rule"])["run_s"]
        for at, _, region, c in naive_terms.rows_of(world)
    }
    assert run_s == pytest.approx(twins[row], rel=1e-9)
    _, _, region, c = naive_terms.rows_of(world)[row]
    assert prompt == pytest.approx(naive_terms.own_ms(c, ask["n_in"]), rel=1e-12)
    # Without their factors, whatever was learned.
    assert prefill == pytest.approx(naive_terms.prefill_ms(c, ask), rel=1e-9)
    assert queue == pytest.approx(naive_terms.queue_ms(c, ask), rel=1e-9)
    # Next to the pole of what prompts may take, rounding is all there is.
    assert paced == pytest.approx(naive_terms.paced_ms(c, ask), rel=1e-6)
    if cap == math.inf:
        # Nothing to break, or nothing to slow down.
        assert c["tpot_base"] == 0.0 or min(ask["tpot_budget"], ask["e2e_budget"]) == math.inf
    else:
        # A whole step; those there may go on as they will with it, and no slower than it tolerates.
        assert pace_of(pace_step(cap)) == cap > mine["pace"]
        near_pace = cap <= mine["pace"] * (1.0 + 1.0 / PACE_STEPS)
        assert near_pace or naive.holds(region, c, ask, world["rule"], cap, 1.0 + 1e-9)
        longer = cap * 2.0 ** (1.0 / PACE_STEPS)
        assert not naive.holds(region, c, ask, world["rule"], longer, 1.0 - 1e-9)
    assert first_run_s == pytest.approx(twins[first], rel=1e-9)


@settings(max_examples=examples(37), deadline=None)
@given(worlds(), ASKS, UNIFORM)
def test_no_weight_overrides_a_constraint(world, ask, u):
    row, *_, first, _, _, _, _ = choose(world, ask, u)
    reasons = [one["reason"] for one in evaluate(world, ask)]
    assert (row >= 0) == (first >= 0) == ("feasible" in reasons)
    if row >= 0:
        assert reasons[row] == reasons[first] == "feasible"


@settings(max_examples=examples(50), deadline=None)
@given(worlds(), ASKS, UNIFORM)
def test_the_same_inputs_choose_the_same_row(world, ask, u):
    assert choose(world, ask, u)[0] == choose(world, ask, u)[0]


GRID = 4000
POINTS = [(i + 0.5) / GRID for i in range(GRID)]


def traffic(ci, near_tie):
    """Share of each region over a fine, even sweep of u."""
    world, ask = crossing(ci, near_tie)
    table, live, labels, starts, params, scratch = arrays(world)
    counts = [0] * len(ci)
    given_numbers = numbers(world, ask)
    for u in POINTS:
        found = kernel.choose(table, live, labels, starts, params, *given_numbers, u, scratch)
        counts[found[0]] += 1
    assert sum(counts) == GRID
    return [count / GRID for count in counts]


def test_shares_fall_linearly_with_the_distance_from_the_best():
    ci = [100.0, 104.0, 108.0, 112.0, 116.0, 119.9, 120.0, 120.1, 500.0]
    odds = [1.0, 0.8, 0.6, 0.4, 0.2, 0.005, 0.0, 0.0, 0.0]
    shares = traffic(ci, 0.2)
    assert sum(shares) == 1.0
    for share, weight in zip(shares, odds, strict=True):
        assert share == pytest.approx(weight / sum(odds), abs=2 / GRID)
    assert shares[6:] == [0.0, 0.0, 0.0]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(1.0, 1000.0), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]),
)
def test_no_region_beyond_the_near_tie_is_ever_drawn(ci, near_tie):
    limit = min(ci) * (1.0 + near_tie)
    for value, share in zip(ci, traffic(ci, near_tie), strict=True):
        if value > limit * (1.0 + 1e-9):
            assert share == 0.0
        if value == min(ci):
            assert share > 0.0


def test_exact_ties_share_evenly_even_without_a_near_tie():
    assert traffic([200.0, 200.0, 300.0, 200.0], 0.0) == pytest.approx(
        [1 / 3, 1 / 3, 0.0, 1 / 3], abs=2 / GRID
    )
    assert traffic([0.0, 0.0], 0.1) == [0.5, 0.5]


def test_traffic_moves_gradually_while_two_regions_cross():
    """At 100 g/kWh with a near-tie of 10 %, 0.1 g/kWh moves at most 1.2 % of the traffic."""
    steps = [85.0 + 0.1 * step for step in range(301)]
    shares = [traffic([100.0, ci], 0.1)[1] for ci in steps]
    assert shares[0] == 1.0
    assert shares[-1] == 0.0
    assert shares[150] == 0.5
    moves = [a - b for a, b in itertools.pairwise(shares)]
    assert min(moves) >= 0.0
    assert max(moves) <= 0.0125
    # Without a near-tie the same crossing moves everything at once.
    sharp = [traffic([100.0, ci], 0.0)[1] for ci in (99.9, 100.1)]
    assert sharp == [1.0, 0.0]


def replicas(*batches, pack, pack_until=0.9, **changes):
    world, ask = one_run(1.0, [100.0], 3600.0)
    template = world["regions"][0]["candidates"][0]
    world["regions"][0]["candidates"] = [
        {
            **template,
            "max_batch": 100,
            "max_in_flight": 10,
            "batch": float(b),
            "own": float(b),
            **changes,
        }
        for b in batches
    ]
    world["rule"].update(pack=pack, pack_until=pack_until)
    return choose(world, ask, 0.3)[0]


def test_pack_takes_the_fullest_below_the_line_and_spread_the_emptiest():
    assert replicas(3, 8, 5, 0, pack=True) == 1
    assert replicas(3, 8, 5, 0, pack=False) == 3
    # A ninth request would reach 0.9; a tenth would pass it.
    assert replicas(3, 9, 5, 0, pack=True) == 2
    assert replicas(9, 9, pack=True) == 0
    assert replicas(9, 9.5, 9, pack=True, max_in_flight=20, pack_until=0.3) == 0
    # Beyond the line the emptiest is best, and what is full is out of the question.
    assert replicas(9, 10, pack=True, pack_until=0.5) == 0
    assert replicas(10, 10, pack=True) == -1


def test_packing_never_passes_over_the_pace_cap_of_those_already_there():
    world, ask = llamas(4, 1)
    fuller = world["regions"][0]["candidates"][0]
    # Five sequences: 6.25 + 5 * 0.125.
    fuller["pace_cap"] = 6.8125
    world["rule"]["pack"] = True
    assert choose(world, ask, 0.0)[0] == 1
    fuller["pace_cap"] = 6.875
    assert choose(world, ask, 0.0)[0] == 0


def test_packing_goes_by_what_went_through_this_gateway_and_not_by_what_servers_claim():
    world, ask = one_run(1.0, [100.0], 3600.0)
    template = world["regions"][0]["candidates"][0]
    mine = {**template, "max_in_flight": 10, "batch": 1.0, "own": 1.0}
    claims = {**template, "max_in_flight": 10, "batch": 8.0, "own": 0.0}
    world["regions"][0]["candidates"] = [claims, mine]
    world["rule"]["pack"] = True
    assert choose(world, ask, 0.0)[0] == 1
    # What is claimed takes room all the same.
    mine["own"], mine["batch"], claims["batch"] = 9.0, 9.0, 10.0
    assert choose(world, ask, 0.0)[0] == 1


# From the far ends of what a float can say.
WILD = st.sampled_from([0.0, 1e-308, 1e-300, 1.0, 1e8, 9e18, 1e300, 1e308, math.inf, math.nan])


@settings(max_examples=examples(50), deadline=None)
@given(worlds(), ASKS, UNIFORM, st.tuples(*[WILD] * 5), st.sampled_from([-1e308, -9e18, 1e308]))
def test_whatever_is_asked_the_kernel_returns_and_only_finite_figures_leave(
    world, ask, u, sizes, slot_left_s
):
    """Sizes and an age of the columns that no gate would let through."""
    ask = {
        **ask, **dict(zip(("n_in", "n_out", "n_out_q", "network_j"), sizes, strict=False)),
        "slot_left_s": slot_left_s, "now": 0.0,
    }  # fmt: skip
    found = choose(world, ask, u)
    if found[0] >= 0:
        assert all(math.isfinite(figure) for figure in found[:7])
        cost = evaluate(world, ask)[found[0]]["cost"]
        assert math.isfinite(cost)
        assert all(math.isfinite(premium) for premium in premiums_after(world, ask))


@settings(max_examples=examples(37), deadline=None)
@given(
    worlds(), ASKS, UNIFORM, st.integers(0, 30),
    st.sampled_from(["prompts", "prompts2", "cached", "prefill_per_piece", "prefill_per_token",
                     "prefill_per_token2", "tpot_cached", "j_per_prompt"]),
    st.sampled_from([math.nan, math.inf, 1e308]),
)  # fmt: skip
def test_wild_prompts_are_never_chosen_nor_told(world, ask, u, at, name, value):
    rows = naive_terms.rows_of(world)
    rows[at % len(rows)][3][name] = value
    row, *figures = choose(world, ask, u)
    if row >= 0:
        assert all(math.isfinite(figure) for figure in figures[:6])
        assert math.isfinite(evaluate(world, ask)[row]["pace"])
    if not math.isfinite(value):
        reason = evaluate(world, ask)[at % len(rows)]["reason"]
        assert reason in ("unhealthy", "residency", "context", "not_finite")


@settings(max_examples=examples(50), deadline=None)
@given(worlds(), ASKS, UNIFORM)
def test_a_choice_writes_nothing_but_scratch(world, ask, u):
    table, live, labels, starts, params, scratch = arrays(world)
    before = [one.copy() for one in (table, live, labels, starts, params)]
    kernel.choose(table, live, labels, starts, params, *numbers(world, ask), u, scratch)
    for one, copy in zip((table, live, labels, starts, params), before, strict=True):
        assert one.tobytes() == copy.tobytes()


@pytest.mark.parametrize(("within", "chosen"), [(0.0, 1), (0.05, 1), (1000.0, 0)])
def test_a_fuller_replica_is_packed_though_it_costs_more(within, chosen):
    """Where latency or load is what is weighed, the emptiest is the cheapest."""
    world, ask = one_run(1.0, [100.0], 3600.0)
    template = world["regions"][0]["candidates"][0]
    world["regions"][0]["candidates"] = [
        {**template, "max_in_flight": 10, "batch": batch, "own": batch} for batch in (8.0, 3.0)
    ]
    world["rule"].update(pack=True, pack_until=1.0, pack_within=within)
    world["rule"]["weights"] = dict.fromkeys(world["rule"]["weights"], 0.0) | {"load": 1.0}
    assert choose(world, ask, 0.3)[0] == chosen
