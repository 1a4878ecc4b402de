"""The numba cost kernel: feasibility, latency quantile, grams and choice.

Plain loops over float64 columns (``router.core.columns`` lays them out), explicit signatures,
compiled when the module is imported and cached on disk. ``tests/core/naive_kernel.py`` is its slow,
obvious twin.

For candidate i with b requests there (own and foreign), n_in and n_out expected tokens:

    own      = per_piece + per_token * n_in + per_token2 * n_in**2 / 2    of iterations, ms
    cached   = cached tokens of those b, and n_in + n_out / 2
    decode   = tpot_base + tpot_slope * min(b + 1, max_batch) + tpot_cached * cached
    pace     = decode + prompts
    backlog  = what is left until backlog_ends, at most backlog_most
    known    = (decode / 2 + backlog) * (1 + prompts / pace)
    usual    = (1/2 + prompts / pace) * (pace + prompts2 * pace / (decode * (pace + prompts)))
    queue    = known + max(0, usual - known) * foreign, nothing where b is 0
    prefill  = base + per_in_flight * b + decode + own
    first    = prefill * ttft_factor + queue * queue_factor
    tpot     = decode + min(prompts, chunk)
    run      = first + n_out * tpot
    turn     = max(0, b + 1 - max_batch) * run / max_batch
    ttft     = rtt + ttft_delay + turn + first
    e2e      = ttft + n_out_quantile * tpot * tpot_factor
    energy   = (j_per_token + j_per_cached_token * (n_in + n_out / 2)) * n_out
               + j_per_prompt_ms * own + j_per_request (+ wake_energy * wake_w * run, when asleep)
    grams    = (energy * PUE + network) / 3.6e6 * CI, CI averaged over the run
    premium  = (energy * scarcity premium of the region
                (+ wake_premium * wake_w * run * CI, when asleep)) * PUE / 3.6e6
    cost     = w_g * (grams + premium) + w_ttft * ttft + w_e2e * e2e + w_load * b / cap
               + w_turn * turns

Prompts are work (SCIENCE, 1b). A request of prompt time w and n output tokens is there for about n
iterations, so that on the mean each of them carries w / n of it: ``prompts`` is the sum of that
over those b, ``prompts2`` the sum of w**2 / n; beyond max_batch both, and the cached tokens of
those b, count in proportion. An iteration then lasts ``pace``; it reads no more than ``chunk``.
With requests of one kind this is the fixed point TPOT = D / (1 - c_L r), which has no pole: where
prompts come faster than they can be read, requests gather until budgets or max_in_flight send the
next elsewhere. A task has no iterations, and other models' prompts beside it are none of its work.

Who comes waits for the running iteration to end and for the prompts that are read with or before
its own. Those that this gateway sent there are read in turn, without a pause but for the sequences
that decode: ``backlog_ends`` is when the last of them will be. That is ``known``; it is what stops
a burst, for which no mean holds. Of the ``foreign`` share of those there but the mean is known
(``usual``): the running iteration is longer than ``pace`` since long ones are met more often, and
prompts come while it runs.

The premium is a price, in grams that nobody emits: no receipt and no carbon limit counts it. The
scarcity premium (g/kWh) is a shadow price on the room of a region, learned from requests that are
forwarded (`learn_premiums`): who has a good alternative leaves room to who has none. The wake
premium holds back from waking a replica for next to nothing.

What a server says of its load (the foreign part of b) may only repel: it takes room and time. What
attracts goes by what this gateway knows itself: the fuller one to fill up by OWN, and AWAKE as
`router.core.seat` has it. A candidate whose figures are not all finite is excluded: its cost, and 0
times its run, is a sum over every term, so that this one comparison holds for all that leaves here.

Sources: SCIENCE sections 1-4. ``*_factor`` and ``ttft_delay`` (of the path, whatever the prompt)
carry the live error distribution to the quantile.
Candidates are sorted by region, so that a region is a range of rows; no region is empty, and RTT,
PUE, CI and jurisdictions are the same throughout a region.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numba.extending import intrinsic

from router.core.burden import context_tokens
from router.core.jit import OPTIONS, entry
from router.units import HOUR_S, J_PER_KWH

# Rows of the table, shape (CI_FROM + hours + origins, n): one column a candidate.
(
    PREFILL_BASE_MS, PREFILL_MS_PER_PIECE, PREFILL_MS_PER_TOKEN, HALF_PREFILL_MS_PER_TOKEN2,
    PREFILL_MS_PER_IN_FLIGHT, TPOT_BASE_MS, TPOT_MS_PER_SEQUENCE, TPOT_MS_PER_CACHED_TOKEN,
    CHUNK_MS, MAX_BATCH, PER_MAX_BATCH, MAX_IN_FLIGHT, PER_MAX_IN_FLIGHT, J_PER_TOKEN,
    J_PER_CACHED_TOKEN, J_PER_PROMPT_MS, J_PER_REQUEST, WAKE_W, KWH_PER_J, CONTEXT_TOKENS,
    PER_CAPACITY, MAX_PREMIUM, CI_FROM,
) = range(23)  # fmt: skip

# Rows of the live board, shape (LIVE_ROWS, n). PROMPTS_MS, PROMPTS_MS2, CACHED_TOKENS: of those in
# flight, as in the module's formulas. PACE_CAP_MS: the longest mean iteration that they tolerate.
# BACKLOG_ENDS_S: when the last prompt of this gateway's is read, on the clock of ``now_s``, which
# may be set back: hence BACKLOG_MOST_MS, all prompts of those there. FOREIGN: the share of BATCH
# that is none of OWN. PER_PLACE: 1 / (BATCH + 1).
(
    BATCH, ELIGIBLE, PACE_CAP_MS, TTFT_FACTOR, QUEUE_FACTOR, TPOT_FACTOR, TURNS, PREMIUM,
    TTFT_DELAY, OWN, AWAKE, PROMPTS_MS, PROMPTS_MS2, CACHED_TOKENS, BACKLOG_ENDS_S,
    BACKLOG_MOST_MS, FOREIGN, PER_PLACE, LIVE_ROWS,
) = range(19)  # fmt: skip

# The policy's parameters (`router.core.rungs`). Its latency budgets hold where the caller has none.
(
    W_GCO2E, W_TTFT, W_E2E, W_LOAD, W_TURN, NEAR_TIE, PACK, PACK_UNTIL, MAX_GCO2E,
    MAX_G_PER_KWH, CI_HOURS, SCARCITY, WAKE_ENERGY, WAKE_PREMIUM, POLICY_TTFT_MS,
    POLICY_TPOT_MS, POLICY_E2E_MS, PACK_WITHIN, PARAMS,
) = range(19)  # fmt: skip

# The CI of a grid zone that no source knows: finite, so that 0 * CI is 0 where a policy does not
# weigh carbon, and beyond any limit, so that it can never look clean.
UNKNOWN_CI = 1e30
ANY_CI = np.inf
KNOWN_CI = 1e29

# Why a candidate is excluded; the first that holds.
(
    FEASIBLE, UNHEALTHY, RESIDENCY, CONTEXT, NOT_FINITE, CARBON_UNKNOWN, CARBON_BUDGET, FULL,
    TTFT_BUDGET, TPOT_BUDGET, E2E_BUDGET,
) = range(11)  # fmt: skip

# Rows of the scratch that `choose` works in, shape (SCRATCH_ROWS, n).
S_COST, S_TTFT, S_E2E, S_BEST, SCRATCH_ROWS = range(5)

# Columns of what `evaluate` writes, shape (n, EVALUATED).
(
    E_COST, E_RTT, E_TTFT, E_TPOT, E_E2E, E_ENERGY, E_CI, E_GRAMS, E_BATCH, E_PREMIUM,
    E_PROMPT_ENERGY, E_PACE, EVALUATED,
) = range(13)  # fmt: skip

# Never 0, so that nothing is divided by it where there are no iterations.
LEAST_MS = 1e-9
# Caps of the pace are whole steps of this, in log2 of ms, from the least on: rounded down by 0.3 %.
PACE_STEPS = 256.0
LEAST_PACE_LOG2 = -4.0
PACES = 6144

# A premium rises by RISE / capacity of the way with each request that misses the room, and falls by
# (FALL + FALL_EMPTY * the region's free share) / capacity of itself with each that finds some, so
# that no room is kept free for long; capacity: what the model's endpoints may have in flight. Both
# thus go by how often the fleet turns over, not by its size. Below the least it is 0. Of all
# requests, this share teaches (those with a draw below it): as much is learned, in less time.
# No room is worth more than MAX_PREMIUM of its row (see `router.core.columns`): a gain over next to
# no energy is no price.
TEACHES = 0.25
RISE = 32.0
FALL = 0.16
FALL_EMPTY = 40.0
LEAST_PREMIUM = 1e-3

_KWH_PER_J = 1.0 / J_PER_KWH

_REQUEST = "i8, f8, f8, f8, f8, f8, f8, f8, i8, f8, f8"
_inlined = numba.njit(inline="always", **OPTIONS)


def _alias_scope(module: Any) -> Any:
    """Metadata that says: what `_read` reads, `_write` never writes."""
    domain = module.add_metadata(["router.core.kernel"])
    return module.add_metadata([module.add_metadata(["columns", domain])])


@intrinsic
def _read(typing_context, array, i):
    """``array[i]`` of a column. Without the promise that no write of the loop changes it, the
    compiler compares thirty address ranges before every sweep, which takes longer than a sweep.
    """

    def generate(context, builder, signature, arguments):
        column = context.make_array(signature.args[0])(context, builder, arguments[0])
        value = builder.load(builder.gep(column.data, [arguments[1]]))
        value.set_metadata("alias.scope", _alias_scope(builder.module))
        return value

    return array.dtype(array, i), generate


@intrinsic
def _write(typing_context, array, i, value):
    """``array[i] = value`` of scratch, which shares no memory with any column."""

    def generate(context, builder, signature, arguments):
        scratch = context.make_array(signature.args[0])(context, builder, arguments[0])
        store = builder.store(arguments[2], builder.gep(scratch.data, [arguments[1]]))
        store.set_metadata("noalias", _alias_scope(builder.module))
        return context.get_dummy_value()

    return numba.types.void(array, i, array.dtype), generate


class _Ask(NamedTuple):
    """A request: what is the same for every candidate. ``n_in2``: n_in squared; ``per_n_out``:
    1 / n_out; ``context``: tokens cached on the mean; ``residency``: bits of where it may run.
    """

    n_in: float
    n_out: float
    n_out_q: float
    n_in2: float
    per_n_out: float
    context: float
    network_kwh: float
    ttft_budget: float
    tpot_budget: float
    e2e_budget: float
    residency: int
    slot_left_s: float
    now_s: float


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
    wake_energy: float
    wake_premium: float


class _Place(NamedTuple):
    """What is the same throughout a region. ``ci``: of the current hour; ``label``: bits."""

    rtt: float
    kwh_per_j: float
    ci: float
    label: int


class _Terms(NamedTuple):
    """One candidate, named as in the module's formulas; ``tpot`` and ``e2e`` at the quantile.

    ``pace``: the mean iteration with the request's own prompt in it.
    """

    batch: float
    ttft: float
    tpot: float
    e2e: float
    run_s: float
    own: float
    prefill: float
    queue: float
    pace: float
    energy: float
    ci: float
    grams: float
    premium: float
    cost: float


@entry("f8(f8[:,::1], i8, i8, f8, f8)")
def _mean_ci(table, i, hours, slot_left_s, run_s):
    """CI averaged over a run that starts ``slot_left_s`` before the first hour ends; g/kWh.

    Not positive where the columns are older than that. The last hour's CI holds ever after.
    """
    hour, last = 0, hours - 1
    while slot_left_s <= 0.0 and hour < last:
        slot_left_s += HOUR_S
        hour += 1
    if run_s <= slot_left_s or hour >= last:
        return table[CI_FROM + min(hour, last), i]
    total = 0.0
    left = run_s
    while left > slot_left_s and hour < last:
        total += table[CI_FROM + hour, i] * slot_left_s
        left -= slot_left_s
        slot_left_s = HOUR_S
        hour += 1
    return (total + table[CI_FROM + hour, i] * left) / run_s


@_inlined
def _within(own_ms, params, policy):
    """A latency budget in force: the caller's own where there is one, else the policy's."""
    return own_ms if own_ms < np.inf else params[policy]


@_inlined
def _ask(
    params, n_in, n_out, n_out_q, network_j, ttft_budget, tpot_budget, e2e_budget, residency,
    slot_left_s, now_s,
):  # fmt: skip
    return _Ask(
        n_in, n_out, n_out_q, n_in * n_in, 1.0 / max(n_out, 1.0), context_tokens(n_in, n_out),
        network_j * _KWH_PER_J,
        _within(ttft_budget, params, POLICY_TTFT_MS),
        _within(tpot_budget, params, POLICY_TPOT_MS),
        _within(e2e_budget, params, POLICY_E2E_MS),
        residency, slot_left_s, now_s,
    )  # fmt: skip


@_inlined
def _rule(params):
    return _Rule(
        params[W_GCO2E], params[W_TTFT], params[W_E2E], params[W_LOAD], params[W_TURN],
        params[W_LOAD] != 0.0 or params[W_TURN] != 0.0,
        params[MAX_GCO2E], params[MAX_G_PER_KWH], int(params[CI_HOURS]),
        params[WAKE_ENERGY], params[WAKE_PREMIUM],
    )  # fmt: skip


@_inlined
def _place(table, labels, i, rtt_row):
    return _Place(table[rtt_row, i], table[KWH_PER_J, i], table[CI_FROM, i], labels[i])


@_inlined
def _queue(batch, foreign, decode, prompts, prompts2, backlog_s, backlog_most):
    """Until the iteration that reads the prompt begins, and for those read with it; ms."""
    pace = decode + prompts
    both = decode * (pace + prompts)
    # One division for two, as there are no other costs to speak of; and of `more` no maximum, which
    # would hide what is no number.
    per = 1.0 / (pace * both + LEAST_MS)
    busy = prompts * both * per
    longer = pace + prompts2 * pace * pace * per
    backlog = min(max(0.0, backlog_s * 1e3), backlog_most)
    known = (0.5 * decode + backlog) * (1.0 + busy)
    more = (0.5 + busy) * longer - known
    return min(batch, 1.0) * (known + 0.5 * (more + abs(more)) * foreign)


@_inlined
def _own_ms(table, i, ask):
    """What the request's prompt takes of iterations."""
    return (
        table[PREFILL_MS_PER_PIECE, i]
        + table[PREFILL_MS_PER_TOKEN, i] * ask.n_in
        + table[HALF_PREFILL_MS_PER_TOKEN2, i] * ask.n_in2
    )


