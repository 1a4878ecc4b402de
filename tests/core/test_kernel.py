import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router.core import kernel as k
from router.core.layout import ANYWHERE
from tests.core import naive_kernel as naive

NAMES = {
    k.FEASIBLE: "feasible",
    k.UNHEALTHY: "unhealthy",
    k.RESIDENCY: "residency",
    k.CONTEXT: "context",
    k.NOT_FINITE: "not_finite",
    k.CARBON_UNKNOWN: "carbon_unknown",
    k.CARBON_BUDGET: "carbon_budget",
    k.FULL: "full",
    k.TTFT_BUDGET: "ttft",
    k.TPOT_BUDGET: "tpot",
    k.E2E_BUDGET: "e2e",
}
EVALUATED = {
    "cost": k.E_COST, "rtt": k.E_RTT, "ttft": k.E_TTFT, "tpot": k.E_TPOT, "e2e": k.E_E2E,
    "energy": k.E_ENERGY, "ci": k.E_CI, "grams": k.E_GRAMS, "batch": k.E_BATCH,
    "premium": k.E_PREMIUM, "prompt_energy": k.E_PROMPT_ENERGY, "pace": k.E_PACE,
}  # fmt: skip

# Figures of powers of two, so that sums of them are exact. An iteration with one sequence of no
# cached tokens takes 6.375 ms; 256 tokens of prompt take 16 ms of one.
LLAMA = {
    "prefill_base": 8.0, "prefill_per_piece": 0.0, "prefill_per_token": 0.0625,
    "prefill_per_token2": 0.0, "prefill_per_in_flight": 0.0, "tpot_base": 6.25,
    "tpot_slope": 0.125, "tpot_cached": 0.0, "chunk": 512.0, "max_batch": 64,
    "j_per_token": 0.125, "j_per_cached": 0.0, "j_per_prompt": 0.5, "j_per_request": 0.0,
    "wake_w": 512.0,
}  # fmt: skip
LONG = {
    **LLAMA, "prefill_per_piece": 1.5, "prefill_per_token2": 2.0**-17, "tpot_cached": 2.0**-13,
    "chunk": 32.0, "j_per_cached": 2.0**-16,
}  # fmt: skip
BIG = {**LLAMA, "tpot_base": 30.0, "j_per_token": 4.0, "max_batch": 4, "wake_w": 0.0}
TASK = {
    "prefill_base": 800.0, "prefill_per_piece": 0.0, "prefill_per_token": 0.0,
    "prefill_per_token2": 0.0, "prefill_per_in_flight": 100.0, "tpot_base": 0.0,
    "tpot_slope": 0.0, "tpot_cached": 0.0, "chunk": 0.0, "max_batch": 4, "j_per_token": 0.0,
    "j_per_cached": 0.0, "j_per_prompt": 0.0, "j_per_request": 2282.0, "wake_w": 0.0,
}  # fmt: skip
# What a candidate is when nobody has anything there.
QUIET = {
    "batch": 0.0, "own": 0.0, "awake": False, "eligible": True, "pace_cap": math.inf,
    "prompts": 0.0, "prompts2": 0.0, "cached": 0.0, "ttft_factor": 1.0, "queue_factor": 1.0,
    "tpot_factor": 1.0, "backlog_ends": 0.0, "backlog_most": 0.0, "turns": 0, "ttft_delay": 0.0,
    "max_premium": math.inf, "context": math.inf,
}  # fmt: skip
# Coarse values make exact ties and exact hits of a limit likely; fine ones make them impossible.
factors = st.sampled_from([0.5, 1.0, 1.0, 1.25]) | st.floats(0.1, 10.0)
ci_values = st.sampled_from([0.0, 20.0, 100.0, 101.0, 800.0]) | st.floats(0.0, 2000.0)


@st.composite
def crowds(draw, batch):
    """What the prompts and sequences of ``batch`` requests come to, alike or not; a task's and
    nobody's to nothing. Prompts from none to what no iteration would ever end."""
    prompt_ms = draw(st.sampled_from([0.0, 0.0, 4.0, 16.0, 512.0, 1e6]) | st.floats(0.0, 1e3))
    tokens = draw(st.sampled_from([1.0, 32.0, 256.0]) | st.floats(1.0, 5000.0))
    spread = draw(st.sampled_from([1.0, 1.0, 2.0]))
    return {
        "prompts": batch * prompt_ms / tokens,
        "prompts2": batch * spread * prompt_ms**2 / tokens,
        "cached": batch * draw(st.sampled_from([0.0, 256.0, 4096.0, 1e6])),
    }


@st.composite
def candidates(draw):
    shape = draw(st.sampled_from([LLAMA, LLAMA, LONG, LONG, BIG, TASK]))
    batch = draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0, 63.0, 64.0, 99.0, 150.0]))
    return {
        **shape,
        **draw(crowds(batch if shape is not TASK else 0.0)),
        "max_in_flight": draw(st.sampled_from([1, 2, 8, 100, 128])),
        "context": draw(st.sampled_from([math.inf, math.inf, 300.0, 4096.0])),
        "batch": batch,
        "own": draw(st.sampled_from([0.0, 1.0, 3.0, 64.0])),
        # Around the NOW of what is asked: long past, in a moment, never.
        "backlog_ends": draw(st.sampled_from([-1e9, 7.0, 8.0, 8.25, 12.0, 1e9])),
        "backlog_most": draw(st.sampled_from([0.0, 64.0, 1000.0, 1e12])),
        "awake": draw(st.booleans()),
        "max_premium": draw(st.sampled_from([0.0, 100.0, 5000.0, math.inf])),
        "eligible": draw(st.sampled_from([True, True, True, False])),
        "pace_cap": draw(st.sampled_from([math.inf, math.inf, 6.375, 7.0, 40.0, 256.0])),
        "ttft_factor": draw(factors),
        "queue_factor": draw(factors),
        "tpot_factor": draw(factors),
        "turns": draw(st.integers(0, 5)),
        "ttft_delay": draw(st.sampled_from([0.0, 0.0, 8.0]) | st.floats(0.0, 100.0)),
    }


