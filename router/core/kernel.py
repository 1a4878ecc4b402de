"""The numba cost kernel: feasibility, latency quantile, grams and choice in one pass.

Plain loops over float64 columns (``router.core.columns`` lays them out), explicit signatures,
compiled when the module is imported and cached on disk. ``tests/core/naive_kernel.py`` is its slow,
obvious twin.

For candidate i with b requests there (own and foreign), n_in and n_out expected tokens:

    prefill  = (base + per_token * n_in + per_in_flight * b) * ttft_factor
    tpot     = (tpot_base + tpot_slope * min(b + 1, max_batch))
    run      = prefill + n_out * tpot
    queue    = max(0, b + 1 - max_batch) * run / max_batch
    ttft     = rtt + queue + prefill
    e2e      = ttft + n_out_quantile * tpot * tpot_factor
    energy   = j_per_token * n_out + j_per_request (+ wake_w * run, when b < 1)
    grams    = (energy * PUE + network) / 3.6e6 * CI, CI averaged over the run
    cost     = w_g * grams + w_ttft * ttft + w_e2e * e2e + w_load * b / cap + w_turn * turns

Sources: SCIENCE sections 1-4. ``*_factor`` carry the live error distribution to the quantile.
Candidates are sorted by region, so that a region is a range of rows; no region is empty, and RTT,
PUE, CI and jurisdictions are the same throughout a region.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

# Rows of the table, shape (CI_FROM + hours + origins, n): one column a candidate.
PREFILL_BASE_MS = 0
PREFILL_MS_PER_TOKEN = 1
PREFILL_MS_PER_IN_FLIGHT = 2
TPOT_BASE_MS = 3
TPOT_MS_PER_SEQUENCE = 4
MAX_BATCH = 5
PER_MAX_BATCH = 6
MAX_IN_FLIGHT = 7
PER_MAX_IN_FLIGHT = 8
J_PER_TOKEN = 9
J_PER_REQUEST = 10
WAKE_W = 11
KWH_PER_J = 12
CONTEXT_TOKENS = 13
CI_FROM = 14

# Rows of the live board, shape (LIVE_ROWS, n).
BATCH = 0
ELIGIBLE = 1
BATCH_CAP = 2
TTFT_FACTOR = 3
TPOT_FACTOR = 4
TURNS = 5
LIVE_ROWS = 6

# The policy's parameters.
W_GCO2E = 0
W_TTFT = 1
W_E2E = 2
W_LOAD = 3
W_TURN = 4
NEAR_TIE = 5
PACK = 6
PACK_UNTIL = 7
MAX_GCO2E = 8
MAX_G_PER_KWH = 9
CI_HOURS = 10
PARAMS = 11

# The CI of a grid zone that no source knows: finite, so that 0 * CI is 0 where a policy does not
# weigh carbon, and beyond any limit, so that it can never look clean.
UNKNOWN_CI = 1e30
ANY_CI = np.inf
KNOWN_CI = 1e29

# Why a candidate is excluded; the first that holds.
FEASIBLE = 0
UNHEALTHY = 1
RESIDENCY = 2
CONTEXT = 3
CARBON_UNKNOWN = 4
CARBON_BUDGET = 5
FULL = 6
TTFT_BUDGET = 7
TPOT_BUDGET = 8
E2E_BUDGET = 9

# Columns of what `evaluate` writes, shape (n, EVALUATED).
E_COST = 0
E_RTT = 1
E_TTFT = 2
E_TPOT = 3
E_E2E = 4
E_ENERGY = 5
E_CI = 6
E_GRAMS = 7
E_BATCH = 8
EVALUATED = 9

_S_PER_HOUR = 3600.0
_KWH_PER_J = 1.0 / 3.6e6

_REQUEST = "i8, f8, f8, f8, f8, f8, f8, f8, i8, f8"
# No reference counting: in these loops it costs more than all of the arithmetic. In return a
# kernel cannot allocate, so callers hand in every array that is written to.
_OPTIONS = {"error_model": "numpy", "_nrt": False}
_inlined = numba.njit(inline="always", **_OPTIONS)


class _Ask(NamedTuple):
    """A request: what is the same for every candidate. ``residency``: bits, 0 for anywhere."""

    n_in: float
    n_out: float
    n_out_q: float
    network_kwh: float
    ttft_budget: float
    tpot_budget: float
    e2e_budget: float
    residency: int
    slot_left_s: float


class _Rule(NamedTuple):
    """The policy's share of a candidate's terms. ``balances``: load or turns have a weight; most
    policies spare themselves those two columns.
    """

    w_g: float
    w_ttft: float
    w_e2e: float
    w_load: float
    w_turn: float
    balances: bool
    max_grams: float
    max_ci: float
    hours: int


class _Place(NamedTuple):
    """What is the same throughout a region. ``ci``: of the current hour; ``label``: bits."""

    rtt: float
    kwh_per_j: float
    ci: float
    label: int


class _Terms(NamedTuple):
    """One candidate, named as in the module's formulas; ``tpot`` and ``e2e`` at the quantile."""

    batch: float
    ttft: float
    tpot: float
    e2e: float
    run_s: float
    energy: float
    ci: float
    grams: float
    cost: float