@_inlined
def _energy(table, i, ask, own):
    """Joules of the request, waking apart."""
    per_token = table[J_PER_TOKEN, i] + table[J_PER_CACHED_TOKEN, i] * ask.context
    return per_token * ask.n_out + table[J_PER_PROMPT_MS, i] * own + table[J_PER_REQUEST, i]


@_inlined
def _terms(table, live, i, place, ask, rule):
    """Every figure of candidate i; see the module."""
    batch = live[BATCH, i]
    over = batch + 1.0 - table[MAX_BATCH, i]
    running, crowd = batch + 1.0, 1.0
    if over > 0.0:
        running = table[MAX_BATCH, i]
        crowd = running * live[PER_PLACE, i]
    most = live[BACKLOG_MOST_MS, i]
    if table[TPOT_BASE_MS, i] == 0.0:
        crowd = most = 0.0
    own = _own_ms(table, i, ask)
    prompts = live[PROMPTS_MS, i] * crowd
    decode = (
        table[TPOT_BASE_MS, i]
        + table[TPOT_MS_PER_SEQUENCE, i] * running
        + table[TPOT_MS_PER_CACHED_TOKEN, i] * (live[CACHED_TOKENS, i] * crowd + ask.context)
    )
    queue = _queue(
        batch, live[FOREIGN, i], decode, prompts, live[PROMPTS_MS2, i] * crowd,
        live[BACKLOG_ENDS_S, i] - ask.now_s, most,
    )  # fmt: skip
    prefill = table[PREFILL_BASE_MS, i] + table[PREFILL_MS_PER_IN_FLIGHT, i] * batch + decode + own
    first = prefill * live[TTFT_FACTOR, i] + queue * live[QUEUE_FACTOR, i]
    ttft = place.rtt + live[TTFT_DELAY, i] + first
    tpot = decode + min(prompts, table[CHUNK_MS, i])
    run_ms = first + ask.n_out * tpot
    if over > 0.0:
        ttft += over * run_ms * table[PER_MAX_BATCH, i]
    tpot_q = tpot * live[TPOT_FACTOR, i]
    e2e = ttft + ask.n_out_q * tpot_q
    run_s = run_ms * 1e-3
    energy = _energy(table, i, ask, own)
    if live[AWAKE, i] == 0.0:
        energy += rule.wake_energy * table[WAKE_W, i] * run_s
    ci = place.ci
    if run_s > ask.slot_left_s:
        ci = _mean_ci(table, i, rule.hours, ask.slot_left_s, run_s)
    # PUE belongs to the data centre; the network term has none.
    grams = (energy * place.kwh_per_j + ask.network_kwh) * ci
    premium = energy * place.kwh_per_j * live[PREMIUM, i]
    if live[AWAKE, i] == 0.0:
        premium += rule.wake_premium * table[WAKE_W, i] * run_s * place.kwh_per_j * ci
    cost = rule.w_g * (grams + premium) + rule.w_ttft * ttft + rule.w_e2e * e2e
    if rule.balances:
        cost += rule.w_load * batch * table[PER_MAX_IN_FLIGHT, i] + rule.w_turn * live[TURNS, i]
    pace = decode + prompts + own * ask.per_n_out
    return _Terms(
        batch,
        ttft,
        tpot_q,
        e2e,
        run_s,
        own,
        prefill,
        queue,
        pace,
        energy,
        ci,
        grams,
        premium,
        cost,
    )


