"""The terms of one candidate: latency quantile, energy, grams, cost; and whether it is feasible.

For candidate i with b requests there (own and foreign), n_in and n_out expected tokens, the first m
of n_in expected to be cached there:

    own      = per_piece + per_token * (n_in - m) + per_token2 * (n_in**2 - m**2) / 2
                                                                          of iterations, ms
    cached   = cached tokens of those b, and n_in + n_out / 2
    decode   = tpot_base + tpot_slope * min(b + 1, max_batch) + tpot_cached * cached
    pace     = decode + prompts
    backlog  = what is left until backlog_ends, at most backlog_most
    known    = decode / 2 * (1 + prompts / pace)
    usual    = (1/2 + prompts / pace) * (pace + prompts2 * pace / (decode * (pace + prompts)))
    queue    = known + max(0, usual - known - backlog) * foreign, nothing where b is 0
    prefill  = base + per_in_flight * b + decode + own + backlog
    first    = prefill * ttft_factor + queue * queue_factor
    tpot     = decode + min(prompts, chunk)
    limit    = min(pace_cap, tpot_budget / tpot_factor)
    stretch  = limit / (limit - decode - prompts * foreign), from 1 to MOST_STRETCH
    paced    = own * stretch, nothing where there is no limit
    ahead    = what is left until paced_until, at most backlog_most * stretch
    in turn:   ahead + paced <= PACE_TOKENS * (limit - prompts * stretch), or either is 0
    run      = first + n_out * tpot
    turn     = max(0, b + 1 - max_batch) * run / max_batch
    waking   = waking_ms once released, else what is left until woken_at, at most as much
    ttft     = rtt + ttft_delay + waking + turn + first
    e2e      = ttft + n_out_quantile * tpot * tpot_factor
    lonely   = wake_w * run + waking_j once released, nothing where somebody is there
    energy   = (j_per_token + j_per_cached_token * (n_in + n_out / 2)) * n_out
               + j_per_prompt_ms * own + j_per_request + wake_energy * lonely
    grams    = (energy * PUE + network) / 3.6e6 * CI, CI averaged over the run
    premium  = (energy * scarcity premium of the region + wake_premium * lonely * CI)
               * PUE / 3.6e6, of waking_j at the CI of the hour
    cost     = w_g * (grams + premium) + w_ttft * ttft + w_e2e * e2e + w_load * b / cap
               + w_turn * turns

Prompts are work (SCIENCE, 1b). A request of prompt time w and n output tokens is there for about n
iterations, so that on the mean each of them carries w / n of it: ``prompts`` is the sum of that
over those b, ``prompts2`` the sum of w**2 / n; beyond max_batch both, and the cached tokens of
those b, count in proportion. An iteration then lasts ``pace``; it reads no more than ``chunk``.
With requests of one kind this is the fixed point TPOT = D / (1 - c_L r), which has no pole: where
prompts come faster than they can be read, requests gather until budgets or max_in_flight send the
next elsewhere. A task has no iterations, and other models' prompts beside it are none of its work.
What of a prompt is cached is not read: so it weighs by the time and the joules that it saves, and
by nothing else (`router.core.prefix_index`).

Who comes waits for the running iteration to end and for the prompts that are read with or before
its own. Those that this gateway sent there are read in turn, without a pause but for the sequences
that decode: ``backlog_ends`` is when the last of them will be. That is known as well as the
request's own prompt, and counted with it; it is what stops a burst, for which no mean holds. Of
the ``foreign`` share of those there but the mean is known (``usual``): the running iteration is
longer than ``pace`` since long ones are met more often, and prompts come while it runs.

Answers tolerate that prompts take the 1 / ``stretch`` of the time: one sent there is paid for when
``paced`` ms have gone by, and ``paced_until`` is when all of them will be. Who would be further
``ahead`` of that than what the least answer that a budget on TPOT bounds can bear, PACE_TOKENS
iterations less the prompts that come meanwhile, goes elsewhere, as the generic cell rate algorithm
(ITU-T I.371) has it. Where nothing is ahead there is room for any; where it is nobody's turn, it is
anybody's. What the mean allows may come in bursts, and of a short answer one burst is all
(docs/decisions/prompts-come-in-turn.md).

The premium is a price, in grams that nobody emits: no receipt and no carbon limit counts it. The
scarcity premium (g/kWh) is a shadow price on the room of a region, learned from requests that are
forwarded, the higher the less room is left (`router.core.premiums`): who has a good alternative
leaves the last places to who has none. The wake premium holds back from waking a replica for next
to nothing.

An idle replica may be released by whoever scales the fleet, and waking it takes seconds to minutes:
most budgets exclude it until it is awake. That it is woken in time is no matter of one request's
(`router.core.waking`).

What a server says of its load (the foreign part of b) may only repel: it takes room and time. What
attracts goes by what this gateway knows itself: the fuller one to fill up by OWN, and AWAKE as
`router.core.seat` has it. A candidate whose figures are not all finite is excluded: its cost, and 0
times its run, is a sum over every term, so that this one comparison holds for all that leaves the
kernel.

Sources: SCIENCE sections 1-4. ``*_factor`` and ``ttft_delay`` (of the path, whatever the prompt)
carry the live error distribution to the quantile.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from router.core import kernel_rows as k
from router.core.jit import entry, inlined_early
from router.units import HOUR_S

# Never 0, so that nothing is divided by it where there are no iterations.
LEAST_MS = 1e-9
# Where next to no time is left for prompts: so far ahead that only an idle one will do.
MOST_STRETCH = 100.0


class CandidateTerms(NamedTuple):
    """One candidate, named as in the module's formulas; ``tpot`` and ``e2e`` at the quantile.

    ``pace``: the mean iteration with the request's own prompt in it; ``in_turn``: whether its
    prompt comes late enough after the others to be read without breaking the budgets of answers.
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
    paced: float
    in_turn: bool


