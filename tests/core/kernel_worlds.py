"""Worlds for the cost kernel: drawn at random or made by hand, and told to it as arrays.

What a world is: `tests.core.naive_terms`.
"""

import itertools
import math

import numpy as np
from hypothesis import strategies as st

from router.core import evaluation, kernel, premiums, waking
from router.core import kernel_rows as k
from router.core.layout import ANYWHERE
from tests.core import naive_terms

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
    "tpot_factor": 1.0, "backlog_ends": 0.0, "backlog_most": 0.0, "paced_until": 0.0, "turns": 0,
    "ttft_delay": 0.0, "max_premium": math.inf, "context": math.inf, "cached_prompt": 0.0,
    "releases_at": math.inf, "woken_at": 0.0, "waking_ms": 0.0, "waking_j": 0.0, "unserved": 0.0,
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
        "paced_until": draw(st.sampled_from([-1e9, 7.0, 8.0, 8.0625, 8.5, 9.0, 1e9])),
        "awake": draw(st.booleans()),
        "max_premium": draw(st.sampled_from([0.0, 100.0, 5000.0, math.inf])),
        "eligible": draw(st.sampled_from([True, True, True, False])),
        "pace_cap": draw(st.sampled_from([math.inf, math.inf, 6.375, 7.0, 40.0, 256.0])),
        "ttft_factor": draw(factors),
        "queue_factor": draw(factors),
        "tpot_factor": draw(factors),
        "turns": draw(st.integers(0, 5)),
        # No more than of the longest prompt but one of those that are asked; of none: none.
        "cached_prompt": draw(st.sampled_from([0.0, 0.0, 48.0, 60.5, 3984.0])),
        "ttft_delay": draw(st.sampled_from([0.0, 0.0, 8.0]) | st.floats(0.0, 100.0)),
        # Idle for long, until NOW, and in use; of those that wake, in a moment.
        "releases_at": draw(st.sampled_from([-1e9, 7.0, 8.0, math.inf, math.inf])),
        "woken_at": draw(st.sampled_from([0.0, 0.0, 8.0, 8.0625, 68.0])),
        "waking_ms": draw(st.sampled_from([0.0, 64.0, 60_000.0])),
        "waking_j": draw(st.sampled_from([0.0, 1024.0, 1e6])),
        "unserved": draw(st.sampled_from([0.0, 0.0, 0.001, 1e9])),
    }