def regions(hours):
    return st.fixed_dictionaries({
        "rtt": st.tuples(*[st.sampled_from([0.0, 10.0, 10.5, 80.0, 250.0])] * 2),
        "pue": st.sampled_from([1.0, 1.0, 1.25, 1.6]),
        "ci": st.lists(ci_values, min_size=hours, max_size=hours) | st.none(),
        "label": st.integers(0, 7),
        "premium": st.sampled_from([0.0, 0.0, 0.0005, 40.0]) | st.floats(0.0, 500.0),
        "candidates": st.lists(candidates(), min_size=1, max_size=4),
    })  # fmt: skip


limits = st.just(math.inf)
weights = st.sampled_from([0.0, 0.0, 1.0]) | st.floats(0.0, 1e6)
RULES = st.fixed_dictionaries({
    "weights": st.fixed_dictionaries(
        {name: weights for name in ("grams", "ttft", "e2e", "load", "turn")}
    ),
    "near_tie": st.sampled_from([0.0, 0.0, 0.01, 0.05, 1.0]),
    "pack": st.booleans(),
    "pack_until": st.sampled_from([0.5, 0.9, 1.0]),
    "pack_within": st.sampled_from([0.0, 0.0, 0.5, 1000.0]),
    "scarcity": st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    "wake_energy": st.sampled_from([0.0, 1.0]),
    "wake_premium": st.sampled_from([0.0, 0.03125, 1.0]),
    "max_grams": limits | limits | st.sampled_from([0.0, 0.01, 0.1]),
    "max_ci": limits | st.sampled_from([k.KNOWN_CI, k.KNOWN_CI, 100.0]),
})  # fmt: skip


@st.composite
def worlds(draw):
    hours = draw(st.integers(1, 6))
    drawn = draw(st.lists(regions(hours), min_size=1, max_size=5))
    return {"regions": drawn, "rule": {**draw(RULES), "hours": hours}}


# A run lasts from 8 ms to hours: long answers on a slow replica, or a short rest of the hour.
ASKS = st.fixed_dictionaries({
    "origin": st.integers(0, 1),
    "n_in": st.sampled_from([0.0, 64.0, 256.0, 4000.0, 1e6]),
    "n_out": st.sampled_from([0.0, 0.25, 1.0, 44.0, 200.0, 200_000.0]),
    "n_out_q": st.sampled_from([0.5, 1.0, 200.0, 1000.0]),
    "network_j": st.sampled_from([0.0, 3.6]),
    "ttft_budget": limits | limits | st.sampled_from([18.0, 100.0, 900.0]),
    "tpot_budget": limits | limits | st.sampled_from([6.375, 7.0, 40.0]),
    "e2e_budget": limits | limits | st.sampled_from([1300.0, 5000.0, 50_000.0]),
    "residency": st.sampled_from([ANYWHERE, ANYWHERE, ANYWHERE, ANYWHERE, 1, 6, 0]),
    "slot_left_s": st.sampled_from([3600.0, 3000.0, 1.0, 0.0, -1.0, -3600.0, -9000.0])
    | st.floats(-30_000.0, 3600.0),
    "now": st.just(8.0),
})  # fmt: skip
UNIFORM = st.floats(0.0, 1.0, exclude_max=True) | st.sampled_from([0.0, 0.5])