@entry("f8(f8[:,::1], i8, i8, f8, f8)")
def mean_ci(table, i, hours, slot_left_s, run_s):
    """CI averaged over a run that starts ``slot_left_s`` before the first hour ends; g/kWh.

    Not positive where the columns are older than that. The last hour's CI holds ever after.
    """
    hour, last = 0, hours - 1
    while slot_left_s <= 0.0 and hour < last:
        slot_left_s += HOUR_S
        hour += 1
    if run_s <= slot_left_s or hour >= last:
        return table[k.CI_FROM + min(hour, last), i]
    total = 0.0
    left = run_s
    while left > slot_left_s and hour < last:
        total += table[k.CI_FROM + hour, i] * slot_left_s
        left -= slot_left_s
        slot_left_s = HOUR_S
        hour += 1
    return (total + table[k.CI_FROM + hour, i] * left) / run_s


@inlined_early
def queue_ms(batch, foreign, decode, prompts, prompts2, backlog_s, backlog_most):
    """(what is known, the rest of the mean): until the iteration that reads the prompt begins, and
    for those read with it; ms."""
    pace = decode + prompts
    both = decode * (pace + prompts)
    # One division for two, as there are no other costs to speak of; and of `more` no maximum, which
    # would hide what is no number.
    per = 1.0 / (pace * both + LEAST_MS)
    busy = prompts * both * per
    longer = pace + prompts2 * pace * pace * per
    backlog = min(max(0.0, backlog_s * 1e3), backlog_most)
    known = 0.5 * decode * (1.0 + busy)
    more = (0.5 + busy) * longer - known - backlog
    there = min(batch, 1.0)
    return there * backlog, there * (known + 0.5 * (more + abs(more)) * foreign)


@inlined_early
def turn_of(limit, taken, own, ahead_s, backlog_most, burst_tokens, prompts):
    """(paced, whether it is the prompt's turn). ``taken``: of an iteration, by all but prompts of
    this gateway's; ``prompts``: by all prompts; ``burst_tokens``: PACE_TOKENS, or inf for always.
    """
    stretch = limit / max(limit - taken, limit / MOST_STRETCH) if limit < np.inf else 0.0
    paced = own * stretch
    ahead = min(max(0.0, ahead_s * 1e3), backlog_most * stretch)
    room = burst_tokens * max(limit - prompts * stretch, LEAST_MS)
    return paced, (min(paced, ahead) <= 0.0) | (ahead + paced <= room)