@numba.njit("f8(f8[:,::1], i8, i8, f8, f8)", cache=True, **_OPTIONS)
def _mean_ci(table, i, hours, slot_left_s, run_s):
    """CI averaged over a run that starts ``slot_left_s`` before the first hour ends; g/kWh.

    Not positive where the columns are older than that. The last hour's CI holds ever after.
    """
    hour = 0
    while slot_left_s <= 0.0:
        slot_left_s += _S_PER_HOUR
        hour += 1
    last = hours - 1
    if run_s <= slot_left_s or hour >= last:
        return table[CI_FROM + min(hour, last), i]
    total = 0.0
    left = run_s
    while left > slot_left_s and hour < last:
        total += table[CI_FROM + hour, i] * slot_left_s
        left -= slot_left_s
        slot_left_s = _S_PER_HOUR
        hour += 1
    return (total + table[CI_FROM + hour, i] * left) / run_s


@_inlined
def _rule(params):
    return _Rule(
        params[W_GCO2E], params[W_TTFT], params[W_E2E], params[W_LOAD], params[W_TURN],
        params[W_LOAD] != 0.0 or params[W_TURN] != 0.0,
        params[MAX_GCO2E], params[MAX_G_PER_KWH], int(params[CI_HOURS]),
    )  # fmt: skip


@_inlined
def _place(table, labels, i, rtt_row):
    return _Place(table[rtt_row, i], table[KWH_PER_J, i], table[CI_FROM, i], labels[i])


@_inlined
def _terms(table, live, i, place, ask, rule):
    """Every figure of candidate i; see the module."""
    batch = live[BATCH, i]
    over = batch + 1.0 - table[MAX_BATCH, i]
    prefill = (
        table[PREFILL_BASE_MS, i]
        + table[PREFILL_MS_PER_TOKEN, i] * ask.n_in
        + table[PREFILL_MS_PER_IN_FLIGHT, i] * batch
    ) * live[TTFT_FACTOR, i]
    running = batch + 1.0
    ttft = place.rtt + prefill
    if over > 0.0:
        running = table[MAX_BATCH, i]
    tpot = table[TPOT_BASE_MS, i] + table[TPOT_MS_PER_SEQUENCE, i] * running
    run_ms = prefill + ask.n_out * tpot
    if over > 0.0:
        ttft += over * run_ms * table[PER_MAX_BATCH, i]
    tpot_q = tpot * live[TPOT_FACTOR, i]
    e2e = ttft + ask.n_out_q * tpot_q
    run_s = run_ms * 1e-3
    energy = table[J_PER_TOKEN, i] * ask.n_out + table[J_PER_REQUEST, i]
    if batch < 1.0:
        energy += table[WAKE_W, i] * run_s
    ci = place.ci
    if run_s > ask.slot_left_s:
        ci = _mean_ci(table, i, rule.hours, ask.slot_left_s, run_s)
    # PUE belongs to the data centre; the network term has none.
    grams = (energy * place.kwh_per_j + ask.network_kwh) * ci
    cost = rule.w_g * grams + rule.w_ttft * ttft + rule.w_e2e * e2e
    if rule.balances:
        cost += rule.w_load * batch * table[PER_MAX_IN_FLIGHT, i] + rule.w_turn * live[TURNS, i]
    return _Terms(batch, ttft, tpot_q, e2e, run_s, energy, ci, grams, cost)