@_inlined
def _is_full(table, live, i, terms):
    """No place, or no time that those there could spare."""
    return terms.batch + 1.0 > table[MAX_IN_FLIGHT, i] or terms.pace > live[PACE_CAP_MS, i]


@_inlined
def _reason(table, live, i, place, ask, rule, terms):
    """The first constraint that candidate i breaks, or FEASIBLE."""
    reason = FEASIBLE
    if live[ELIGIBLE, i] == 0.0:
        reason = UNHEALTHY
    elif (place.label & ask.residency) == 0:
        reason = RESIDENCY
    elif ask.n_in + ask.n_out > table[CONTEXT_TOKENS, i]:
        reason = CONTEXT
    elif not terms.cost + 0.0 * terms.run_s < np.inf:
        reason = NOT_FINITE
    elif terms.ci > rule.max_ci:
        reason = CARBON_UNKNOWN if terms.ci > KNOWN_CI else CARBON_BUDGET
    elif terms.grams > rule.max_grams:
        reason = CARBON_BUDGET
    elif _is_full(table, live, i, terms):
        reason = FULL
    elif terms.ttft > ask.ttft_budget:
        reason = TTFT_BUDGET
    elif terms.tpot > ask.tpot_budget:
        reason = TPOT_BUDGET
    elif terms.e2e > ask.e2e_budget:
        reason = E2E_BUDGET
    return reason


