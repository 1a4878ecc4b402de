# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""What a gateway does around the cost kernel, compiled: board, leases, learning, the ladder.

Each function is the twin of one in `router.core` (named in its docstring) on flat arrays; the
choice itself is `router.core.kernel.choose`, called, not copied.
"""

from __future__ import annotations

import math

import numpy as np

from router.core import kernel as k
from router.core.latency import _RATIO_BOUNDS, _WEIGHT, WAIT_ERRORS, observe_wait, wait_errors
from router.core.learning import TELLING_TOKENS
from router.core.lengths import (
    _FORGETTING,
    _LEAST_SD,
    _REACH_SDS,
    _SHARED_LESSONS,
    _SHARED_REACH_SDS,
)
from router.core.lengths import _WEIGHT as _LENGTH_WEIGHT
from router.core.seat import BELIEVED_FOR
from router.lab.sim.engine import state as s
from router.lab.sim.engine.replica import compiled, inlined

_LOW, _HIGH = _RATIO_BOUNDS
OWN, TURNS, CAPPED, LEAST_CAP, DIRTY, UNUSED = range(6)
SEAT = 6
TOTAL, PEAK = 0, 1
TPOT_MEAN, TPOT_VARIANCE = WAIT_ERRORS, WAIT_ERRORS + 1
ERRORS = WAIT_ERRORS + 2


@inlined
def _publish(gates, g, e):
    """Twin of `Seat.publish_load`, health apart: that changes at notices only."""
    own = gates.seats[g, e, OWN]
    batch = own + gates.others[g, e]
    cap = np.inf
    if gates.seats[g, e, CAPPED] > 0:
        cap = float(gates.seats[g, e, LEAST_CAP])
    turns = gates.seats[g, e, TURNS]
    awake = own > 0 or (gates.others[g, e] >= 1.0 and gates.seats[g, e, UNUSED] <= BELIEVED_FOR)
    for cell in range(gates.cell_starts[e], gates.cell_starts[e + 1]):
        m, row = gates.cells[cell, 0], gates.cells[cell, 1]
        gates.live[g, m, k.BATCH, row] = batch
        gates.live[g, m, k.OWN, row] = own
        gates.live[g, m, k.AWAKE, row] = awake
        gates.live[g, m, k.BATCH_CAP, row] = cap
        gates.live[g, m, k.TURNS, row] = turns


@compiled
def _tell_all(gates, g, e):
    """Staleness 0: every other gateway knows at once how many requests are on an endpoint."""
    for other in range(gates.seats.shape[0]):
        gates.others[other, e] = gates.total[e, TOTAL] - gates.seats[other, e, OWN]
        if other != g:
            _publish(gates, other, e)


@inlined
def batch(gates, g, e):
    """Twin of `Seat.batch`."""
    return gates.seats[g, e, OWN] + gates.others[g, e]


@inlined
def take(gates, g, e, cap, exact):
    """Twin of `Seat.take`; ``cap`` is a whole number or inf."""
    seats, total = gates.seats, gates.total
    seats[g, e, OWN] += 1
    seats[g, e, TURNS] += 1
    seats[g, e, UNUSED] = 0
    total[e, TOTAL] += 1
    total[e, PEAK] = max(total[e, PEAK], total[e, TOTAL])
    if cap < np.inf:
        whole = int(cap)
        gates.caps[g, e, whole] += 1
        if seats[g, e, CAPPED] == 0 or whole < seats[g, e, LEAST_CAP]:
            seats[g, e, LEAST_CAP] = whole
        seats[g, e, CAPPED] += 1
    if exact:
        _tell_all(gates, g, e)
    _publish(gates, g, e)


@inlined
def give_back(gates, g, e, cap, exact):
    """Twin of `Seat.give_back`."""
    seats = gates.seats
    seats[g, e, OWN] -= 1
    gates.total[e, TOTAL] -= 1
    if cap < np.inf:
        whole = int(cap)
        gates.caps[g, e, whole] -= 1
        seats[g, e, CAPPED] -= 1
        if seats[g, e, CAPPED] > 0 and whole == seats[g, e, LEAST_CAP]:
            while gates.caps[g, e, whole] == 0:
                whole += 1
            seats[g, e, LEAST_CAP] = whole
    if exact:
        _tell_all(gates, g, e)
    _publish(gates, g, e)


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
        _publish(gates, g, e)


@inlined
def _observe(errors, g, e, actual_ms, predicted_ms, share):
    """Twin of `RatioTracker.observe`."""
    if 0.0 < actual_ms < np.inf and 0.0 < predicted_ms < np.inf:
        mean, variance = errors[g, e, TPOT_MEAN], errors[g, e, TPOT_VARIANCE]
        error = math.log(min(max(actual_ms / predicted_ms, _LOW), _HIGH)) - mean
        weight = _WEIGHT * share
        errors[g, e, TPOT_MEAN] = mean + weight * error
        errors[g, e, TPOT_VARIANCE] = (1.0 - weight) * (variance + weight * error * error)


@inlined
def _learn_length(lengths, g, m, t, log_out, out, reach_sds):
    """Twin of `LengthModel`'s `observe` for one of its entries."""
    error = log_out - lengths[g, m, t, s.LOG_MEAN]
    reach = reach_sds * max(math.sqrt(lengths[g, m, t, s.LOG_VARIANCE]), _LEAST_SD)
    if abs(error) > reach:
        error = math.copysign(reach, error)
        log_out = lengths[g, m, t, s.LOG_MEAN] + error
        out = math.exp(log_out)
    lengths[g, m, t, s.MEAN] += _LENGTH_WEIGHT * (out - lengths[g, m, t, s.MEAN])
    lengths[g, m, t, s.LOG_MEAN] += _LENGTH_WEIGHT * error
    lengths[g, m, t, s.LOG_VARIANCE] = (1.0 - _LENGTH_WEIGHT) * (
        lengths[g, m, t, s.LOG_VARIANCE] + _LENGTH_WEIGHT * error * error
    )
    top = lengths[g, m, t, s.LOG_TOP]
    lengths[g, m, t, s.LOG_TOP] = max(
        log_out, top - _FORGETTING * (top - lengths[g, m, t, s.LOG_MEAN])
    )
    lengths[g, m, t, s.QUANTILE] = np.nan


