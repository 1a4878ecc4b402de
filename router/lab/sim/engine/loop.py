# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The compiled event loop: arrivals, the wire, replicas and polls in order of time.

Per request: a decision by `router.core.kernel.choose`, half a round trip, a replica's queue,
prefill and tokens, half a round trip back; then the lease is closed and the gateway learns. At one
moment replicas come first, then polls, arrivals, and what is on the wire. Whatever happens rarely
(carbon views, outages, hours) is done by `router.lab.sim.engine.run` between two calls of `run`.
"""

from __future__ import annotations

import math

import numpy as np

from router.core import kernel_rows as k
from router.core.burden import burdens
from router.core.jit import cached, inlined
from router.core.kernel import choose
from router.core.prefixes import MOST
from router.core.premiums import TEACHES, learn_premiums
from router.core.terms import waking_of
from router.core.waking import wanted_awake
from router.lab.sim.engine import ending, exchange, prompts
from router.lab.sim.engine import gateway as gw
from router.lab.sim.engine import replica as rp
from router.lab.sim.engine import state as s
from router.units import HOUR_S

# Why `run` came back.
REACHED, CHUNK_DONE, SLOTS_FULL, ROWS_FULL, DRAINED = range(5)

# What befalls a replica.
GOES_DOWN, DOWN_IS_NOTICED, COMES_UP, UP_IS_NOTICED = range(4)

# As of `router.director.dispatcher`, and one after the wait.
MOST_CLAIMS = 17


@inlined
def _keep_awake(world, m, row, now):
    """Row ``row`` of model ``m`` is wanted awake; -1: none is."""
    if row >= 0:
        r, scalars = world.columns.row_replicas[m, row], world.scalars
        rp.wake(world.plant, r, now, scalars[s.RELEASE_AFTER], scalars[s.WAKE_FOR])
        _publish_waking(world, r)


@inlined
def _publish_waking(world, r):
    release_after = world.scalars[s.RELEASE_AFTER]
    if release_after < np.inf:
        gw.publish_waking(world.gates, world.plant, r, world.columns.row_replicas, release_after)


@inlined
def _arrive(world, arrivals, i, seed, exact):
    """Decide on arrival ``i`` of the chunk: twin of `pipeline.decide` and of `Lease`."""
    columns, gates, scalars, registers = world.columns, world.gates, world.scalars, world.registers
    f, n, tally = world.flights.floats, world.flights.ints, world.tally
    now = arrivals.arrival_s[i]
    m = arrivals.model[i]
    tenant = arrivals.tenant[i] + 1
    request = registers[s.NEXT_REQUEST]
    registers[s.NEXT_REQUEST] = request + 1
    g = 0
    if gates.seats.shape[0] > 1:
        g = int(gw.uniform(0, request + 1) * gates.seats.shape[0])
    if now >= gates.ticks[g]:
        gates.ticks[g] = (math.floor(now / scalars[s.TICK]) + 1.0) * scalars[s.TICK]
        gw.digest(gates, g, scalars[s.Z], scalars[s.TPOT_Z])
    n_in = float(arrivals.input_tokens[i])
    n_out, n_out_q = gw.quantile_of(gates, g, m, tenant, scalars[s.Z])
    limit = float(arrivals.max_output_tokens[i])
    n_out, n_out_q = min(n_out, limit), min(n_out_q, limit)
    own_ttft, own_tpot = arrivals.ttft_budget_ms[i], arrivals.tpot_budget_ms[i]
    own_e2e = arrivals.e2e_budget_ms[i]
    rtt_row = columns.origin_rows[arrivals.origin[i]]
    residency = columns.masks[arrivals.residency[i]]
    slot_left_s = scalars[s.HOUR_ENDS_AT] - (scalars[s.START] + now)
    network_j = scalars[s.NETWORK_J_PER_TOKEN] * n_in
    live = gates.live[g, m]
    counted = now >= scalars[s.WARM_UP]
    starts = columns.starts[m, : columns.sizes[m, 1] + 1]
    cached = columns.uncached
    chained = arrivals.chain_starts[i + 1] > arrivals.chain_starts[i]
    looked_at = chained and gates.keeps[m] != 0
    if looked_at:
        cached = columns.cached
        prompts.expect_cached(world, arrivals, i, g, m)
    rung = -1
    row, prompt_ms, prefill_ms, queue_ms, cap, u = -1, np.nan, np.nan, np.nan, np.inf, 0.0
    paced = 0.0
    shares, waited, first = scalars[s.EXCHANGE] > 0.0, False, True
    for _ in range(MOST_CLAIMS):
        rung = -1
        while row < 0 and rung + 1 < columns.rungs.shape[0]:
            rung += 1
            draw = registers[s.DRAWS]
            registers[s.DRAWS] = draw + 1
            u = gw.uniform(seed, draw + 1)
            row, _, _, _, _, _, prompt_ms, prefill_ms, queue_ms, _, _, _, cap, paced = choose(
                columns.tables[m], live, columns.labels[m], starts, columns.rungs[rung],
                rtt_row, n_in, n_out, n_out_q, network_j, own_ttft, own_tpot, own_e2e,
                residency, slot_left_s, now, cached, u, columns.scratch,
            )  # fmt: skip
        if not shares:
            break
        if row < 0:
            if waited:
                break
            # It waits for a moment, and for what an exchange brings.
            waited = True
            exchange.exchange(gates, g, now, scalars[s.EXCHANGE])
            continue
        e = world.plant.states[columns.row_replicas[m, row], s.ENDPOINT]
        if exchange.claim(gates, g, e, now, first):
            break
        first = False
        row = -1
    if row >= 0 and u < TEACHES:
        learn_premiums(
            columns.tables[m], live, columns.labels[m], starts, columns.rungs[rung],
            rtt_row, n_in, n_out, n_out_q, network_j, own_ttft, own_tpot, own_e2e,
            residency, slot_left_s, now, cached, columns.scratch[k.S_BEST],
        )  # fmt: skip
    released = scalars[s.RELEASE_AFTER] < np.inf
    if released and (row < 0 or u < TEACHES):
        paid = np.inf
        for region in range(starts.size - 1 if rung == 0 else 0):
            paid = min(paid, columns.scratch[k.S_BEST, region])
        wanted = wanted_awake(
            columns.tables[m], live, columns.labels[m], columns.rungs[0],
            rtt_row, n_in, n_out, n_out_q, network_j, own_ttft, own_tpot, own_e2e,
            residency, slot_left_s, now, cached, paid,
        )  # fmt: skip
        _keep_awake(world, m, wanted, now)
    slot = registers[s.FREE_HEAD]
    registers[s.FREE_HEAD] = n[slot, s.NEXT]
    registers[s.IN_FLIGHT] += 1
    tally.offered[0] += counted
    f[slot, s.ARRIVAL] = now
    f[slot, s.N_IN] = n_in
    f[slot, s.N_OUT] = arrivals.output_tokens[i]
    n[slot, s.REQUEST] = request
    n[slot, s.MODEL] = m
    n[slot, s.ORIGIN] = arrivals.origin[i]
    n[slot, s.GATEWAY] = g
    n[slot, s.BLOCKS] = 0
    if row < 0:
        n[slot, s.REPLICA] = -1
        reason = gw.refusal(
            columns, live, m, columns.rungs[rung], rtt_row, n_in, n_out, n_out_q, network_j,
            own_ttft, own_tpot, own_e2e, residency, slot_left_s, now, cached,
        )  # fmt: skip
        ending.miss(world, slot, reason)
        return
    r = columns.row_replicas[m, row]
    states = world.plant.states
    e = states[r, s.ENDPOINT]
    rtt_ms = columns.tables[m, rtt_row, row]
    pace, pace2, context = burdens(prompt_ms, n_in, n_out)
    if states[r, s.ONE_UNIT] != 0:
        f[slot, s.N_OUT] = 1.0
        prompt_ms, pace, pace2, context, paced = 0.0, 0.0, 0.0, 0.0, 0.0
    f[slot, s.HALF_RTT] = rtt_ms / 2e3 + world.plant.replicas[r, s.PATH_S] / 2.0
    f[slot, s.TTFT_BUDGET] = own_ttft
    f[slot, s.TPOT_BUDGET] = own_tpot
    f[slot, s.E2E_BUDGET] = own_e2e
    f[slot, s.PREFILL_MS] = prefill_ms
    if waking_of(columns.tables[m], live, row, now)[0] > 0.0:
        # That it waits for a replica to wake teaches nothing of those who find it awake.
        f[slot, s.PREFILL_MS] = np.nan
    f[slot, s.QUEUE_MS] = queue_ms
    f[slot, s.CAP] = cap
    f[slot, s.PACE_MS], f[slot, s.PACE2_MS2], f[slot, s.CONTEXT] = pace, pace2, context
    f[slot, s.PROMPT_MS], f[slot, s.PACED_MS] = prompt_ms, paced
    f[slot, s.NETWORK_J] = network_j
    n[slot, s.REPLICA] = r
    n[slot, s.TENANT] = tenant
    n[slot, s.PHASE] = s.OUTBOUND
    gw.take(gates, f, slot, g, e, now, exact)
    f[slot, s.SENT_CACHED] = 0.0
    if chained and world.plant.kept.states[r, MOST] > 0:
        prompts.send_prompt(world, arrivals, i, slot)
    if looked_at:
        prompts.note_prompt(world, arrivals, i, slot, g, m, row)
    f[slot, s.BATCH_AT_START] = gw.batch(gates, g, e)
    pace, _, cached = gw.burdens(gates, g, e)
    f[slot, s.PACE_AT_START], f[slot, s.CACHED_AT_START] = pace, cached
    region = states[r, s.REGION]
    tally.moves[arrivals.origin[i], m, region] += 1
    if counted:
        for taken in range(rung):
            tally.relaxed[taken] += 1
        hour = int((scalars[s.HOUR_ZERO] + now) / HOUR_S)
        tally.hours[min(hour, tally.hours.shape[0] - 1), region] += 1
    # What goes by before a prompt's first iteration takes nothing of the replica.
    _send(world, slot, now + f[slot, s.HALF_RTT] + world.plant.replicas[r, s.PREFILL_BASE])


@inlined
def _send(world, slot, at):
    flights, registers = world.flights, world.registers
    rp.push(flights.wire_keys, flights.wire_slots, 0, registers[s.WIRE], at, slot)
    registers[s.WIRE] += 1


@inlined
def _land(world, now, exact):
    """What is first on the wire arrives: at its replica, or back at its caller."""
    flights, registers, scalars = world.flights, world.registers, world.scalars
    slot = flights.wire_slots[0]
    rp.pop(flights.wire_keys, flights.wire_slots, 0, registers[s.WIRE])
    registers[s.WIRE] -= 1
    if flights.ints[slot, s.PHASE] == s.INBOUND:
        ending.answer(world, slot, now, exact)
        return
    r = flights.ints[slot, s.REPLICA]
    states = world.plant.states
    if states[r, s.STATE] != s.DOWN:
        rp.admit(world.plant, flights, r, slot, now, scalars[s.RELEASE_AFTER], scalars[s.WAKE_FOR])
        _publish_waking(world, r)
    elif states[r, s.NOTICED] != 0:
        ending.lose(world, slot, exact)
    else:
        flights.ints[slot, s.PHASE] = s.LOST


@inlined
def _is_exact(scalars, gates):
    """Whether gateways know of each other at once."""
    alone = gates.polls.size == 1
    return not alone and scalars[s.STALENESS] == 0.0 and scalars[s.EXCHANGE] == 0.0


@cached
def run(world, arrivals, until, final, seed):
    """Run until just before ``until``, or until the chunk's last arrival unless ``final``.

    Returns why it came back. Replicas' events at ``until`` are done, others' are not.
    """
    plant, registers, scalars = world.plant, world.registers, world.scalars
    gates, flights = world.gates, world.flights
    size = arrivals.arrival_s.size
    shares = scalars[s.EXCHANGE] > 0.0
    polled = (scalars[s.STALENESS] > 0.0 or shares) and gates.polls.size > 1
    exact = _is_exact(scalars, gates)
    row_limit = world.tally.row_ints.shape[0]
    next_poll = np.inf
    if polled:
        next_poll = gates.polls[gw.next_poller(gates.polls)]
    while True:
        cursor = registers[s.CURSOR]
        arrival = np.inf
        if cursor < size:
            arrival = arrivals.arrival_s[cursor]
        elif not final:
            return CHUNK_DONE
        if row_limit > 0 and registers[s.ROWS] >= row_limit:
            return ROWS_FULL
        wire = np.inf
        if registers[s.WIRE] > 0:
            wire = flights.wire_keys[0]
        next_at = min(arrival, wire)
        due = plant.due[1]
        if due <= next_at and due <= next_poll and due <= until:
            if due == np.inf:
                return DRAINED
            first = plant.winners[1]
            ended = rp.step(plant, flights, first, scalars[s.RELEASE_AFTER])
            if plant.states[first, s.RUNNING] == 0:
                _publish_waking(world, first)
            if ended >= 0:
                flights.ints[ended, s.PHASE] = s.INBOUND
                _send(world, ended, due + flights.floats[ended, s.HALF_RTT])
        elif next_at >= until and next_poll >= until:
            return REACHED
        elif next_poll <= next_at:
            if next_at == np.inf and due == np.inf:
                return DRAINED
            g = gw.next_poller(gates.polls)
            if shares:
                exchange.exchange(gates, g, next_poll, scalars[s.EXCHANGE])
            else:
                gw.poll(gates, plant, g)
                gates.polls[g] += scalars[s.STALENESS]
            next_poll = gates.polls[gw.next_poller(gates.polls)]
        elif arrival <= wire:
            if registers[s.FREE_HEAD] < 0:
                return SLOTS_FULL
            registers[s.CURSOR] = cursor + 1
            _arrive(world, arrivals, cursor, seed, exact)
            if shares and polled:
                next_poll = gates.polls[gw.next_poller(gates.polls)]
        else:
            _land(world, wire, exact)


@cached
def befall(world, r, what, now):
    """An outage's turn on replica ``r``; False when rows ran out: call again."""
    plant, n, release_after = world.plant, world.flights.ints, world.scalars[s.RELEASE_AFTER]
    exact = _is_exact(world.scalars, world.gates)
    row_limit = world.tally.row_ints.shape[0]
    if what == GOES_DOWN:
        rp.go_down(plant, r, now, release_after)
        for slot in range(n.shape[0]):
            if n[slot, s.REPLICA] == r and n[slot, s.PHASE] == s.PLACED:
                n[slot, s.PHASE] = s.LOST
    elif what == COMES_UP:
        rp.come_up(plant, r, now, release_after)
        _publish_waking(world, r)
    else:
        down = what == DOWN_IS_NOTICED
        plant.states[r, s.NOTICED] = down
        e = plant.states[r, s.ENDPOINT]
        for g in range(world.gates.live.shape[0]):
            for cell in range(world.gates.cell_starts[e], world.gates.cell_starts[e + 1]):
                m, row = world.gates.cells[cell, 0], world.gates.cells[cell, 1]
                gone = down or plant.states[r, s.STATE] == s.ASLEEP
                world.gates.live[g, m, k.ELIGIBLE, row] = 0.0 if gone else 1.0
        if down:
            for slot in range(n.shape[0]):
                if n[slot, s.REPLICA] == r and n[slot, s.PHASE] == s.LOST:
                    if row_limit > 0 and world.registers[s.ROWS] >= row_limit:
                        return False
                    ending.lose(world, slot, exact)
    return True


@cached
def scale(world, e, awake, now):
    """Endpoint ``e`` is woken, or released: every replica on it."""
    gates, scalars = world.gates, world.scalars
    for at in range(gates.endpoint_starts[e], gates.endpoint_starts[e + 1]):
        r = gates.endpoint_replicas[at]
        rp.scale(world.plant, r, awake, now, scalars[s.RELEASE_AFTER], scalars[s.WAKE_FOR])