@_inlined
def _might(table, live, i, place, ask):
    """Whether candidate i would meet every latency budget with nobody else running there."""
    decode = (
        table[TPOT_BASE_MS, i]
        + table[TPOT_MS_PER_SEQUENCE, i]
        + table[TPOT_MS_PER_CACHED_TOKEN, i] * ask.context
    )
    prefill = (
        table[PREFILL_BASE_MS, i]
        + table[PREFILL_MS_PER_IN_FLIGHT, i] * live[BATCH, i]
        + decode
        + _own_ms(table, i, ask)
    ) * live[TTFT_FACTOR, i]
    ttft = place.rtt + live[TTFT_DELAY, i] + prefill
    alone = decode * live[TPOT_FACTOR, i]
    return (
        ttft <= ask.ttft_budget
        and alone <= ask.tpot_budget
        and ttft + ask.n_out_q * alone <= ask.e2e_budget
    )


@entry("i8(f8[::1], f8, f8, f8)")
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


@_inlined
def _sweep(table, live, labels, rtt_row, ask, rule, scratch):
    """Cost, TTFT and end-to-end of every candidate, inf where it is not feasible.

    False when a run reaches into another hour: then the figures do not hold. Every candidate
    gets the arithmetic of `_terms` and the constraints of `_reason`, without a branch, so that the
    compiler does several at once.
    """
    costs, ttfts, e2es = scratch[S_COST], scratch[S_TTFT], scratch[S_E2E]
    prefill_base, prefill_load = table[PREFILL_BASE_MS], table[PREFILL_MS_PER_IN_FLIGHT]
    prefill_piece, prefill_token = table[PREFILL_MS_PER_PIECE], table[PREFILL_MS_PER_TOKEN]
    prefill_token2, chunk = table[HALF_PREFILL_MS_PER_TOKEN2], table[CHUNK_MS]
    tpot_base, tpot_slope = table[TPOT_BASE_MS], table[TPOT_MS_PER_SEQUENCE]
    tpot_cached = table[TPOT_MS_PER_CACHED_TOKEN]
    max_batch, per_max_batch = table[MAX_BATCH], table[PER_MAX_BATCH]
    max_in_flight, per_max_in_flight = table[MAX_IN_FLIGHT], table[PER_MAX_IN_FLIGHT]
    j_per_token, j_per_request, wake_w = table[J_PER_TOKEN], table[J_PER_REQUEST], table[WAKE_W]
    j_per_cached, j_per_prompt = table[J_PER_CACHED_TOKEN], table[J_PER_PROMPT_MS]
    kwh_per_j, context = table[KWH_PER_J], table[CONTEXT_TOKENS]
    ci, rtt = table[CI_FROM], table[rtt_row]
    batches, eligible, caps, turns = live[BATCH], live[ELIGIBLE], live[PACE_CAP_MS], live[TURNS]
    ttft_factor, tpot_factor, premiums = live[TTFT_FACTOR], live[TPOT_FACTOR], live[PREMIUM]
    ttft_delay, awake, queue_factor = live[TTFT_DELAY], live[AWAKE], live[QUEUE_FACTOR]
    prompts_there, prompts2_there = live[PROMPTS_MS], live[PROMPTS_MS2]
    cached_there, foreign, per_place = live[CACHED_TOKENS], live[FOREIGN], live[PER_PLACE]
    backlog_ends, backlog_most = live[BACKLOG_ENDS_S], live[BACKLOG_MOST_MS]
    total = ask.n_in + ask.n_out
    late = 0
    for i in range(np.uint64(table.shape[1])):
        batch = _read(batches, i)
        over = batch + 1.0 - _read(max_batch, i)
        running = _read(max_batch, i) if over > 0.0 else batch + 1.0
        crowd = running * _read(per_place, i) if over > 0.0 else 1.0
        iterates = _read(tpot_base, i) > 0.0
        crowd = crowd if iterates else 0.0
        most = _read(backlog_most, i) if iterates else 0.0
        own = (
            _read(prefill_piece, i)
            + _read(prefill_token, i) * ask.n_in
            + _read(prefill_token2, i) * ask.n_in2
        )
        prompts = _read(prompts_there, i) * crowd
        decode = (
            _read(tpot_base, i)
            + _read(tpot_slope, i) * running
            + _read(tpot_cached, i) * (_read(cached_there, i) * crowd + ask.context)
        )
        queue = _queue(
            batch, _read(foreign, i), decode, prompts, _read(prompts2_there, i) * crowd,
            _read(backlog_ends, i) - ask.now_s, most,
        )  # fmt: skip
        prefill = _read(prefill_base, i) + _read(prefill_load, i) * batch + decode + own
        first = prefill * _read(ttft_factor, i) + queue * _read(queue_factor, i)
        tpot = decode + min(prompts, _read(chunk, i))
        pace = decode + prompts + own * ask.per_n_out
        run_ms = first + ask.n_out * tpot
        ttft = _read(rtt, i) + _read(ttft_delay, i) + first
        queued = ttft + over * run_ms * _read(per_max_batch, i)
        ttft = queued if over > 0.0 else ttft
        tpot_q = tpot * _read(tpot_factor, i)
        e2e = ttft + ask.n_out_q * tpot_q
        run_s = run_ms * 1e-3
        late += int(run_s > ask.slot_left_s)
        per_token = _read(j_per_token, i) + _read(j_per_cached, i) * ask.context
        energy = per_token * ask.n_out + _read(j_per_prompt, i) * own + _read(j_per_request, i)
        waking = _read(wake_w, i) * run_s
        woken = energy + rule.wake_energy * waking
        asleep = _read(awake, i) == 0.0
        energy = woken if asleep else energy
        grams = (energy * _read(kwh_per_j, i) + ask.network_kwh) * _read(ci, i)
        premium = energy * _read(kwh_per_j, i) * _read(premiums, i)
        dearer = premium + rule.wake_premium * waking * _read(kwh_per_j, i) * _read(ci, i)
        premium = dearer if asleep else premium
        cost = rule.w_g * (grams + premium) + rule.w_ttft * ttft + rule.w_e2e * e2e
        cost += rule.w_load * batch * _read(per_max_in_flight, i) + rule.w_turn * _read(turns, i)
        fits = (
            (_read(eligible, i) != 0.0)
            & ((_read(labels, i) & ask.residency) != 0)
            & (total <= _read(context, i))
            & (cost + 0.0 * run_ms < np.inf)
            & (_read(ci, i) <= rule.max_ci)
            & (grams <= rule.max_grams)
            & (batch + 1.0 <= _read(max_in_flight, i))
            & (pace <= _read(caps, i))
            & (ttft <= ask.ttft_budget)
            & (tpot_q <= ask.tpot_budget)
            & (e2e <= ask.e2e_budget)
        )
        _write(costs, i, cost if fits else np.inf)
        _write(ttfts, i, ttft if fits else np.inf)
        _write(e2es, i, e2e if fits else np.inf)
    return late == 0