@inlined_early
def waking_of(table, live, i, now_s):
    """(ms until candidate i is awake, whether it is released)."""
    released = now_s > live[k.RELEASES_AT_S, i]
    left_ms = max(0.0, live[k.WOKEN_AT_S, i] - now_s) * 1e3
    most_ms = table[k.WAKING_MS, i]
    return most_ms if released else min(left_ms, most_ms), released


@inlined_early
def lonely_j(table, live, i, run_s, released, rule):
    """(joules of the fixed draw while it runs, of waking its replica first) that a request costs
    for want of company."""
    if live[k.AWAKE, i] != 0.0:
        return 0.0, 0.0
    waking_j = rule.sleep * table[k.WAKING_J, i] if released else 0.0
    return table[k.WAKE_W, i] * run_s, waking_j


@inlined_early
def own_ms(table, i, ask):
    """What the request's prompt takes of iterations."""
    had = ask.cached[i]
    return (
        table[k.PREFILL_MS_PER_PIECE, i]
        + table[k.PREFILL_MS_PER_TOKEN, i] * (ask.n_in - had)
        + table[k.HALF_PREFILL_MS_PER_TOKEN2, i] * (ask.n_in2 - had * had)
    )


@inlined_early
def energy_j(table, i, ask, own):
    """Joules of the request, waking apart."""
    per_token = table[k.J_PER_TOKEN, i] + table[k.J_PER_CACHED_TOKEN, i] * ask.context
    return per_token * ask.n_out + table[k.J_PER_PROMPT_MS, i] * own + table[k.J_PER_REQUEST, i]


@inlined_early
def terms_of(table, live, i, place, ask, rule):
    """Every figure of candidate i; see the module."""
    batch = live[k.BATCH, i]
    over = batch + 1.0 - table[k.MAX_BATCH, i]
    running, crowd = batch + 1.0, 1.0
    if over > 0.0:
        running = table[k.MAX_BATCH, i]
        crowd = running * live[k.PER_PLACE, i]
    most = live[k.BACKLOG_MOST_MS, i]
    if table[k.TPOT_BASE_MS, i] == 0.0:
        crowd = most = 0.0
    own = own_ms(table, i, ask)
    prompts = live[k.PROMPTS_MS, i] * crowd
    decode = (
        table[k.TPOT_BASE_MS, i]
        + table[k.TPOT_MS_PER_SEQUENCE, i] * running
        + table[k.TPOT_MS_PER_CACHED_TOKEN, i] * (live[k.CACHED_TOKENS, i] * crowd + ask.context)
    )
    backlog, queue = queue_ms(
        batch, live[k.FOREIGN, i], decode, prompts, live[k.PROMPTS_MS2, i] * crowd,
        live[k.BACKLOG_ENDS_S, i] - ask.now_s, most,
    )  # fmt: skip
    prefill = (
        table[k.PREFILL_BASE_MS, i]
        + table[k.PREFILL_MS_PER_IN_FLIGHT, i] * batch
        + decode
        + own
        + backlog
    )
    first = prefill * live[k.TTFT_FACTOR, i] + queue * live[k.QUEUE_FACTOR, i]
    waking_ms, released = waking_of(table, live, i, ask.now_s)
    ttft = place.rtt + live[k.TTFT_DELAY, i] + rule.sleep * waking_ms + first
    tpot = decode + min(prompts, table[k.CHUNK_MS, i])
    run_ms = first + ask.n_out * tpot
    if over > 0.0:
        ttft += over * run_ms * table[k.PER_MAX_BATCH, i]
    tpot_q = tpot * live[k.TPOT_FACTOR, i]
    e2e = ttft + ask.n_out_q * tpot_q
    run_s = run_ms * 1e-3
    fixed_j, waking_j = lonely_j(table, live, i, run_s, released, rule)
    energy = energy_j(table, i, ask, own) + rule.wake_energy * (fixed_j + waking_j)
    ci = place.ci
    if run_s > ask.slot_left_s:
        ci = mean_ci(table, i, rule.hours, ask.slot_left_s, run_s)
    # PUE belongs to the data centre; the network term has none.
    grams = (energy * place.kwh_per_j + ask.network_kwh) * ci
    premium = energy * place.kwh_per_j * live[k.PREMIUM, i]
    # It is woken now, whatever the hours of a run that its load may prolong.
    lonely_g = (fixed_j * ci + waking_j * place.ci) * place.kwh_per_j
    premium += rule.wake_premium * lonely_g
    cost = rule.w_g * (grams + premium) + rule.w_ttft * ttft + rule.w_e2e * e2e
    if rule.balances:
        cost += rule.w_load * batch * table[k.PER_MAX_IN_FLIGHT, i] + rule.w_turn * live[k.TURNS, i]
    pace = decode + prompts + own * ask.per_n_out
    paced, fits_in_turn = turn_of(
        min(live[k.PACE_CAP_MS, i], ask.tpot_budget / live[k.TPOT_FACTOR, i]),
        decode + prompts * live[k.FOREIGN, i], own, live[k.PACED_UNTIL_S, i] - ask.now_s, most,
        rule.burst_tokens, prompts,
    )  # fmt: skip
    return CandidateTerms(
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
        paced,
        fits_in_turn,
    )