@_inlined
def _reason(table, live, i, place, ask, rule, terms):
    """The first constraint that candidate i breaks, or FEASIBLE."""
    reason = FEASIBLE
    if live[ELIGIBLE, i] == 0.0:
        reason = UNHEALTHY
    elif ask.residency != 0 and (place.label & ask.residency) == 0:
        reason = RESIDENCY
    elif ask.n_in + ask.n_out > table[CONTEXT_TOKENS, i]:
        reason = CONTEXT
    elif terms.ci > rule.max_ci:
        reason = CARBON_UNKNOWN if terms.ci > KNOWN_CI else CARBON_BUDGET
    elif terms.grams > rule.max_grams:
        reason = CARBON_BUDGET
    elif terms.batch + 1.0 > table[MAX_IN_FLIGHT, i] or terms.batch + 1.0 > live[BATCH_CAP, i]:
        reason = FULL
    elif terms.ttft > ask.ttft_budget:
        reason = TTFT_BUDGET
    elif terms.tpot > ask.tpot_budget:
        reason = TPOT_BUDGET
    elif terms.e2e > ask.e2e_budget:
        reason = E2E_BUDGET
    return reason


@numba.njit("i8(f8[::1], f8, f8, f8)", cache=True, **_OPTIONS)
def _draw_region(best, best_cost, limit, u):
    """One of the near-tied regions, with odds that fall linearly with distance from the best.

    ``best``: cost of each region's best candidate. Many gateways that share one signal thus move
    traffic gradually while two regions cross, instead of all at once.
    """
    span = limit - best_cost
    total = 0.0
    for r in range(best.size):
        if best[r] <= limit:
            total += 1.0 - (best[r] - best_cost) / span if span > 0.0 else 1.0
    left = u * total
    chosen = -1
    for r in range(best.size):
        if best[r] <= limit:
            weight = 1.0 - (best[r] - best_cost) / span if span > 0.0 else 1.0
            if weight > 0.0 and left >= 0.0:
                chosen = r
            left -= weight
    return chosen