def arrays(world):
    """The kernel's view of a world: (table, live, labels, starts, params, scratch)."""
    rows = naive.rows_of(world)
    n, rule = len(rows), world["rule"]
    hours, origins = rule["hours"], len(world["regions"][0]["rtt"])
    table = np.zeros((k.CI_FROM + hours + origins, n))
    live = np.zeros((k.LIVE_ROWS, n))
    static = {
        k.PREFILL_BASE_MS: "prefill_base", k.PREFILL_MS_PER_PIECE: "prefill_per_piece",
        k.PREFILL_MS_PER_TOKEN: "prefill_per_token",
        k.PREFILL_MS_PER_IN_FLIGHT: "prefill_per_in_flight", k.TPOT_BASE_MS: "tpot_base",
        k.TPOT_MS_PER_SEQUENCE: "tpot_slope", k.TPOT_MS_PER_CACHED_TOKEN: "tpot_cached",
        k.CHUNK_MS: "chunk", k.MAX_BATCH: "max_batch", k.J_PER_PROMPT_MS: "j_per_prompt",
        k.MAX_IN_FLIGHT: "max_in_flight", k.J_PER_TOKEN: "j_per_token",
        k.J_PER_CACHED_TOKEN: "j_per_cached",
        k.J_PER_REQUEST: "j_per_request", k.WAKE_W: "wake_w", k.CONTEXT_TOKENS: "context",
        k.MAX_PREMIUM: "max_premium",
    }  # fmt: skip
    moving = {
        k.BATCH: "batch", k.ELIGIBLE: "eligible", k.PACE_CAP_MS: "pace_cap",
        k.TTFT_FACTOR: "ttft_factor", k.QUEUE_FACTOR: "queue_factor",
        k.TPOT_FACTOR: "tpot_factor", k.TURNS: "turns",
        k.TTFT_DELAY: "ttft_delay",
        k.OWN: "own", k.AWAKE: "awake", k.PROMPTS_MS: "prompts", k.PROMPTS_MS2: "prompts2",
        k.CACHED_TOKENS: "cached", k.BACKLOG_ENDS_S: "backlog_ends",
        k.BACKLOG_MOST_MS: "backlog_most",
    }  # fmt: skip
    for row, _, region, c in rows:
        for at, name in static.items():
            table[at, row] = c[name]
        for at, name in moving.items():
            live[at, row] = c[name]
        live[k.PREMIUM, row] = region["premium"]
        live[k.FOREIGN, row] = naive.foreign_part(c)
        live[k.PER_PLACE, row] = 1.0 / (c["batch"] + 1.0)
        table[k.PER_CAPACITY, row] = 1.0 / sum(one["max_in_flight"] for *_, one in rows)
        table[k.HALF_PREFILL_MS_PER_TOKEN2, row] = c["prefill_per_token2"] / 2.0
        table[k.PER_MAX_BATCH, row] = 1.0 / c["max_batch"]
        table[k.PER_MAX_IN_FLIGHT, row] = 1.0 / c["max_in_flight"]
        table[k.KWH_PER_J, row] = region["pue"] / 3.6e6
        table[k.CI_FROM : k.CI_FROM + hours, row] = region["ci"] or [k.UNKNOWN_CI] * hours
        table[k.CI_FROM + hours :, row] = region["rtt"]
    sizes = [len(region["candidates"]) for region in world["regions"]]
    starts = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    labels = np.array([region["label"] for _, _, region, _ in rows], np.int64)
    params = np.zeros(k.PARAMS)
    for at, name in (
        (k.W_GCO2E, "grams"), (k.W_TTFT, "ttft"), (k.W_E2E, "e2e"), (k.W_LOAD, "load"),
        (k.W_TURN, "turn"),
    ):  # fmt: skip
        params[at] = rule["weights"][name]
    for at, name in (
        (k.NEAR_TIE, "near_tie"), (k.PACK, "pack"), (k.PACK_UNTIL, "pack_until"),
        (k.MAX_GCO2E, "max_grams"), (k.MAX_G_PER_KWH, "max_ci"), (k.CI_HOURS, "hours"),
        (k.SCARCITY, "scarcity"), (k.WAKE_ENERGY, "wake_energy"), (k.WAKE_PREMIUM, "wake_premium"),
    ):  # fmt: skip
        params[at] = rule[name]
    params[k.PACK_WITHIN] = rule.get("pack_within", 0.0)
    params[[k.POLICY_TTFT_MS, k.POLICY_TPOT_MS, k.POLICY_E2E_MS]] = np.inf
    return table, live, labels, starts, params, np.full((k.SCRATCH_ROWS, n), np.nan)


def numbers(world, ask):
    return (
        k.CI_FROM + world["rule"]["hours"] + ask["origin"], ask["n_in"], ask["n_out"],
        ask["n_out_q"], ask["network_j"], ask["ttft_budget"], ask["tpot_budget"],
        ask["e2e_budget"], ask["residency"], ask["slot_left_s"], ask["now"],
    )  # fmt: skip


def choose(world, ask, u):
    table, live, labels, starts, params, scratch = arrays(world)
    return k.choose(table, live, labels, starts, params, *numbers(world, ask), u, scratch)


def evaluate(world, ask):
    """Figures of every row by name, with its "reason"."""
    table, live, labels, _, params, _ = arrays(world)
    n = live.shape[1]
    out, reasons = np.full((n, k.EVALUATED), np.nan), np.full(n, -1)
    k.evaluate(table, live, labels, params, *numbers(world, ask), out, reasons)
    return [
        {**{name: row[at] for name, at in EVALUATED.items()}, "reason": NAMES[int(reason)]}
        for row, reason in zip(out, reasons, strict=True)
    ]


@settings(max_examples=400, deadline=None)
@given(worlds(), ASKS)
def test_evaluate_gives_the_twins_figures_and_reasons(world, ask):
    found = evaluate(world, ask)
    for row, _, region, c in naive.rows_of(world):
        expected = naive.figures(region, c, ask, world["rule"])
        for name in EVALUATED:
            assert found[row][name] == pytest.approx(expected[name], rel=1e-9, abs=1e-300), name
        assume(not naive.on_the_edge(region, c, ask, world["rule"]))
        assert found[row]["reason"] == naive.reason(region, c, ask, world["rule"])


@settings(max_examples=600, deadline=None)
@given(worlds(), ASKS, UNIFORM)
def test_choose_agrees_with_the_twin(world, ask, u):
    figures = evaluate(world, ask)
    rows, near = naive.choose(world, figures, u)
    found = choose(world, ask, u)
    (
        row, ttft, tpot, e2e, energy, run_s, prompt, prefill, queue, first, first_energy,
        first_run_s, cap,
    ) = found  # fmt: skip
    if not rows:
        assert (row, first) == (-1, -1)
        others = (ttft, tpot, e2e, energy, run_s, prompt, prefill, queue, first_energy, first_run_s)
        others += (cap,)
        assert all(math.isnan(x) for x in others)
        return
    assert row in rows
    assert first == near
    mine = figures[row]
    assert (ttft, tpot, e2e, energy) == (mine["ttft"], mine["tpot"], mine["e2e"], mine["energy"])
    assert first_energy == figures[first]["energy"]
    twins = {
        at: naive.figures(region, c, ask, world["rule"])["run_s"]
        for at, _, region, c in naive.rows_of(world)
    }
    assert run_s == pytest.approx(twins[row], rel=1e-9)
    _, _, region, c = naive.rows_of(world)[row]
    assert prompt == pytest.approx(naive.own_ms(c, ask["n_in"]), rel=1e-12)
    # Without their factors, whatever was learned.
    assert prefill == pytest.approx(naive.prefill_ms(c, ask), rel=1e-9)
    assert queue == pytest.approx(naive.queue_ms(c, ask), rel=1e-9)
    if cap == math.inf:
        # Nothing to break, or nothing to slow down.
        assert c["tpot_base"] == 0.0 or min(ask["tpot_budget"], ask["e2e_budget"]) == math.inf
    else:
        # A whole step; those there may go on as they will with it, and no slower than it tolerates.
        assert k.pace_of(k.pace_step(cap)) == cap > mine["pace"]
        near_pace = cap <= mine["pace"] * (1.0 + 1.0 / k.PACE_STEPS)
        assert near_pace or naive.holds(region, c, ask, world["rule"], cap, 1.0 + 1e-9)
        longer = cap * 2.0 ** (1.0 / k.PACE_STEPS)
        assert not naive.holds(region, c, ask, world["rule"], longer, 1.0 - 1e-9)
    assert first_run_s == pytest.approx(twins[first], rel=1e-9)