@_inlined
def _sweep_hours(table, live, labels, starts, rtt_row, ask, rule, scratch):
    """As `_sweep`, one by one, for runs that reach into another hour."""
    for r in range(starts.size - 1):
        place = _place(table, labels, np.uint64(starts[r]), rtt_row)
        # Unsigned rows spare numba's check for negative indices.
        for i in range(np.uint64(starts[r]), np.uint64(starts[r + 1])):
            terms = _terms(table, live, i, place, ask, rule)
            fits = _reason(table, live, i, place, ask, rule, terms) == FEASIBLE
            scratch[S_COST, i] = terms.cost if fits else np.inf
            scratch[S_TTFT, i] = terms.ttft if fits else np.inf
            scratch[S_E2E, i] = terms.e2e if fits else np.inf


@entry("f8(i8)")
def pace_of(step):
    """The cap of the pace that is this step."""
    return 2.0 ** (step / PACE_STEPS + LEAST_PACE_LOG2)


@entry("f8(f8)")
def floor_pace(pace_ms):
    """The largest cap of the pace that is no longer than ``pace_ms``; inf beyond all of them."""
    if not pace_ms < np.inf:
        return np.inf
    step = np.floor((np.log2(max(pace_ms, LEAST_MS)) - LEAST_PACE_LOG2) * PACE_STEPS)
    if step >= PACES:
        return np.inf
    return pace_of(np.int64(max(step, 0.0)))