def regions(hours):
    return st.fixed_dictionaries({
        "rtt": st.tuples(*[st.sampled_from([0.0, 10.0, 10.5, 80.0, 250.0])] * 2),
        "pue": st.sampled_from([1.0, 1.0, 1.25, 1.6]),
        "ci": st.lists(ci_values, min_size=hours, max_size=hours) | st.none(),
        "label": st.integers(0, 7),
        "premium": st.sampled_from([0.0, 0.0, 0.0005, 40.0]) | st.floats(0.0, 500.0),
        "worth": st.sampled_from([0.0, 0.0, 0.0005, 40.0]) | st.floats(0.0, 500.0),
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
    rows = naive_terms.rows_of(world)
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
        k.MAX_PREMIUM: "max_premium", k.WAKING_MS: "waking_ms", k.WAKING_J: "waking_j",
    }  # fmt: skip
    moving = {
        k.BATCH: "batch", k.ELIGIBLE: "eligible", k.PACE_CAP_MS: "pace_cap",
        k.TTFT_FACTOR: "ttft_factor", k.QUEUE_FACTOR: "queue_factor",
        k.TPOT_FACTOR: "tpot_factor", k.TURNS: "turns",
        k.TTFT_DELAY: "ttft_delay",
        k.OWN: "own", k.AWAKE: "awake", k.PROMPTS_MS: "prompts", k.PROMPTS_MS2: "prompts2",
        k.CACHED_TOKENS: "cached", k.BACKLOG_ENDS_S: "backlog_ends",
        k.BACKLOG_MOST_MS: "backlog_most", k.PACED_UNTIL_S: "paced_until",
        k.RELEASES_AT_S: "releases_at", k.WOKEN_AT_S: "woken_at", k.UNSERVED: "unserved",
    }  # fmt: skip
    for row, _, region, c in rows:
        for at, name in static.items():
            table[at, row] = c[name]
        for at, name in moving.items():
            live[at, row] = c[name]
        live[k.PREMIUM, row] = region["premium"]
        live[k.WORTH, row] = region["worth"]
        live[k.FOREIGN, row] = naive_terms.foreign_part(c)
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
    # However much of other prompts is cached: of a task's, and beyond this one's length, nothing.
    for _, _, _, c in naive_terms.rows_of(world):
        c["cached_prompt"] = min(c["cached_prompt"], max(0.0, ask["n_in"] - 1.0))
    cached = np.array([c["cached_prompt"] for *_, c in naive_terms.rows_of(world)])
    return (
        k.CI_FROM + world["rule"]["hours"] + ask["origin"], ask["n_in"], ask["n_out"],
        ask["n_out_q"], ask["network_j"], ask["ttft_budget"], ask["tpot_budget"],
        ask["e2e_budget"], ask["residency"], ask["slot_left_s"], ask["now"],
        cached,
    )  # fmt: skip


def choose(world, ask, u):
    table, live, labels, starts, params, scratch = arrays(world)
    return kernel.choose(table, live, labels, starts, params, *numbers(world, ask), u, scratch)


def evaluate(world, ask):
    """Figures of every row by name, with its "reason"."""
    table, live, labels, _, params, _ = arrays(world)
    n = live.shape[1]
    out, reasons = np.full((n, k.EVALUATED), np.nan), np.full(n, -1)
    evaluation.evaluate(table, live, labels, params, *numbers(world, ask), out, reasons)
    return [
        {**{name: row[at] for name, at in EVALUATED.items()}, "reason": NAMES[int(reason)]}
        for row, reason in zip(out, reasons, strict=True)
    ]


def worths_after(world, ask, times=1):
    """(worth, premium) of every region after ``times`` like requests; all of its rows agree."""
    table, live, labels, starts, params, scratch = arrays(world)
    before = live.copy()
    for _ in range(times):
        given = numbers(world, ask)
        if kernel.choose(table, live, labels, starts, params, *given, 0.0, scratch)[0] >= 0:
            untouched = live.copy()
            premiums.learn_premiums(table, live, labels, starts, params, *given, scratch[k.S_BEST])
            assert (untouched[k.BATCH] == live[k.BATCH]).all()
    unchanged = [row for row in range(k.LIVE_ROWS) if row not in (k.PREMIUM, k.WORTH)]
    assert (live[unchanged] == before[unchanged]).all()
    found = []
    for first, end in itertools.pairwise(starts.tolist()):
        assert len(set(live[k.PREMIUM, first:end].tolist())) == 1
        assert len(set(live[k.WORTH, first:end].tolist())) == 1
        found.append((live[k.WORTH, first], live[k.PREMIUM, first]))
    return found


def premiums_after(world, ask, times=1):
    """As `worths_after`, the premiums alone."""
    return [premium for _, premium in worths_after(world, ask, times)]


def wanted_awake(world, ask, paid):
    """(row that is to be awake, what each row then went without)."""
    table, live, labels, _, params, _ = arrays(world)
    before = live.copy()
    row = waking.wanted_awake(table, live, labels, params, *numbers(world, ask), paid)
    unchanged = [at for at in range(k.LIVE_ROWS) if at != k.UNSERVED]
    assert (live[unchanged] == before[unchanged]).all()
    return row, live[k.UNSERVED].tolist()


def one_run(run_s, ci, slot_left_s):
    candidate = {
        **TASK, **QUIET, "prefill_base": run_s * 1e3, "prefill_per_in_flight": 0.0,
        "j_per_request": 3.6e6, "max_in_flight": 1,
    }  # fmt: skip
    region = {
        "rtt": (0.0,), "pue": 1.0, "ci": ci, "label": 1, "premium": 0.0, "worth": 0.0,
        "candidates": [candidate],
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


def crossing(ci, near_tie):
    """One candidate a region, alike but for the region's intensity; 1 kWh a request."""
    world, ask = one_run(1.0, [ci[0]], 3600.0)
    world["rule"]["near_tie"] = near_tie
    template = world["regions"][0]
    world["regions"] = [{**template, "ci": [value]} for value in ci]
    return world, ask


def llamas(*batches, **changes):
    """One region of replicas that decode ``batches`` sequences; a request without a prompt."""
    world, ask = one_run(1.0, [100.0], 3600.0)
    world["regions"][0]["candidates"] = [
        {
            **LLAMA, **QUIET, "wake_w": 0.0, "max_in_flight": 100, "batch": float(b),
            "own": float(b), **changes,
        }
        for b in batches
    ]  # fmt: skip
    return world, ask


def alone_with(ask, **changes):
    """Figures of the one replica, and whether it is chosen."""
    world, idle = llamas(0, **changes)
    ask = {**idle, **ask}
    return evaluate(world, ask)[0], choose(world, ask, 0.0)[0] == 0