@settings(max_examples=300, deadline=None)
@given(worlds(), ASKS, UNIFORM)
def test_no_weight_overrides_a_constraint(world, ask, u):
    row, *_, first, _, _, _ = choose(world, ask, u)
    reasons = [one["reason"] for one in evaluate(world, ask)]
    assert (row >= 0) == (first >= 0) == ("feasible" in reasons)
    if row >= 0:
        assert reasons[row] == reasons[first] == "feasible"


@settings(max_examples=200, deadline=None)
@given(worlds(), ASKS, UNIFORM)
def test_the_same_inputs_choose_the_same_row(world, ask, u):
    assert choose(world, ask, u)[0] == choose(world, ask, u)[0]


def test_the_order_of_reasons():
    """Each constraint hides the ones behind it: peel them off one by one."""
    broken = {
        **LLAMA, **QUIET, "max_in_flight": 2, "context": 10.0, "batch": 2.0, "eligible": False,
        "own": 2.0, "awake": True, "prompts": 201.0, "prompts2": 201.0**2, "cached": 1e6,
    }  # fmt: skip
    region = {
        "rtt": (500.0,), "pue": 1.0, "ci": None, "label": 1, "premium": 0.0, "candidates": [broken],
    }  # fmt: skip
    rule = {
        "weights": dict.fromkeys(("grams", "ttft", "e2e", "load", "turn"), 1.0),
        "near_tie": 0.0, "pack": False, "pack_until": 0.9, "max_grams": 0.0, "max_ci": 100.0,
        "scarcity": 0.0, "wake_energy": 1.0, "wake_premium": 0.0,
        "hours": 1,
    }  # fmt: skip
    ask = {
        "origin": 0, "n_in": 64.0, "n_out": 200.0, "n_out_q": 400.0, "network_j": 0.0,
        "ttft_budget": 1.0, "tpot_budget": 1.0, "e2e_budget": 1.0, "residency": 2,
        "slot_left_s": 3600.0, "now": 0.0,
    }  # fmt: skip
    world = {"regions": [region], "rule": rule}
    peel = (
        ("unhealthy", lambda: broken.update(eligible=True)),
        ("residency", lambda: ask.update(residency=3)),
        ("context", lambda: broken.update(context=264.0, turns=math.inf)),
        ("not_finite", lambda: broken.update(turns=0)),
        ("carbon_unknown", lambda: region.update(ci=[101.0])),
        ("carbon_budget", lambda: region.update(ci=[100.0])),
        ("carbon_budget", lambda: rule.update(max_grams=math.inf)),
        ("full", lambda: broken.update(batch=1.0, prompts=0.0, prompts2=0.0, pace_cap=6.5)),
        ("full", lambda: broken.update(pace_cap=6.5 + 4.0 * (1.0 / 200.0))),
        # It waits for half of an iteration, reads its prompt, and one iteration beside.
        ("ttft", lambda: ask.update(ttft_budget=500.0 + 3.25 + 8.0 + 4.0 + 6.5)),
        ("tpot", lambda: ask.update(tpot_budget=6.5)),
        ("e2e", lambda: ask.update(e2e_budget=521.75 + 400 * 6.5)),
    )
    for reason, mend in peel:
        assert evaluate(world, ask)[0]["reason"] == reason
        assert choose(world, ask, 0.0)[0] == -1
        mend()
    # Every limit is now met exactly, and a limit that is met is not broken.
    assert evaluate(world, ask)[0]["reason"] == "feasible"
    assert choose(world, ask, 0.0)[0] == 0


@pytest.mark.parametrize(
    ("slot_left_s", "run_s", "expected"),
    [
        (600.0, 300.0, 100.0),
        (600.0, 600.0, 100.0),
        (600.0, 1200.0, (600 * 100 + 600 * 200) / 1200),
        (600.0, 5000.0, (600 * 100 + 3600 * 200 + 800 * 400) / 5000),
        (600.0, 20000.0, (600 * 100 + 3600 * 200 + 15800 * 400) / 20000),  # the last one holds
        (0.0, 10.0, 200.0),
        (-600.0, 10.0, 200.0),  # columns older than the hour: the hour that it is now
        (-600.0, 3600.0, (3000 * 200 + 600 * 400) / 3600),
        (-3700.0, 10.0, 400.0),
        (-90000.0, 10.0, 400.0),
    ],
)
def test_intensity_over_the_run(slot_left_s, run_s, expected):
    world, ask = _one_run(run_s, [100.0, 200.0, 400.0], slot_left_s)
    figures = evaluate(world, ask)[0]
    assert figures["ci"] == pytest.approx(expected, rel=1e-12)
    assert figures["grams"] == pytest.approx(3.6e6 / 3.6e6 * expected, rel=1e-12)