@entry("i8(f8)")
def pace_step(cap_ms):
    """Which of PACES steps a cap of the pace is, from 0 on."""
    return np.int64(np.rint((np.log2(cap_ms) - LEAST_PACE_LOG2) * PACE_STEPS))


@_inlined
def _pace_cap(table, live, i, ask, ttft, pace):
    """Mean iteration, ms, beyond which a request placed at candidate i would break its own TPOT or
    e2e budget; inf: none would. The e2e budget leaves (e2e - ttft) / n_out for each token. No
    shorter than it is with the request there, which is why it was placed."""
    allowed = ask.tpot_budget
    if ask.e2e_budget < np.inf:
        allowed = min(allowed, (ask.e2e_budget - ttft) / max(ask.n_out_q, 1.0))
    cap = np.inf
    # A task has no tokens, and nothing to slow down.
    if allowed < np.inf and table[TPOT_BASE_MS, i] > 0.0:
        cap = floor_pace(max(allowed / live[TPOT_FACTOR, i], pace * (1.0 + 1.0 / PACE_STEPS)))
    return cap


@entry(
    f"Tuple((i8, f8, f8, f8, f8, f8, f8, f8, f8, i8, f8, f8, f8))"
    f"(f8[:,::1], f8[:,::1], i8[::1], i8[::1], f8[::1], {_REQUEST}, f8, f8[:,::1])"
)
def choose(
    table, live, labels, starts, params, rtt_row, n_in, n_out, n_out_q, network_j,
    ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, now_s, u, scratch,
):  # fmt: skip
    """Pick one candidate; ``u`` uniform in [0, 1) draws among near-tied regions.

    table (rows, n), live (LIVE_ROWS, n), labels (n,) jurisdiction bits, starts (regions + 1,) row
    ranges, params (PARAMS,), the caller's own budgets (inf: none), scratch (SCRATCH_ROWS, n), which
    alone is written. Returns (row, ttft_ms, tpot_ms, e2e_ms, energy_j, run_s, prompt_ms,
    prefill_ms, queue_ms, latency_first_row, latency_first_energy_j, latency_first_run_s,
    pace_cap_ms); rows are -1 when nothing is feasible. ``prompt_ms``: what the prompt takes of
    iterations there; ``prefill_ms``, ``queue_ms``: of the time to the first token, without their
    factors; ``pace_cap_ms``: mean iteration there beyond which this request would break a budget
    of its own.
    """
    ask = _ask(
        params, n_in, n_out, n_out_q, network_j, ttft_budget, tpot_budget, e2e_budget, residency,
        slot_left_s, now_s,
    )  # fmt: skip
    rule = _rule(params)
    if not _sweep(table, live, labels, rtt_row, ask, rule, scratch):
        _sweep_hours(table, live, labels, starts, rtt_row, ask, rule, scratch)
    regions = starts.size - 1
    best = scratch[S_BEST, :regions]
    best_cost, best_region = np.inf, 0
    nearest, nearest_ttft = np.uint64(0), np.inf
    i = np.uint64(0)
    for r in range(np.uint64(regions)):
        best_here = np.inf
        end = np.uint64(starts[r + np.uint64(1)])
        while i < end:
            best_here = min(best_here, scratch[S_COST, i])
            ttft = scratch[S_TTFT, i]
            # As the latency-first policy: near before little loaded.
            if ttft <= nearest_ttft and (
                ttft < nearest_ttft or scratch[S_E2E, i] < scratch[S_E2E, nearest]
            ):
                nearest, nearest_ttft = i, ttft
            i += np.uint64(1)
        best[r] = best_here
        if best_here < best_cost:
            best_cost, best_region = best_here, np.int64(r)
    if best_cost == np.inf:
        return (
            -1, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, -1, np.nan, np.nan,
            np.nan,
        )  # fmt: skip
    limit = best_cost + params[NEAR_TIE] * abs(best_cost)
    tied = 0
    for r in range(np.uint64(regions)):
        tied += int(best[r] <= limit)
    region = best_region
    if tied > 1:
        region = _draw_region(best, best_cost, limit, u)
    # Where a fuller replica costs more, a near-tie of costs would stop before any is full.
    limit = max(limit, best[region] + params[PACK_WITHIN] * abs(best[region]))
    row, best_key = np.uint64(0), -np.inf
    for i in range(np.uint64(starts[region]), np.uint64(starts[region + 1])):
        batch = live[BATCH, i]
        key = -batch * table[PER_MAX_IN_FLIGHT, i]
        roomy = batch + 1.0 <= params[PACK_UNTIL] * table[MAX_IN_FLIGHT, i]
        if params[PACK] != 0.0 and roomy:
            # Above every replica that is past the pack line, and the fuller the better.
            key = 1.0 + live[OWN, i] * table[PER_MAX_IN_FLIGHT, i]
        if scratch[S_COST, i] <= limit and key > best_key:
            row, best_key = i, key
    place = _place(table, labels, row, rtt_row)
    found = _terms(table, live, row, place, ask, rule)
    cap = _pace_cap(table, live, row, ask, found.ttft, found.pace)
    near = nearest
    place = _place(table, labels, near, rtt_row)
    first = _terms(table, live, near, place, ask, rule)
    return (
        np.int64(row), found.ttft, found.tpot, found.e2e, found.energy, found.run_s, found.own,
        found.prefill, found.queue,
        np.int64(nearest), first.energy, first.run_s, cap,
    )  # fmt: skip