@inlined_early
def _is_full(table, live, i, terms):
    """No place, or no time that those there could spare, in all or now."""
    crowded = terms.batch + 1.0 > table[k.MAX_IN_FLIGHT, i] or not terms.in_turn
    return crowded or terms.pace > live[k.PACE_CAP_MS, i]


@inlined_early
def reason_of(table, live, i, place, ask, rule, terms):
    """The first constraint that candidate i breaks, or FEASIBLE."""
    reason = k.FEASIBLE
    if live[k.ELIGIBLE, i] == 0.0:
        reason = k.UNHEALTHY
    elif (place.label & ask.residency) == 0:
        reason = k.RESIDENCY
    elif ask.n_in + ask.n_out > table[k.CONTEXT_TOKENS, i]:
        reason = k.CONTEXT
    elif not terms.cost + 0.0 * terms.run_s < np.inf:
        reason = k.NOT_FINITE
    elif terms.ci > rule.max_ci:
        reason = k.CARBON_UNKNOWN if terms.ci > k.KNOWN_CI else k.CARBON_BUDGET
    elif terms.grams > rule.max_grams:
        reason = k.CARBON_BUDGET
    elif _is_full(table, live, i, terms):
        reason = k.FULL
    elif terms.ttft > ask.ttft_budget:
        reason = k.TTFT_BUDGET
    elif terms.tpot > ask.tpot_budget:
        reason = k.TPOT_BUDGET
    elif terms.e2e > ask.e2e_budget:
        reason = k.E2E_BUDGET
    return reason


@inlined_early
def in_time_alone(table, live, i, place, ask):
    """Whether candidate i would meet every latency budget with nobody else running there."""
    decode = (
        table[k.TPOT_BASE_MS, i]
        + table[k.TPOT_MS_PER_SEQUENCE, i]
        + table[k.TPOT_MS_PER_CACHED_TOKEN, i] * ask.context
    )
    prefill = (
        table[k.PREFILL_BASE_MS, i]
        + table[k.PREFILL_MS_PER_IN_FLIGHT, i] * live[k.BATCH, i]
        + decode
        + own_ms(table, i, ask)
    ) * live[k.TTFT_FACTOR, i]
    waking_ms, _ = waking_of(table, live, i, ask.now_s)
    ttft = place.rtt + live[k.TTFT_DELAY, i] + waking_ms + prefill
    alone = decode * live[k.TPOT_FACTOR, i]
    return (
        ttft <= ask.ttft_budget
        and alone <= ask.tpot_budget
        and ttft + ask.n_out_q * alone <= ask.e2e_budget
    )