@compiled
def digest(gates, g, z):
    """Twin of `Dispatcher.digest`: learn from every request finished since the last time."""
    lessons, lengths, errors = gates.lessons, gates.lengths, gates.errors
    count = gates.lesson_counts[g]
    miss = 0.5 * math.erfc(z * math.sqrt(0.5))
    for i in range(count):
        e = int(lessons[g, i, s.L_ENDPOINT])
        gates.seats[g, e, DIRTY] = 1
        share = min(1.0, lessons[g, i, s.L_OUT] / TELLING_TOKENS)
        actual_ms, prefill_ms = lessons[g, i, s.L_TTFT], lessons[g, i, s.L_PREFILL]
        observe_wait(errors[g, e], actual_ms, prefill_ms, z, miss, True)
        _observe(errors, g, e, lessons[g, i, s.L_TPOT], lessons[g, i, s.L_TPOT_EXPECTED], share)
        m, t = int(lessons[g, i, s.L_MODEL]), int(lessons[g, i, s.L_TENANT])
        out = min(lessons[g, i, s.L_OUT], lengths[g, m, 0, s.MOST])
        log_out = math.log(out)
        if lengths[g, m, t, s.KNOWN] == 0.0:
            for at in range(s.LENGTHS):
                lengths[g, m, t, at] = lengths[g, m, 0, at]
        _learn_length(lengths, g, m, t, log_out, out, _REACH_SDS)
        if lengths[g, m, t, s.TAUGHT] < _SHARED_LESSONS:
            lengths[g, m, t, s.TAUGHT] += 1.0
            _learn_length(lengths, g, m, 0, log_out, out, _SHARED_REACH_SDS)
    for i in range(count):
        e = int(lessons[g, i, s.L_ENDPOINT])
        if gates.seats[g, e, DIRTY] == 0:
            continue
        gates.seats[g, e, DIRTY] = 0
        delay_ms, ttft = wait_errors(errors[g, e], z)
        tpot = math.exp(errors[g, e, TPOT_MEAN] + z * math.sqrt(errors[g, e, TPOT_VARIANCE]))
        for cell in range(gates.cell_starts[e], gates.cell_starts[e + 1]):
            m, row = gates.cells[cell, 0], gates.cells[cell, 1]
            gates.live[g, m, k.TTFT_FACTOR, row] = ttft
            gates.live[g, m, k.TTFT_DELAY, row] = delay_ms
            gates.live[g, m, k.TPOT_FACTOR, row] = tpot
    gates.lesson_counts[g] = 0