@_inlined
def _fallen(table, live, first, end, premium):
    """The premium of a region (rows ``first`` to ``end``) in which somebody just found room."""
    left = 0.0
    if premium > 0.0:
        inside, most = 0.0, 0.0
        for i in range(first, end):
            inside += live[BATCH, i]
            most += table[MAX_IN_FLIGHT, i]
        fall = FALL + FALL_EMPTY * max(0.0, 1.0 - inside / most)
        left = premium * (1.0 - min(1.0, fall * table[PER_CAPACITY, first]))
    return left if left >= LEAST_PREMIUM else 0.0


@_inlined
def _worth(table, live, labels, first, end, rtt_row, ask, rule, best_cost, premium):
    """What room in a region without would be worth to a request that has to pay ``best_cost``
    elsewhere, g/kWh of its energy there; 0 where it is not room alone that it lacks."""
    worth = 0.0
    place = _place(table, labels, first, rtt_row)
    for i in range(first, end):
        terms = _terms(table, live, i, place, ask, rule)
        if terms.cost >= best_cost or not _might(table, live, i, place, ask):
            continue
        # The first will do: replicas of a region are much alike, and this is the hot path.
        if _reason(table, live, i, place, ask, rule, terms) >= FULL:
            energy = _energy(table, i, ask, terms.own)
            if energy > 0.0:
                gain = (best_cost - terms.cost) / (rule.w_g * energy * place.kwh_per_j)
                worth = min(gain + premium, table[MAX_PREMIUM, i])
            break
    # A gain over next to no energy, where no price is known to be too much: no price at all.
    return worth if worth < np.inf else 0.0