def _one_run(run_s, ci, slot_left_s):
    candidate = {
        **TASK, **QUIET, "prefill_base": run_s * 1e3, "prefill_per_in_flight": 0.0,
        "j_per_request": 3.6e6, "max_in_flight": 1,
    }  # fmt: skip
    region = {
        "rtt": (0.0,), "pue": 1.0, "ci": ci, "label": 1, "premium": 0.0, "candidates": [candidate],
    }  # fmt: skip
    ask = {
        "origin": 0, "n_in": 0.0, "n_out": 1.0, "n_out_q": 1.0, "network_j": 0.0,
        "ttft_budget": math.inf, "tpot_budget": math.inf, "e2e_budget": math.inf,
        "residency": ANYWHERE, "slot_left_s": slot_left_s, "now": 0.0,
    }  # fmt: skip
    rule = {
        "weights": {"grams": 1.0, "ttft": 0.0, "e2e": 0.0, "load": 0.0, "turn": 0.0},
        "near_tie": 0.0, "pack": False, "pack_until": 1.0, "max_grams": math.inf, "scarcity": 0.0,
        "wake_energy": 1.0, "wake_premium": 0.0,
        "max_ci": k.KNOWN_CI, "hours": len(ci),
    }  # fmt: skip
    return {"regions": [region], "rule": rule}, ask


GRID = 4000
POINTS = [(i + 0.5) / GRID for i in range(GRID)]


def crossing(ci, near_tie):
    """One candidate a region, alike but for the region's intensity; 1 kWh a request."""
    world, ask = _one_run(1.0, [ci[0]], 3600.0)
    world["rule"]["near_tie"] = near_tie
    template = world["regions"][0]
    world["regions"] = [{**template, "ci": [value]} for value in ci]
    return world, ask


def traffic(ci, near_tie):
    """Share of each region over a fine, even sweep of u."""
    world, ask = crossing(ci, near_tie)
    table, live, labels, starts, params, scratch = arrays(world)
    counts = [0] * len(ci)
    for u in POINTS:
        found = k.choose(table, live, labels, starts, params, *numbers(world, ask), u, scratch)
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
    world, ask = _one_run(1.0, [100.0], 3600.0)
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


def llamas(*batches, **changes):
    """One region of replicas that decode ``batches`` sequences; a request without a prompt."""
    world, ask = _one_run(1.0, [100.0], 3600.0)
    world["regions"][0]["candidates"] = [
        {
            **LLAMA, **QUIET, "wake_w": 0.0, "max_in_flight": 100, "batch": float(b),
            "own": float(b), **changes,
        }
        for b in batches
    ]  # fmt: skip
    return world, ask


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
    world, ask = _one_run(1.0, [100.0], 3600.0)
    template = world["regions"][0]["candidates"][0]
    mine = {**template, "max_in_flight": 10, "batch": 1.0, "own": 1.0}
    claims = {**template, "max_in_flight": 10, "batch": 8.0, "own": 0.0}
    world["regions"][0]["candidates"] = [claims, mine]
    world["rule"]["pack"] = True
    assert choose(world, ask, 0.0)[0] == 1
    # What is claimed takes room all the same.
    mine["own"], mine["batch"], claims["batch"] = 9.0, 9.0, 10.0
    assert choose(world, ask, 0.0)[0] == 1


@settings(max_examples=200, deadline=None)
@given(worlds(), ASKS, st.integers(0, 30), st.sampled_from([1.0, 40.0, 1e9, 1e308]))
def test_a_claim_of_load_never_makes_a_candidate_cheaper(world, ask, at, more):
    """Of more requests like those that are there."""
    rows = naive.rows_of(world)
    candidate = rows[at % len(rows)][3]
    before = evaluate(world, ask)[at % len(rows)]
    if candidate["batch"] > 0.0:
        for name in ("prompts", "prompts2", "cached"):
            candidate[name] *= (candidate["batch"] + more) / candidate["batch"]
    candidate["batch"] += more
    after = evaluate(world, ask)[at % len(rows)]
    for name in ("ttft", "tpot", "e2e", "energy", "premium", "pace"):
        # But for the last bit, as sums are rounded.
        assert not after[name] < before[name] * (1.0 - 1e-12), name
    if before["reason"] != "feasible":
        assert after["reason"] != "feasible"


# Prompts are work: figures by hand


def alone_with(ask, **changes):
    """Figures of the one replica, and whether it is chosen."""
    world, idle = llamas(0, **changes)
    ask = {**idle, **ask}
    return evaluate(world, ask)[0], choose(world, ask, 0.0)[0] == 0


def test_a_lone_prompt_takes_an_iteration_and_its_own_time():
    figures, chosen = alone_with({"n_in": 256.0, "n_out": 8.0})
    assert chosen
    # 8 ms before, then one iteration of 6.25 + 0.125 ms and 256 * 0.0625 ms of prompt in it.
    assert figures["ttft"] == 8.0 + 6.375 + 16.0
    assert figures["tpot"] == 6.375
    assert figures["prompt_energy"] == 0.5 * 16.0
    assert figures["energy"] == 0.125 * 8.0 + 0.5 * 16.0
    # Spread over the eight iterations that it is there for.
    assert figures["pace"] == 6.375 + 16.0 / 8.0


def test_a_long_prompt_costs_more_a_token_and_each_piece_something():
    shape = {"prefill_per_piece": 1.5, "prefill_per_token2": 2.0**-10}
    figures, _ = alone_with({"n_in": 256.0, "n_out": 8.0}, **shape)
    # 256^2 / 2 pairs of tokens of 2^-10 ms: 32 ms.
    own = 1.5 + 16.0 + 32.0
    assert figures["ttft"] == 8.0 + 6.375 + own
    assert figures["prompt_energy"] == 0.5 * own


def test_cached_tokens_lengthen_every_iteration():
    """1,000 of those there, 256 of its own prompt and half of its answer."""
    figures, _ = alone_with(
        {"n_in": 256.0, "n_out": 8.0}, batch=1.0, cached=1000.0, tpot_cached=2.0**-5
    )
    assert figures["tpot"] == 6.5 + (1000.0 + 256.0 + 4.0) / 32.0


