# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Filling replicas with flows, compiled: small steps of demand, each placed by the kernel.

A replica that is given requests at rate L (n tokens on the mean, w seconds of its iterations for a
prompt, k tokens cached) holds

    b = L * (n * (a + (c + d * k) * (b + 1)) + w * (b + 1))

of them (Little's law): who comes meets b there, and is there itself; b / n of a prompt comes with
every iteration. Its endpoint has b + L * RTT in flight. Steps see what the steps before them put
there, as requests see those before them; as the mix of demand is the same at every step, what a
part of the steps fills is also what a lower demand comes to.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from router.core import kernel_rows as k
from router.core.burden import context_tokens
from router.core.jit import kept
from router.core.kernel import choose
from router.core.premiums import TEACHES, learn_premiums
from router.lab.sim.engine import gateway as gw
from router.lab.sim.engine import state as s
from router.lab.sim.engine.state import Floats, Ints

# What a replica is given: requests/s, s of prompts and their squares a second, tokens/s, those
# times the tokens that their sequence has cached, requests on the wire.
RATE, PROMPT, PROMPT2, TOKENS, CONTEXT, WIRE = range(6)
LOADS = 6
# What is counted of it: requests, tokens, J of network, s of prompts.
N_REQUESTS, N_TOKENS, N_NETWORK_J, N_PROMPT_S = range(4)
COUNTED = 4
# A replica that runs this close to as fast as it can is full, as its queue would grow.
_SATURATED = 0.999


class Flows(NamedTuple):
    """The flows of a slot, (flows,) each. ``codes`` (flows, 4): RTT row, model, residency bits,
    origin. ``asks`` (flows, 8): TTFT, TPOT and end-to-end budget, input tokens, output tokens,
    those expected and their quantile, network J.
    """

    codes: Ints
    asks: Floats


class Steps(NamedTuple):
    """``flow``, ``rate`` (requests/s) and ``requests`` that it stands for, (steps,) each.

    ``ends`` (nodes,): steps after which the loads are noted.
    """

    flow: Ints
    rate: Floats
    requests: Floats
    ends: Ints


class Filled(NamedTuple):
    """``loads`` (replicas, LOADS): now; ``noted`` (nodes, replicas, LOADS); ``counted``
    (replicas, COUNTED); ``placed`` (origins, models, regions): requests; ``reasons``: requests
    without an answer; ``relaxed`` (rungs,): by rung.
    """

    loads: Floats
    noted: Floats
    counted: Floats
    placed: Floats
    reasons: Floats
    relaxed: Floats


@numba.njit(error_model="numpy")
def taken(plant, r, load):
    """The share of replica ``r``'s time that sequences and prompts take, whatever their number:
    what is left goes into the fixed time of iterations.
    """
    f = plant.replicas
    return load[PROMPT] + load[TOKENS] * f[r, s.TPOT_SLOPE] + load[CONTEXT] * f[r, s.TPOT_CACHED]


@numba.njit(error_model="numpy")
def batch_of(plant, r, load):
    """Sequences in a slot of replica ``r`` under ``load`` (LOADS,); (batch, whether full)."""
    most = float(plant.states[r, s.MAX_BATCH])
    left = 1.0 - taken(plant, r, load)
    if left <= 0.0:
        return most, True
    batch = (load[TOKENS] * plant.replicas[r, s.TPOT_BASE] + 1.0 - left) / left
    return min(batch, most), batch >= _SATURATED * most


@numba.njit(error_model="numpy")
def _backlog_s(load, tick_s):
    """Seconds of prompts that who comes finds unread, on the mean: so much that the kernel's
    ``known`` is its ``usual``."""
    busy = load[PROMPT]
    decode_s = tick_s * (1.0 - busy)
    longer_s = tick_s + load[PROMPT2] * tick_s / (decode_s * (1.0 + busy))
    return (0.5 + busy) * longer_s / (1.0 + busy) - 0.5 * decode_s


@numba.njit(error_model="numpy")
def _in_flight(world, loads, limits, e):
    """(requests in flight, at its limit where a replica of it is full; what they add: pace, pace2,
    cached tokens; s of prompts that are not read yet) of an endpoint."""
    in_flight, pace, pace2, cached, backlog_s = 0.0, 0.0, 0.0, 0.0, 0.0
    for at in range(world.gates.endpoint_starts[e], world.gates.endpoint_starts[e + 1]):
        r = world.gates.endpoint_replicas[at]
        load = loads[r]
        batch, full = batch_of(world.plant, r, load)
        in_flight += batch + load[WIRE]
        if load[TOKENS] > 0.0:
            # Of each there is as much as of requests: batch / tokens is the time of an iteration.
            tick_s = batch / load[TOKENS]
            pace += load[PROMPT] * tick_s * 1e3
            pace2 += load[PROMPT2] * tick_s * 1e6
            cached += load[CONTEXT] * tick_s
            backlog_s += _backlog_s(load, tick_s)
        if full:
            in_flight = max(in_flight, limits[e])
    return in_flight, pace, pace2, cached, backlog_s


@numba.njit(error_model="numpy")
def _publish(world, loads, limits, usual, e, draw):
    """What a gateway sees of an endpoint: all that is in flight to it.

    To a policy that holds back from waking replicas (``draw`` in [0, 1), else NaN) an endpoint has
    whole requests, one at the least, or none, as often as a Poisson count is 0 of what is there or
    usually is: less than one on the mean is no idle replica.
    """
    in_flight, pace, pace2, cached, backlog_s = _in_flight(world, loads, limits, e)
    there = in_flight
    if draw == draw:
        if usual[e] > 0.0:
            in_flight = 0.0 if draw < math.exp(-usual[e]) else max(1.0, in_flight)
        elif in_flight > 0.0:
            in_flight = max(1.0, in_flight)
    shown = in_flight / there if there > 0.0 else 0.0
    for cell in range(world.gates.cell_starts[e], world.gates.cell_starts[e + 1]):
        m, row = world.gates.cells[cell, 0], world.gates.cells[cell, 1]
        world.gates.live[0, m, k.PROMPTS_MS, row] = pace * shown
        world.gates.live[0, m, k.PROMPTS_MS2, row] = pace2 * shown
        world.gates.live[0, m, k.CACHED_TOKENS, row] = cached * shown
        world.gates.live[0, m, k.BACKLOG_ENDS_S, row] = backlog_s * shown
        world.gates.live[0, m, k.BACKLOG_MOST_MS, row] = np.inf
        world.gates.live[0, m, k.PER_PLACE, row] = 1.0 / (in_flight + 1.0)
        world.gates.live[0, m, k.BATCH, row] = in_flight
        world.gates.live[0, m, k.OWN, row] = in_flight
        world.gates.live[0, m, k.AWAKE, row] = in_flight >= 1.0


@numba.njit(error_model="numpy")
def _choose(world, flows, f, draw, slot_left_s, rungs, relaxed, amount):
    """(row, pace cap, why there is none) of flow ``f``; the first rung that serves it decides."""
    columns = world.columns
    m, ask = flows.codes[f, 1], flows.asks[f]
    live, labels = world.gates.live[0, m], columns.labels[m]
    starts = columns.starts[m, : columns.sizes[m, 1] + 1]
    rung, row, cap = 0, -1, np.inf
    while True:
        row, _, _, _, _, _, _, _, _, _, _, _, cap, _ = choose(
            columns.tables[m], live, labels, starts, rungs[rung], flows.codes[f, 0], ask[3],
            ask[5], ask[6], ask[7], ask[0], ask[1], ask[2], flows.codes[f, 2], slot_left_s, 0.0,
            columns.uncached, draw, columns.scratch,
        )  # fmt: skip
        if row >= 0 or rung + 1 == rungs.shape[0]:
            break
        relaxed[rung] += amount
        rung += 1
    if row < 0:
        reason = gw.refusal(
            columns, live, m, rungs[rung], flows.codes[f, 0], ask[3], ask[5], ask[6], ask[7],
            ask[0], ask[1], ask[2], flows.codes[f, 2], slot_left_s, 0.0,
            columns.uncached,
        )  # fmt: skip
        return row, cap, reason
    if draw < TEACHES:
        learn_premiums(
            columns.tables[m], live, labels, starts, rungs[rung], flows.codes[f, 0], ask[3],
            ask[5], ask[6], ask[7], ask[0], ask[1], ask[2], flows.codes[f, 2], slot_left_s, 0.0,
            columns.uncached, columns.scratch[k.S_BEST],
        )  # fmt: skip
    return row, cap, s.SERVED


@numba.njit(error_model="numpy")
def _learn(world, live, loads, z, tpot_z, sd, queue_sd):
    """The latency factors that endpoints learn from requests.

    How far the TPOT of a request is from the model's is a matter of the prompts that happened to
    be read meanwhile: at L requests/s with prompts of w s they take a time of variance L * w**2 * s
    in a stay of s seconds. The prediction, by who was there at its ends, strays about as much.
    A queue strays by a share of its mean.
    """
    columns, plant = world.columns, world.plant
    for m in range(live.shape[0]):
        for row in range(columns.sizes[m, 0]):
            r = columns.row_replicas[m, row]
            load = loads[r]
            if load[RATE] > 0.0:
                batch, _ = batch_of(plant, r, load)
                stray = sd * sd + 2.0 * load[PROMPT2] * load[RATE] / batch
                live[m, k.TTFT_FACTOR, row] = 1.0
                live[m, k.QUEUE_FACTOR, row] = max(0.1, 1.0 + z * queue_sd)
                live[m, k.TPOT_FACTOR, row] = math.exp(tpot_z * math.sqrt(stray))


@kept
@numba.njit(error_model="numpy")
def fill(world, limits, flows, steps, filled, usual, draws, slot_left_s, learn, rungs):
    """Place every step, in order, on replicas that are empty before the first.

    ``limits`` (endpoints,): max_in_flight. ``usual`` (endpoints,): what was in flight at the
    end of the fill before, who is awake already; then of this one. ``draws``: draws of
    near-ties so far; returns it. ``learn``: the deviates of the policy's quantiles, what TPOT
    strays by without prompts and queues by of their mean, for the factors of endpoints once
    they had requests, others keep their prior ones; and 1 to end with the highest level of
    demand, 0 to take the steps beyond it too. ``rungs`` (1 + rungs, PARAMS): the policy's.
    """
    z, tpot_z, sd, queue_sd, last = learn
    plant, gates, columns = world.plant, world.gates, world.columns
    live = gates.live[0]
    live[:, k.BATCH] = 0.0
    live[:, k.OWN] = 0.0
    live[:, k.AWAKE] = 0.0
    live[:, k.PACE_CAP_MS] = np.inf
    live[:, k.PROMPTS_MS : k.FOREIGN + 1] = 0.0
    live[:, k.PER_PLACE] = 1.0
    # The fleet's account says what is released; requests do not wait for it to wake.
    live[:, k.RELEASES_AT_S] = np.inf
    endpoints = limits.size
    waking = rungs[0, k.WAKE_ENERGY] + rungs[0, k.WAKE_PREMIUM]
    wakes = rungs[0, k.W_GCO2E] > 0.0 and waking > 0.0
    if wakes:
        for e in range(endpoints):
            _publish(world, filled.loads, limits, usual, e, gw.uniform(e + 1, draws))
    node = 0
    count = steps.flow.size
    if last != 0.0 and steps.ends.size > 0:
        count = steps.ends[-1]
    for i in range(count):
        while node < steps.ends.size and steps.ends[node] <= i:
            filled.noted[node] = filled.loads
            node += 1
        f, rate, requests = steps.flow[i], steps.rate[i], steps.requests[i]
        m, ask = flows.codes[f, 1], flows.asks[f]
        draws += 1
        draw = gw.uniform(0, draws)
        if wakes:
            e = draws % endpoints
            _publish(world, filled.loads, limits, usual, e, gw.uniform(e + 1, draws))
        row, cap, reason = _choose(
            world, flows, f, draw, slot_left_s, rungs, filled.relaxed, requests
        )
        if row < 0:
            filled.reasons[reason] += requests
            continue
        r = columns.row_replicas[m, row]
        region = plant.states[r, s.REGION]
        filled.placed[flows.codes[f, 3], m, region] += requests
        if plant.states[r, s.STATE] == s.DOWN:
            filled.reasons[s.FAULT] += requests
            continue
        e = plant.states[r, s.ENDPOINT]
        n_out = ask[4]
        if plant.states[r, s.ONE_UNIT] != 0:
            n_out = 1.0
        else:
            for cell in range(gates.cell_starts[e], gates.cell_starts[e + 1]):
                at = gates.cells[cell]
                cell_cap = live[at[0], k.PACE_CAP_MS, at[1]]
                live[at[0], k.PACE_CAP_MS, at[1]] = min(cell_cap, cap)
        load = filled.loads[r]
        replica = plant.replicas[r]
        per_token_s = replica[s.PREFILL_TOKEN] + replica[s.PREFILL_TOKEN2] * ask[3] / 2.0
        prompt_s = replica[s.PREFILL_PIECE] + per_token_s * ask[3]
        load[RATE] += rate
        load[PROMPT] += rate * prompt_s
        load[PROMPT2] += rate * prompt_s * prompt_s
        load[TOKENS] += rate * n_out
        load[CONTEXT] += rate * n_out * context_tokens(ask[3], n_out)
        rtt_s = columns.tables[m, flows.codes[f, 0], row] / 1e3
        load[WIRE] += rate * (rtt_s + replica[s.PATH_S] + replica[s.PREFILL_BASE])
        filled.counted[r, N_PROMPT_S] += requests * prompt_s
        filled.counted[r, N_REQUESTS] += requests
        filled.counted[r, N_TOKENS] += requests * n_out
        filled.counted[r, N_NETWORK_J] += requests * ask[7]
        seen = gw.uniform(e + 1, draws) if wakes else np.nan
        _publish(world, filled.loads, limits, usual, e, seen)
        for cell in range(gates.cell_starts[e], gates.cell_starts[e + 1]):
            at = gates.cells[cell]
            live[at[0], k.TURNS, at[1]] += requests
    while node < steps.ends.size:
        filled.noted[node] = filled.loads
        node += 1
    for e in range(endpoints):
        usual[e] = _in_flight(world, filled.loads, limits, e)[0]
    _learn(world, live, filled.loads, z, tpot_z, sd, queue_sd)
    return draws


@numba.njit(error_model="numpy")
def _added(base, slope, batch):
    """By how much requests of a batch prolong each other's run, all of them together."""
    if batch <= 1.0:
        return 1.0
    if batch >= 2.0:
        return slope * batch / (base + slope * batch)
    return (2.0 - batch) + (batch - 1.0) * 2.0 * slope / (base + 2.0 * slope)


@kept
@numba.njit(error_model="numpy")
def occupancy(plant, r, load, together):
    """(share of time busy, time added by requests beside others: a share of all time).

    ``together``: alike replicas that share their requests evenly; 1 for one by itself. Requests
    come as a Poisson process: with n of them present in a group of K, each is served as in a batch
    of n / K, and the number present has the product form pi(n) / pi(n - 1) = L * residence / n,
    which the law of lengths does not change. The second figure is the integral by which
    `router.lab.replay.replica` counts short-run marginal energy.
    """
    batch, full = batch_of(plant, r, load)
    if batch <= 0.0:
        return 0.0, 0.0
    base, slope = plant.replicas[r, s.TPOT_BASE], taken(plant, r, load) / load[TOKENS]
    if full or batch > 24.0:
        return 1.0, 1.0 if full else _added(base, slope, batch)
    most = together * plant.states[r, s.MAX_BATCH]
    weight, total, busy, added, n = 1.0, 1.0, 0.0, 0.0, 0
    while n < most and (weight > 1e-9 * total or n < together * batch):
        n += 1
        each = max(1.0, n / together)
        held = together * load[TOKENS] * (base + slope * each)
        weight *= held / n
        total += weight
        awake = min(1.0, n / together)
        busy += weight * awake
        added += weight * awake * _added(base, slope, each)
        if total > 1e200:
            weight, total = weight * 1e-200, total * 1e-200
            busy, added = busy * 1e-200, added * 1e-200
    return busy / total, added / total


@kept
@numba.njit(error_model="numpy")
def occupancies(plant, noted, together, lasting, busy, added, rate):
    """Means over the noted loads: of `occupancy`'s two figures, and of requests/s; (replicas,).

    Loads at the levels of demand vary as counts of requests do, which `occupancy` brings with it
    too: they are drawn towards their mean until both together vary as they should, by no less
    than ``lasting``, the share of their variance that is the rate's own.
    """
    busy[:], added[:], rate[:] = 0.0, 0.0, 0.0
    nodes = noted.shape[0]
    load = np.empty(LOADS)
    for r in range(noted.shape[1]):
        mean, square = 0.0, 0.0
        for node in range(nodes):
            batch, _ = batch_of(plant, r, noted[node, r])
            mean += batch / nodes
            square += batch * batch / nodes
            rate[r] += noted[node, r, RATE] / nodes
        if rate[r] <= 0.0:
            continue
        variance = together[r] * max(square - mean * mean, 0.0)
        kept = math.sqrt(max(lasting, 1.0 - mean / variance)) if variance > 0.0 else 1.0
        for node in range(nodes):
            for at in range(LOADS):
                usual = noted[:, r, at].mean()
                load[at] = usual + kept * (noted[node, r, at] - usual)
            b, a = occupancy(plant, r, load, together[r])
            busy[r] += b / nodes
            added[r] += a / nodes