@entry(f"void(f8[:,::1], f8[:,::1], i8[::1], i8[::1], f8[::1], {_REQUEST}, f8[::1])")
def learn_premiums(
    table, live, labels, starts, params, rtt_row, n_in, n_out, n_out_q, network_j,
    ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, now_s, best,
):  # fmt: skip
    """What a forwarded request teaches of scarcity, into ``live[PREMIUM]``, which alone is written.

    ``best``: row S_BEST as `choose` left it for the same request, which was feasible: the least
    cost in each region. Raises the premium of regions without room that the request would have
    gained by, and lowers that of regions with room. The premium stays below SCARCITY of what the
    room is worth: how much more has to be paid elsewhere, premium there included. So where all
    would gain alike nobody leaves.
    """
    rule = _rule(params)
    if not (params[SCARCITY] > 0.0 and rule.w_g > 0.0):
        return
    ask = _ask(
        params, n_in, n_out, n_out_q, network_j, ttft_budget, tpot_budget, e2e_budget, residency,
        slot_left_s, now_s,
    )  # fmt: skip
    best_cost = np.inf
    for r in range(np.uint64(starts.size - 1)):
        best_cost = min(best_cost, best[r])
    for r in range(np.uint64(starts.size - 1)):
        first, end = np.uint64(starts[r]), np.uint64(starts[r + np.uint64(1)])
        premium = live[PREMIUM, first]
        if best[r] < np.inf:
            premium = _fallen(table, live, first, end, premium)
        else:
            worth = _worth(table, live, labels, first, end, rtt_row, ask, rule, best_cost, premium)
            missing = params[SCARCITY] * worth - premium
            premium += min(1.0, RISE * table[PER_CAPACITY, first]) * max(0.0, missing)
        for i in range(first, end):
            live[PREMIUM, i] = premium


@entry(f"void(f8[:,::1], f8[:,::1], i8[::1], f8[::1], {_REQUEST}, f8[:,::1], i8[::1])")
def evaluate(
    table, live, labels, params, rtt_row, n_in, n_out, n_out_q, network_j,
    ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, now_s, out, reasons,
):  # fmt: skip
    """Every term of every candidate into ``out`` (n, EVALUATED) and ``reasons`` (n,).

    The same arithmetic as `choose`, for explanations and for telling why nothing is feasible.
    """
    ask = _ask(
        params, n_in, n_out, n_out_q, network_j, ttft_budget, tpot_budget, e2e_budget, residency,
        slot_left_s, now_s,
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
        out[i, E_PREMIUM] = terms.premium
        out[i, E_PROMPT_ENERGY] = table[J_PER_PROMPT_MS, i] * terms.own
        out[i, E_PACE] = terms.pace
        reasons[i] = _reason(table, live, i, place, ask, rule, terms)