def test_who_comes_waits_for_the_iteration_that_runs():
    """Two sequences without prompts: iterations of 6.5 ms, half of one is left on the mean."""
    figures, _ = alone_with({"n_out": 8.0}, batch=1.0)
    assert figures["ttft"] == 8.0 + 6.5 + 6.5 / 2.0
    # Half a request there is there half of the time.
    assert alone_with({"n_out": 8.0}, batch=0.5)[0]["ttft"] == pytest.approx(
        8.0 + 6.4375 + 0.5 * 6.4375 / 2.0
    )


def test_who_comes_waits_for_the_prompts_of_others():
    """One prompt of 65 ms every 100 iterations of 6.5 ms, so 0.65 of each: an iteration with it is
    met more often than one in a hundred, and its prompt is queued before the newcomer's."""
    ask = {"n_out": 8.0}
    figures, _ = alone_with(ask, batch=1.0, prompts=0.65, prompts2=65.0**2 / 100.0)
    pace = 6.5 + 0.65
    longer = pace + 42.25 * pace / (6.5 * (pace + 0.65))
    assert figures["ttft"] == pytest.approx(8.0 + 6.5 + (0.5 + 0.65 / pace) * longer)
    assert figures["tpot"] == pytest.approx(pace)


def test_who_comes_waits_for_the_prompts_that_this_gateway_sent_before():
    """All of those there are its own: half an iteration of 6.5 ms, and 40 ms that are not read."""
    there = {"batch": 1.0, "own": 1.0, "backlog_ends": 8.040, "backlog_most": 1000.0}
    figures, _ = alone_with({"n_out": 8.0, "now": 8.0}, **there)
    assert figures["ttft"] == pytest.approx(8.0 + 6.5 + 6.5 / 2.0 + 40.0)
    # Meanwhile others come, as many as usual: a tenth of the time is theirs.
    prompts = 6.5 / 9.0
    figures, _ = alone_with({"n_out": 8.0, "now": 8.0}, **there, prompts=prompts)
    assert figures["ttft"] == pytest.approx(8.0 + 6.5 + (6.5 / 2.0 + 40.0) * 1.1)
    # Later there is nothing left of it, and a clock that is set back makes it no more than it was.
    for now, left in ((9.0, 0.0), (-1e6, 1000.0)):
        figures, _ = alone_with({"n_out": 8.0, "now": now}, **there)
        assert figures["ttft"] == pytest.approx(8.0 + 6.5 + 6.5 / 2.0 + left)


def test_a_burst_goes_elsewhere_before_its_prompts_queue_up():
    ask = {"n_out": 8.0, "now": 8.0, "ttft_budget": 500.0}
    there = {"batch": 3.0, "own": 3.0, "backlog_most": 1e6}
    assert alone_with(ask, **there, backlog_ends=8.4)[0]["reason"] == "feasible"
    assert alone_with(ask, **there, backlog_ends=8.5)[0]["reason"] == "ttft"


def test_an_iteration_reads_no_more_than_a_chunk():
    figures, _ = alone_with({"n_out": 8.0}, batch=1.0, prompts=40.0, prompts2=400.0, chunk=10.0)
    assert figures["tpot"] == 6.5 + 10.0


@pytest.mark.parametrize(("batch", "prompt_ms", "tokens"), [(10, 16.0, 32.0), (60, 64.0, 256.0)])
def test_requests_of_one_kind_meet_the_fixed_point_of_their_own_rate(batch, prompt_ms, tokens):
    """SCIENCE, 1b: TPOT = D / (1 - c_L r), where b requests of n tokens make r = b / (n TPOT)."""
    prompts = batch * prompt_ms / tokens
    figures, _ = alone_with({"n_out": tokens}, batch=float(batch), prompts=prompts)
    rate = batch / (tokens * figures["tpot"])
    decode = 6.25 + 0.125 * (batch + 1)
    assert figures["tpot"] == pytest.approx(decode / (1.0 - prompt_ms * rate))


def test_prompts_alone_fill_nothing():
    """Nobody minds: short answers to long prompts, one after the other, or a slow replica alone."""
    for batch, prompts, slope in ((0.0, 0.0, 33.0), (1.0, 700.0, 0.125), (40.0, 9e4, 0.125)):
        figures, chosen = alone_with(
            {"n_out": 1.0}, batch=batch, prompts=prompts, tpot_base=1.0, tpot_slope=slope
        )
        assert (figures["reason"], chosen) == ("feasible", True)


@pytest.mark.parametrize(("n_in", "n_out"), [(8192.0, 1.0), (1e6, 1.0), (1e6, 0.0)])
def test_a_prompt_that_is_long_for_its_answer_is_welcome_where_there_is_time(n_in, n_out):
    """To classify, to rate: it takes long and nobody is overrun by it."""
    for batch, prompts in ((0.0, 0.0), (8.0, 100.0)):
        figures, chosen = alone_with({"n_in": n_in, "n_out": n_out}, batch=batch, prompts=prompts)
        assert (figures["reason"], chosen) == ("feasible", True)
        assert figures["pace"] > 208.34


def test_a_heavy_prompt_stays_away_where_it_would_break_the_budget_of_one_that_is_there():
    ask = {"n_in": 256.0, "n_out": 8.0}
    # 6.5 ms of two sequences and 16 / 8 of its prompt.
    for cap, reason in ((8.375, "full"), (8.5, "feasible")):
        assert alone_with(ask, batch=1.0, pace_cap=cap)[0]["reason"] == reason
    # The same prompt over a longer answer fits.
    longer = {**ask, "n_out": 16.0}
    assert alone_with(longer, batch=1.0, pace_cap=8.375)[0]["reason"] == "feasible"


@pytest.mark.parametrize("n_out", [0.0, 1e-300, 0.25, 1.0])
def test_less_than_one_token_is_there_for_one_iteration(n_out):
    assert alone_with({"n_in": 256.0, "n_out": n_out})[0]["pace"] == 6.375 + 16.0