@numba.njit(
    f"Tuple((i8, f8, f8, f8, f8, f8, i8, f8, f8))"
    f"(f8[:,::1], f8[:,::1], i8[::1], i8[::1], f8[::1], {_REQUEST}, f8, f8[::1])",
    cache=True,
    **_OPTIONS,
)
def choose(
    table, live, labels, starts, params, rtt_row, n_in, n_out, n_out_q, network_j,
    ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, u, best,
):  # fmt: skip
    """Pick one candidate; ``u`` uniform in [0, 1) draws among near-tied regions.

    table (rows, n), live (LIVE_ROWS, n), labels (n,) jurisdiction bits, starts (regions + 1,) row
    ranges, params (PARAMS,), best (regions,) scratch. Returns (row, ttft_ms, tpot_ms, e2e_ms,
    energy_j, run_s, latency_first_row, latency_first_energy_j, latency_first_run_s); rows are -1
    when nothing is feasible.
    """
    ask = _Ask(
        n_in, n_out, n_out_q, network_j * _KWH_PER_J,
        ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s,
    )  # fmt: skip
    rule = _rule(params)
    best_cost = np.inf
    nearest, nearest_ttft, nearest_e2e = -1, np.inf, np.inf
    nearest_energy, nearest_run_s = np.nan, np.nan
    for r in range(best.size):
        best_here = np.inf
        place = _place(table, labels, np.uint64(starts[r]), rtt_row)
        # Unsigned rows spare numba's check for negative indices.
        for i in range(np.uint64(starts[r]), np.uint64(starts[r + 1])):
            terms = _terms(table, live, i, place, ask, rule)
            # As the latency-first policy: near before little loaded.
            nearer = terms.ttft < nearest_ttft or (
                terms.ttft == nearest_ttft and terms.e2e < nearest_e2e
            )
            # Most candidates improve nothing: their constraints need no look.
            if terms.cost < best_here or nearer:
                reason = _reason(table, live, i, place, ask, rule, terms)
                if reason == FEASIBLE:
                    if terms.cost < best_here:
                        best_here = terms.cost
                    if nearer:
                        nearest, nearest_ttft, nearest_e2e = np.int64(i), terms.ttft, terms.e2e
                        nearest_energy, nearest_run_s = terms.energy, terms.run_s
        best[r] = best_here
        best_cost = min(best_cost, best_here)
    if nearest < 0 or best_cost == np.inf:
        return -1, np.nan, np.nan, np.nan, np.nan, np.nan, -1, np.nan, np.nan
    limit = best_cost + params[NEAR_TIE] * abs(best_cost)
    region = _draw_region(best, best_cost, limit, u)
    place = _place(table, labels, np.uint64(starts[region]), rtt_row)
    row, best_key = -1, -np.inf
    ttft, tpot, e2e, energy, run_s = np.nan, np.nan, np.nan, np.nan, np.nan
    for i in range(np.uint64(starts[region]), np.uint64(starts[region + 1])):
        terms = _terms(table, live, i, place, ask, rule)
        fill = terms.batch * table[PER_MAX_IN_FLIGHT, i]
        key = -fill
        roomy = terms.batch + 1.0 <= params[PACK_UNTIL] * table[MAX_IN_FLIGHT, i]
        if params[PACK] != 0.0 and roomy:
            # Above every replica that is past the pack line, and the fuller the better.
            key = 1.0 + fill
        if terms.cost <= limit and key > best_key:
            reason = _reason(table, live, i, place, ask, rule, terms)
            if reason == FEASIBLE:
                row, best_key = np.int64(i), key
                ttft, tpot, e2e = terms.ttft, terms.tpot, terms.e2e
                energy, run_s = terms.energy, terms.run_s
    return row, ttft, tpot, e2e, energy, run_s, nearest, nearest_energy, nearest_run_s


@numba.njit(
    f"void(f8[:,::1], f8[:,::1], i8[::1], f8[::1], {_REQUEST}, f8[:,::1], i8[::1])",
    cache=True,
    **_OPTIONS,
)
def evaluate(
    table, live, labels, params, rtt_row, n_in, n_out, n_out_q, network_j,
    ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, out, reasons,
):  # fmt: skip
    """Every term of every candidate into ``out`` (n, EVALUATED) and ``reasons`` (n,).

    The same arithmetic as `choose`, for explanations and for telling why nothing is feasible.
    """
    ask = _Ask(
        n_in, n_out, n_out_q, network_j * _KWH_PER_J,
        ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s,
    )  # fmt: skip
    rule = _rule(params)
    for i in range(np.uint64(table.shape[1])):
        place = _place(table, labels, i, rtt_row)
        terms = _terms(table, live, i, place, ask, rule)
        out[i, E_COST] = terms.cost
        out[i, E_RTT] = place.rtt
        out[i, E_TTFT] = terms.ttft
        out[i, E_TPOT] = terms.tpot
        out[i, E_E2E] = terms.e2e
        out[i, E_ENERGY] = terms.energy
        out[i, E_CI] = terms.ci
        out[i, E_GRAMS] = terms.grams
        out[i, E_BATCH] = terms.batch
        reasons[i] = _reason(table, live, i, place, ask, rule, terms)
