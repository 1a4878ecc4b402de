# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""What a gateway does around the cost kernel, compiled: board, leases, lessons.

Seats and leases are rows of arrays here and objects in `router.core`: what keeps them is the twin
of a function there, named in its docstring. All that decides and learns is called, not copied.
"""

from __future__ import annotations

import math

import numpy as np

from router.core import kernel_rows as k
from router.core.allotments import CONFIRMED
from router.core.burden import USUAL_WEIGHT
from router.core.evaluation import evaluate
from router.core.jit import compiled, inlined
from router.core.latency import (
    RATIO_ERRORS,
    WAIT_ERRORS,
    observe_ratio,
    observe_wait,
    ratio_factor,
    wait_errors,
)
from router.core.learning import TELLING_TOKENS
from router.core.lengths import (
    LENGTHS,
    MEAN,
    REACH_SDS,
    SHARED_LESSONS,
    SHARED_REACH_SDS,
    length_quantile,
    observe_length,
)
from router.core.obstacle import ERRORS as OBSTACLES
from router.core.obstacle import obstacle
from router.core.pace import pace_of, pace_step
from router.core.prefixes import believe
from router.core.seat import BELIEVED_FOR, NO_PLACE_MS
from router.core.terms import MOST_STRETCH
from router.lab.sim.engine import state as s
from router.lab.sim.result import REASONS

# Longer than any request is on its way.
ON_ITS_WAY_S = 1.0

OWN, TURNS, CAPPED, LEAST_CAP, DIRTY, UNUSED = range(6)
# Sums of what own requests add, what one of them usually does (`router.core.burden.Burdens`), and
# when the last of their prompts is read, when they would be at the pace that answers tolerate, and
# the sum of their times. Replicas here are as their profiles say, so prompts are read by those.
(
    PACE, PACE2, CACHED, USUAL_PACE, USUAL_PACE2, USUAL_CACHED, BACKLOG_ENDS, PACED_UNTIL,
    PROMPTS_MS, BURDENS,
) = range(10)  # fmt: skip
SEAT = 6
TOTAL, PEAK = 0, 1
# Of the wait, then of TPOT.
ERRORS = WAIT_ERRORS + RATIO_ERRORS
# Places in REASONS of what the kernel says stands in the way.
_REFUSED = np.array(
    [REASONS.index(OBSTACLES[why].reason) if why in OBSTACLES else 0 for why in range(11)]
)


@inlined
def own_cap(gates, g, e):
    """The longest mean iteration that own requests tolerate, ms."""
    cap = np.inf
    if gates.seats[g, e, CAPPED] > 0:
        cap = pace_of(gates.seats[g, e, LEAST_CAP])
    return cap


@inlined
def publish(gates, g, e):
    """Twin of `Seat.publish_load`, health apart: that changes at notices only."""
    mine = gates.seats[g, e, OWN]
    own = mine + gates.sharing.peers[g, e, s.R_IN_FLIGHT]
    batch = own + gates.others[g, e]
    cap = min(own_cap(gates, g, e), gates.sharing.peer_caps[e, g])
    sharing = gates.sharing
    if mine >= sharing.accounts[g, e, CONFIRMED] and sharing.asks[g, e] == 0:
        cap = NO_PLACE_MS
    pace, pace2, cached = burdens(gates, g, e)
    backlog_most = gates.burdens[g, e, PROMPTS_MS] if mine > 0 else 0.0
    backlog_most += sharing.peers[g, e, s.R_PROMPTS]
    foreign = gates.others[g, e] / max(batch, 1.0)
    turns = gates.seats[g, e, TURNS]
    awake = own > 0 or (gates.others[g, e] >= 1.0 and gates.seats[g, e, UNUSED] <= BELIEVED_FOR)
    for cell in range(gates.cell_starts[e], gates.cell_starts[e + 1]):
        m, row = gates.cells[cell, 0], gates.cells[cell, 1]
        gates.live[g, m, k.BATCH, row] = batch
        gates.live[g, m, k.OWN, row] = own
        gates.live[g, m, k.AWAKE, row] = awake
        gates.live[g, m, k.PACE_CAP_MS, row] = cap
        gates.live[g, m, k.PROMPTS_MS, row] = pace
        gates.live[g, m, k.PROMPTS_MS2, row] = pace2
        gates.live[g, m, k.CACHED_TOKENS, row] = cached
        gates.live[g, m, k.BACKLOG_ENDS_S, row] = gates.burdens[g, e, BACKLOG_ENDS]
        gates.live[g, m, k.BACKLOG_MOST_MS, row] = backlog_most
        gates.live[g, m, k.FOREIGN, row] = foreign
        gates.live[g, m, k.PACED_UNTIL_S, row] = gates.burdens[g, e, PACED_UNTIL]
        gates.live[g, m, k.PER_PLACE, row] = 1.0 / (batch + 1.0)
        gates.live[g, m, k.TURNS, row] = turns


@compiled
def notice_s(release_after):
    """How long an idle replica counts as awake: who is sent there in the last moment before its
    release would find it gone."""
    return max(release_after / 2.0, release_after - ON_ITS_WAY_S)


@compiled
def publish_waking(gates, plant, r, row_replicas, release_after):
    """Whoever scales the fleet tells every gateway when replica ``r`` is released or awake again,
    were nobody to come."""
    f, n, e = plant.replicas, plant.states, plant.states[r, s.ENDPOINT]
    releases_at, woken_at = np.inf, 0.0
    if n[r, s.STATE] == s.WAKING:
        woken_at = f[r, s.WAKE_END]
    elif n[r, s.RUNNING] + n[r, s.QUEUED] == 0:
        releases_at = f[r, s.IDLE_SINCE] + notice_s(release_after)
    for cell in range(gates.cell_starts[e], gates.cell_starts[e + 1]):
        m, row = gates.cells[cell, 0], gates.cells[cell, 1]
        if row_replicas[m, row] == r:
            for g in range(gates.live.shape[0]):
                gates.live[g, m, k.RELEASES_AT_S, row] = releases_at
                gates.live[g, m, k.WOKEN_AT_S, row] = woken_at


@compiled
def _tell_all(gates, g, e):
    """Staleness 0: every other gateway knows at once how many requests are on an endpoint."""
    for other in range(gates.seats.shape[0]):
        gates.others[other, e] = gates.total[e, TOTAL] - gates.seats[other, e, OWN]
        if other != g:
            publish(gates, other, e)


@inlined
def batch(gates, g, e):
    """Twin of `Seat.batch`."""
    return gates.seats[g, e, OWN] + gates.sharing.peers[g, e, s.R_IN_FLIGHT] + gates.others[g, e]


@inlined
def burdens(gates, g, e):
    """Twin of `Seat.burdens`."""
    mine, others, peers = gates.burdens[g, e], gates.others[g, e], gates.sharing.peers[g, e]
    return (
        mine[PACE] + peers[s.R_PACE] + others * mine[USUAL_PACE],
        mine[PACE2] + peers[s.R_PACE2] + others * mine[USUAL_PACE2],
        mine[CACHED] + peers[s.R_CACHED] + others * mine[USUAL_CACHED],
    )


@inlined
def line_up(gates, g, e, prompt_ms, paced_ms, now):
    """Twin of `Seat._line_up`."""
    mine = gates.burdens[g, e]
    there = mine[PROMPTS_MS] + gates.sharing.peers[g, e, s.R_PROMPTS]
    ends_at = min(mine[BACKLOG_ENDS], now + there / 1e3)
    mine[BACKLOG_ENDS] = max(ends_at, now) + prompt_ms / 1e3
    paced = min(mine[PACED_UNTIL], now + MOST_STRETCH * there / 1e3)
    mine[PACED_UNTIL] = max(paced, now) + paced_ms / 1e3


@inlined
def _bear(gates, f, slot, g, e, now):
    mine = gates.burdens[g, e]
    line_up(gates, g, e, f[slot, s.PROMPT_MS], f[slot, s.PACED_MS], now)
    gates.sharing.sent[g, e, 0] += f[slot, s.PROMPT_MS]
    gates.sharing.sent[g, e, 1] += f[slot, s.PACED_MS]
    mine[PROMPTS_MS] += f[slot, s.PROMPT_MS]
    first = gates.seats[g, e, TURNS] == 0
    for at in range(3):
        burden = f[slot, s.PACE_MS + at]
        mine[PACE + at] += burden
        weight = 1.0 if first else USUAL_WEIGHT
        mine[USUAL_PACE + at] += weight * (burden - mine[USUAL_PACE + at])


@inlined
def take(gates, f, slot, g, e, now, exact):
    """Twin of `Seat.take`."""
    seats, total, cap = gates.seats, gates.total, f[slot, s.CAP]
    _bear(gates, f, slot, g, e, now)
    seats[g, e, OWN] += 1
    seats[g, e, TURNS] += 1
    seats[g, e, UNUSED] = 0
    total[e, TOTAL] += 1
    total[e, PEAK] = max(total[e, PEAK], total[e, TOTAL])
    if cap < np.inf:
        whole = pace_step(cap)
        gates.caps[g, e, whole] += 1
        if seats[g, e, CAPPED] == 0 or whole < seats[g, e, LEAST_CAP]:
            seats[g, e, LEAST_CAP] = whole
        seats[g, e, CAPPED] += 1
    if exact:
        _tell_all(gates, g, e)
    publish(gates, g, e)


@inlined
def give_back(gates, f, slot, g, e, exact):
    """Twin of `Seat.give_back`."""
    seats, cap, mine = gates.seats, f[slot, s.CAP], gates.burdens[g, e]
    seats[g, e, OWN] -= 1
    for at in range(3):
        left = max(0.0, mine[PACE + at] - f[slot, s.PACE_MS + at])
        mine[PACE + at] = left if seats[g, e, OWN] > 0 else 0.0
    left = max(0.0, mine[PROMPTS_MS] - f[slot, s.PROMPT_MS])
    mine[PROMPTS_MS] = left if seats[g, e, OWN] > 0 else 0.0
    gates.total[e, TOTAL] -= 1
    if cap < np.inf:
        whole = pace_step(cap)
        gates.caps[g, e, whole] -= 1
        seats[g, e, CAPPED] -= 1
        if seats[g, e, CAPPED] > 0 and whole == seats[g, e, LEAST_CAP]:
            while gates.caps[g, e, whole] == 0:
                whole += 1
            seats[g, e, LEAST_CAP] = whole
    if exact:
        _tell_all(gates, g, e)
    publish(gates, g, e)


@compiled
def next_poller(polls):
    """The gateway that polls next."""
    first = 0
    for g in range(1, polls.size):
        if polls[g] < polls[first]:
            first = g
    return first


@compiled
def poll(gates, plant, g):
    """Twin of `Runtime.take_load` over every endpoint: foreign requests, as the servers count."""
    n = plant.states
    for e in range(gates.total.shape[0]):
        told = 0
        for at in range(gates.endpoint_starts[e], gates.endpoint_starts[e + 1]):
            r = gates.endpoint_replicas[at]
            told += n[r, s.RUNNING] + n[r, s.QUEUED]
        gates.others[g, e] = float(max(0, told - gates.seats[g, e, OWN]))
        gates.seats[g, e, UNUSED] += 1
        publish(gates, g, e)


@compiled
def digest(gates, g, z, tpot_z):
    """Twin of `Dispatcher.digest`: learn from every request finished since the last time."""
    lessons, lengths, errors = gates.lessons, gates.lengths, gates.errors
    count = gates.lesson_counts[g]
    miss = 0.5 * math.erfc(z * math.sqrt(0.5))
    for i in range(count):
        e = int(lessons[g, i, s.L_ENDPOINT])
        gates.seats[g, e, DIRTY] = 1
        share = min(1.0, lessons[g, i, s.L_OUT] / TELLING_TOKENS)
        observe_wait(
            errors[g, e], lessons[g, i, s.L_TTFT], lessons[g, i, s.L_PREFILL],
            lessons[g, i, s.L_QUEUE], z, miss, True,
        )  # fmt: skip
        observe_ratio(
            errors[g, e, WAIT_ERRORS:], lessons[g, i, s.L_TPOT], lessons[g, i, s.L_TPOT_EXPECTED],
            share,
        )  # fmt: skip
        if lessons[g, i, s.L_BELIEF] >= 0.0:
            believe(gates.beliefs, int(lessons[g, i, s.L_BELIEF]), lessons[g, i, s.L_FOUND])
        m, t = int(lessons[g, i, s.L_MODEL]), int(lessons[g, i, s.L_TENANT])
        out = min(lessons[g, i, s.L_OUT], lengths[g, m, 0, s.MOST])
        if lengths[g, m, t, s.KNOWN] == 0.0:
            for at in range(s.LENGTH_COLUMNS):
                lengths[g, m, t, at] = lengths[g, m, 0, at]
        observe_length(lengths[g, m, t, :LENGTHS], np.nan, out, REACH_SDS)
        lengths[g, m, t, s.QUANTILE] = np.nan
        if lengths[g, m, t, s.TAUGHT] < SHARED_LESSONS:
            lengths[g, m, t, s.TAUGHT] += 1.0
            observe_length(lengths[g, m, 0, :LENGTHS], np.nan, out, SHARED_REACH_SDS)
            lengths[g, m, 0, s.QUANTILE] = np.nan
    for i in range(count):
        e = int(lessons[g, i, s.L_ENDPOINT])
        if gates.seats[g, e, DIRTY] == 0:
            continue
        gates.seats[g, e, DIRTY] = 0
        delay_ms, ttft, queue = wait_errors(errors[g, e], z)
        tpot = ratio_factor(errors[g, e, WAIT_ERRORS:], tpot_z)
        for cell in range(gates.cell_starts[e], gates.cell_starts[e + 1]):
            m, row = gates.cells[cell, 0], gates.cells[cell, 1]
            gates.live[g, m, k.TTFT_FACTOR, row] = ttft
            gates.live[g, m, k.QUEUE_FACTOR, row] = queue
            gates.live[g, m, k.TTFT_DELAY, row] = delay_ms
            gates.live[g, m, k.TPOT_FACTOR, row] = tpot
    gates.lesson_counts[g] = 0


@inlined
def note(gates, flights, plant, slot, tpot_ms, answered_at, z, tpot_z):
    """Twin of `teach_latency`'s and `Dispatcher.note`'s reading of one success.

    ``tpot_ms``: the model's, at the mean batch while it ran; 0 for one unit.
    """
    f, n = flights.floats, flights.ints
    g = n[slot, s.GATEWAY]
    r = n[slot, s.REPLICA]
    rtt_ms = f[slot, s.HALF_RTT] * 2e3 - plant.replicas[r, s.PATH_S] * 1e3
    e2e_ms = (answered_at - f[slot, s.ARRIVAL]) * 1e3
    ttft_ms = (f[slot, s.FIRST] + f[slot, s.HALF_RTT] - f[slot, s.ARRIVAL]) * 1e3
    out = f[slot, s.N_OUT]
    i = gates.lesson_counts[g]
    lessons = gates.lessons
    lessons[g, i, s.L_TTFT] = ttft_ms - rtt_ms
    lessons[g, i, s.L_PREFILL] = np.nan
    lessons[g, i, s.L_QUEUE] = np.nan
    if f[slot, s.BATCH_AT_START] <= plant.states[r, s.MAX_BATCH]:
        lessons[g, i, s.L_PREFILL] = f[slot, s.PREFILL_MS]
        lessons[g, i, s.L_QUEUE] = f[slot, s.QUEUE_MS]
    lessons[g, i, s.L_TPOT] = np.nan
    if out > 1.0:
        lessons[g, i, s.L_TPOT] = (e2e_ms - ttft_ms) / (out - 1.0)
    lessons[g, i, s.L_TPOT_EXPECTED] = tpot_ms
    lessons[g, i, s.L_ENDPOINT] = plant.states[r, s.ENDPOINT]
    lessons[g, i, s.L_MODEL] = n[slot, s.MODEL]
    lessons[g, i, s.L_TENANT] = n[slot, s.TENANT]
    lessons[g, i, s.L_OUT] = out
    lessons[g, i, s.L_BELIEF] = -1.0
    if f[slot, s.SENT_CACHED] > 0.0:
        lessons[g, i, s.L_BELIEF] = n[slot, s.BELIEF]
        lessons[g, i, s.L_FOUND] = min(1.0, f[slot, s.CACHED] / f[slot, s.SENT_CACHED])
    gates.lesson_counts[g] = i + 1
    if i + 1 == lessons.shape[1]:
        digest(gates, g, z, tpot_z)


@inlined
def uniform(seed, draw):
    """Draw number ``draw`` in [0, 1) of the stream ``seed`` (SplitMix64)."""
    x = np.uint64(seed) + np.uint64(draw) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return float((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@inlined
def quantile_of(gates, g, m, tenant, z):
    """Twin of `LengthModel.expect`: (mean, quantile) of output tokens."""
    lengths = gates.lengths
    t = tenant if lengths[g, m, tenant, s.KNOWN] != 0.0 else 0
    quantile = lengths[g, m, t, s.QUANTILE]
    if quantile != quantile:
        quantile = length_quantile(lengths[g, m, t, :LENGTHS], z)
        lengths[g, m, t, s.QUANTILE] = quantile
    return lengths[g, m, t, MEAN], quantile


@compiled
def refusal(columns, live, m, params, rtt_row, n_in, n_out, n_out_q, network_j,
            ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, now, cached):  # fmt: skip
    """Why, as a place in `REASONS`, nothing is feasible under ``params``, the last rung's."""
    labels, reasons = columns.labels[m], columns.reasons
    evaluate(
        columns.tables[m], live, labels, params, rtt_row, n_in, n_out, n_out_q, network_j,
        ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, now, cached, columns.terms,
        reasons,
    )  # fmt: skip
    count = columns.sizes[m, 0]
    return _REFUSED[obstacle(labels[:count], reasons[:count], residency)]