@inlined
def note(gates, flights, plant, slot, tpot_ms, answered_at, z):
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
    if f[slot, s.BATCH_AT_START] <= plant.states[r, s.MAX_BATCH]:
        lessons[g, i, s.L_PREFILL] = f[slot, s.PREFILL_MS]
    lessons[g, i, s.L_TPOT] = np.nan
    if out > 1.0:
        lessons[g, i, s.L_TPOT] = (e2e_ms - ttft_ms) / (out - 1.0)
    lessons[g, i, s.L_TPOT_EXPECTED] = tpot_ms
    lessons[g, i, s.L_ENDPOINT] = plant.states[r, s.ENDPOINT]
    lessons[g, i, s.L_MODEL] = n[slot, s.MODEL]
    lessons[g, i, s.L_TENANT] = n[slot, s.TENANT]
    lessons[g, i, s.L_OUT] = out
    gates.lesson_counts[g] = i + 1
    if i + 1 == lessons.shape[1]:
        digest(gates, g, z)


@inlined
def uniform(seed, draw):
    """Draw number ``draw`` in [0, 1) of the stream ``seed`` (SplitMix64)."""
    x = np.uint64(seed) + np.uint64(draw) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return float((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@inlined
def batch_cap(columns, live, m, row, tpot_budget, e2e_budget, ttft_ms, n_out_q):
    """Twin of `pipeline.batch_cap`, for a token profile."""
    allowed = tpot_budget
    if e2e_budget < np.inf:
        allowed = min(allowed, (e2e_budget - ttft_ms) / max(n_out_q, 1.0))
    slope = columns.tables[m, k.TPOT_MS_PER_SEQUENCE, row]
    if allowed == np.inf or slope <= 0.0:
        return np.inf
    room = (allowed / live[k.TPOT_FACTOR, row] - columns.tables[m, k.TPOT_BASE_MS, row]) / slope
    if room >= columns.tables[m, k.MAX_BATCH, row]:
        return np.inf
    cap = max(1.0, math.floor(room))
    return cap if cap < columns.tables[m, k.MAX_BATCH, row] else np.inf


@inlined
def quantile_of(gates, g, m, tenant, z):
    """Twin of `LengthModel.expect`: (mean, quantile) of output tokens."""
    lengths = gates.lengths
    t = tenant if lengths[g, m, tenant, s.KNOWN] != 0.0 else 0
    quantile = lengths[g, m, t, s.QUANTILE]
    if quantile != quantile:
        spread = z * math.sqrt(lengths[g, m, t, s.LOG_VARIANCE])
        log_quantile = min(lengths[g, m, t, s.LOG_MEAN] + spread, lengths[g, m, t, s.LOG_TOP])
        quantile = math.exp(log_quantile)
        lengths[g, m, t, s.QUANTILE] = quantile
    return lengths[g, m, t, s.MEAN], quantile


@compiled
def refusal(columns, live, m, params, rtt_row, n_in, n_out, n_out_q, network_j,
            ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s):  # fmt: skip
    """Twin of `pipeline._refusal`: the obstacle of the candidates that came closest."""
    labels, reasons = columns.labels[m], columns.reasons
    k.evaluate(
        columns.tables[m], live, labels, params, rtt_row, n_in, n_out, n_out_q, network_j,
        ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, columns.terms, reasons,
    )  # fmt: skip
    seen, down = 0, False
    for row in range(columns.sizes[m, 0]):
        seen |= 1 << reasons[row]
        if reasons[row] == k.UNHEALTHY and (labels[row] & residency) != 0:
            down = True
    if seen & (1 << k.FULL):
        return s.SHED
    if seen & ((1 << k.E2E_BUDGET) | (1 << k.TPOT_BUDGET) | (1 << k.TTFT_BUDGET)):
        return s.BUDGET_IMPOSSIBLE
    if down:
        return s.NO_ENDPOINT
    if seen & ((1 << k.CARBON_BUDGET) | (1 << k.CARBON_UNKNOWN) | (1 << k.CONTEXT)):
        return s.POLICY_EXCLUDES
    return s.RESIDENCY_EXCLUDED