def test_beyond_the_batch_those_who_wait_slow_nobody_down():
    """Seven there, and one: of eight four run, with half of the prompts and of the cached."""
    figures, _ = alone_with(
        {"n_in": 256.0, "n_out": 8.0}, batch=7.0, max_batch=4, prompts=4.0, cached=1024.0,
        tpot_cached=2.0**-8,
    )  # fmt: skip
    # Once it runs, its own prompt and answer are there as a whole.
    decode = 6.25 + 4 * 0.125 + (1024.0 / 2.0 + 256.0 + 4.0) / 256.0
    assert figures["tpot"] == decode + 2.0
    assert figures["pace"] == decode + 2.0 + 16.0 / 8.0
    prefill = 8.0 + decode + 16.0 + (0.5 + 2.0 / (decode + 2.0)) * (decode + 2.0)
    queue = 4.0 * (prefill + 8.0 * (decode + 2.0)) / 4.0
    assert figures["ttft"] == pytest.approx(prefill + queue)


def test_a_budget_becomes_a_cap_of_the_pace():
    world, ask = llamas(0)
    ask.update(n_out=8.0, n_out_q=16.0, tpot_budget=40.0)
    assert choose(world, ask, 0.0)[-1] == k.floor_pace(40.0)
    # 14.375 ms to the first token, and 16 tokens within the rest of 254.375 ms: 15 ms each.
    ask.update(e2e_budget=254.375)
    assert choose(world, ask, 0.0)[-1] == k.floor_pace(15.0)
    # A request that is slow by its own doing does not shut the door behind itself.
    ask.update(n_in=4096.0, e2e_budget=math.inf, tpot_budget=7.0)
    mine = evaluate(world, ask)[0]["pace"]
    assert mine == 6.375 + 256.0 / 8.0
    assert mine < choose(world, ask, 0.0)[-1] < mine * 1.004
    world["regions"][0]["candidates"][0].update(TASK)
    ask.update(tpot_budget=7.0, e2e_budget=900.0, n_in=0.0)
    assert choose(world, ask, 0.0)[-1] == math.inf


# From the far ends of what a float can say.
WILD = st.sampled_from([0.0, 1e-308, 1e-300, 1.0, 1e8, 9e18, 1e300, 1e308, math.inf, math.nan])


@settings(max_examples=400, deadline=None)
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
        assert all(math.isfinite(premium) for premium in after(world, ask))


@settings(max_examples=300, deadline=None)
@given(
    worlds(), ASKS, UNIFORM, st.integers(0, 30),
    st.sampled_from(["prompts", "prompts2", "cached", "prefill_per_piece", "prefill_per_token",
                     "prefill_per_token2", "tpot_cached", "j_per_prompt"]),
    st.sampled_from([math.nan, math.inf, 1e308]),
)  # fmt: skip
def test_wild_prompts_are_never_chosen_nor_told(world, ask, u, at, name, value):
    rows = naive.rows_of(world)
    rows[at % len(rows)][3][name] = value
    row, *figures = choose(world, ask, u)
    if row >= 0:
        assert all(math.isfinite(figure) for figure in figures[:6])
        assert math.isfinite(evaluate(world, ask)[row]["pace"])
    if not math.isfinite(value):
        reason = evaluate(world, ask)[at % len(rows)]["reason"]
        assert reason in ("unhealthy", "residency", "context", "not_finite")


def test_a_candidate_without_finite_figures_is_left_out():
    world, ask = crossing([100.0, 300.0], 0.0)
    world["regions"][0]["candidates"][0]["j_per_request"] = 1e308
    world["regions"][0]["pue"] = 1e10
    assert choose(world, ask, 0.0)[0] == 1
    assert evaluate(world, ask)[0]["reason"] == "not_finite"


def test_a_run_without_an_end_is_left_out_though_nothing_weighs_it():
    world, ask = crossing([100.0, 300.0], 0.0)
    world["rule"]["weights"] = dict.fromkeys(world["rule"]["weights"], 0.0)
    ask["n_out"] = 1e308
    for region in world["regions"]:
        region["candidates"][0]["tpot_base"] = 10.0
    assert choose(world, ask, 0.0)[0] == -1
    assert {one["reason"] for one in evaluate(world, ask)} == {"not_finite"}


def after(world, ask, times=1):
    """The premium of every region after ``times`` like requests; all of its rows agree."""
    table, live, labels, starts, params, scratch = arrays(world)
    before = live.copy()
    for _ in range(times):
        given = numbers(world, ask)
        if k.choose(table, live, labels, starts, params, *given, 0.0, scratch)[0] >= 0:
            untouched = live.copy()
            k.learn_premiums(table, live, labels, starts, params, *given, scratch[k.S_BEST])
            assert (untouched[k.BATCH] == live[k.BATCH]).all()
    unchanged = [row for row in range(k.LIVE_ROWS) if row != k.PREMIUM]
    assert (live[unchanged] == before[unchanged]).all()
    found = []
    for first, end in itertools.pairwise(starts.tolist()):
        assert len(set(live[k.PREMIUM, first:end].tolist())) == 1
        found.append(live[k.PREMIUM, first])
    return found


@settings(max_examples=200, deadline=None)
@given(worlds(), ASKS, UNIFORM)
def test_a_choice_writes_nothing_but_scratch(world, ask, u):
    table, live, labels, starts, params, scratch = arrays(world)
    before = [one.copy() for one in (table, live, labels, starts, params)]
    k.choose(table, live, labels, starts, params, *numbers(world, ask), u, scratch)
    for one, copy in zip((table, live, labels, starts, params), before, strict=True):
        assert one.tobytes() == copy.tobytes()


@st.composite
def crowded(draw):
    """Worlds whose cleaner regions are often full, under a policy that prices room."""
    world = draw(worlds())
    world["rule"].update(scarcity=0.9, max_grams=math.inf, max_ci=math.inf)
    world["rule"]["weights"]["grams"] = 1.0
    for region in world["regions"]:
        full = draw(st.booleans())
        region["ci"] = [draw(st.floats(1.0, 1000.0))] * world["rule"]["hours"]
        for c in region["candidates"]:
            c.update(eligible=True, context=math.inf, pace_cap=math.inf)
            c["batch"] = float(c["max_in_flight"]) if full else 0.0
    return world


def unbounded(ask):
    limits = dict.fromkeys(("ttft_budget", "tpot_budget", "e2e_budget"), math.inf)
    return {**ask, **limits, "residency": ANYWHERE, "n_out": min(ask["n_out"], 200.0)}


@settings(max_examples=600, deadline=None)
@given(st.tuples(worlds(), ASKS) | st.tuples(crowded(), ASKS.map(unbounded)))
def test_premiums_agree_with_the_twin(drawn):
    world, ask = drawn
    rule = world["rule"]
    for _, _, region, c in naive.rows_of(world):
        assume(not naive.on_the_edge(region, c, ask, rule))
        alone = {**c, "batch": 0.0}
        assume(not naive.on_the_edge(region, alone, ask, rule))
    expected = naive.premiums(world, evaluate(world, ask), ask)
    assert after(world, ask) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def scarce(full, scarcity=0.9, **changes):
    """A clean region of one place and a dirty one, 1 kWh a request; ``full``: it is taken."""
    world, ask = crossing([100.0, 300.0], 0.0)
    world["rule"]["scarcity"] = scarcity
    clean = world["regions"][0]
    clean["candidates"] = [{**clean["candidates"][0], "batch": float(full), **changes}]
    return world, ask


def test_a_premium_rises_towards_a_share_of_what_the_room_is_worth_to_those_without():
    world, ask = scarce(full=True)
    capacity = 2.0
    assert after(world, ask) == pytest.approx([min(1.0, k.RISE / capacity) * 180.0, 0.0])
    # 200 g/kWh are lost by going elsewhere, however often.
    assert after(world, ask, times=50) == pytest.approx([180.0, 0.0])
    assert after(*scarce(full=True, scarcity=0.0)) == [0.0, 0.0]


def test_a_gain_over_next_to_no_energy_is_no_price():
    world, ask = scarce(full=True, max_premium=600.0, j_per_request=1e-300)
    world["rule"]["weights"]["e2e"] = 1.0
    world["regions"][1]["candidates"][0]["prefill_base"] = 1e6
    assert after(world, ask, times=1000)[0] <= 540.0
    world["regions"][0]["candidates"][0]["batch"] = 0.0
    world["regions"][0]["premium"] = 540.0
    assert after(world, ask, times=100)[0] == 0.0


def test_where_no_price_is_too_much_an_endless_one_is_none():
    world, ask = scarce(full=True, max_premium=math.inf, j_per_request=1e-308)
    world["rule"]["weights"]["e2e"] = 1.0
    world["regions"][1]["candidates"][0]["prefill_base"] = 1e6
    assert after(world, ask, times=3)[0] == 0.0


def test_whoever_lacks_only_room_counts_and_nobody_else():
    assert after(*scarce(full=True, eligible=False)) == [0.0, 0.0]
    world, ask = scarce(full=True)
    assert after(world, {**ask, "ttft_budget": 0.5}) == [0.0, 0.0]
    # Full for this request, though not for others: those who run there tolerate no more.
    llama = {**LLAMA, "j_per_token": 0.0, "j_per_request": 3.6e6, "wake_w": 0.0}
    assert after(*scarce(full=True, max_in_flight=5, pace_cap=6.375, **llama))[0] > 0.0
    # Nor for one whose prompt nobody there would bear.
    world, ask = scarce(full=True, max_in_flight=5, pace_cap=7.0, **llama)
    assert after(world, ask)[0] == 0.0
    assert after(world, {**ask, "n_in": 256.0})[0] > 0.0


def test_a_premium_falls_while_there_is_room():
    for batch, free in ((99.0, 0.01), (50.0, 0.5), (0.0, 1.0)):
        world, ask = scarce(full=False, max_in_flight=100, max_batch=100, batch=batch)
        world["regions"][0]["premium"] = 100.0
        fall = min(1.0, (k.FALL + k.FALL_EMPTY * free) / 101.0)
        assert after(world, ask)[0] == pytest.approx(100.0 * (1.0 - fall))
    world["regions"][0]["premium"] = k.LEAST_PREMIUM
    assert after(world, ask)[0] == 0.0


def test_the_premium_sends_away_those_who_lose_least_by_it():
    """Of 1 kWh at 100 g/kWh with a premium of 150: dearer than 240 elsewhere, cheaper than 300."""
    for elsewhere, row in ((240.0, 1), (300.0, 0)):
        world, ask = crossing([100.0, elsewhere], 0.0)
        world["regions"][0]["premium"] = 150.0
        assert choose(world, ask, 0.5)[0] == row
        assert evaluate(world, ask)[0]["premium"] == pytest.approx(150.0)
        assert evaluate(world, ask)[0]["grams"] == pytest.approx(100.0)


@pytest.mark.parametrize(("within", "chosen"), [(0.0, 1), (0.05, 1), (1000.0, 0)])
def test_a_fuller_replica_is_packed_though_it_costs_more(within, chosen):
    """Where latency or load is what is weighed, the emptiest is the cheapest."""
    world, ask = _one_run(1.0, [100.0], 3600.0)
    template = world["regions"][0]["candidates"][0]
    world["regions"][0]["candidates"] = [
        {**template, "max_in_flight": 10, "batch": batch, "own": batch} for batch in (8.0, 3.0)
    ]
    world["rule"].update(pack=True, pack_until=1.0, pack_within=within)
    world["rule"]["weights"] = dict.fromkeys(world["rule"]["weights"], 0.0) | {"load": 1.0}
    assert choose(world, ask, 0.3)[0] == chosen
