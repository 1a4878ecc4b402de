# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""How a simulated request ends, compiled: answered, refused or lost; what it used and taught."""

from __future__ import annotations

import numpy as np

from router.core.jit import compiled, inlined
from router.core.latency import PACE_TOKENS
from router.core.stepwise import mean_of_steps
from router.lab.sim.engine import gateway as gw
from router.lab.sim.engine import state as s
from router.lab.sim.histogram import BINS, LOWEST_EXPONENT
from router.units import J_PER_KWH


@inlined
def _bin(tally, value_ms):
    tally.cell[0] = value_ms
    found = (tally.cell_bits[0] >> 44) - ((1023 + LOWEST_EXPONENT) << 8)
    return min(max(found, 0), BINS - 1)


@compiled
def _write_row(world, slot, end_s, g_per_kwh, attributional_g, marginal_g, met, reason):
    tally, registers = world.tally, world.registers
    f, n = world.flights.floats, world.flights.ints
    row = registers[s.ROWS]
    registers[s.ROWS] = row + 1
    out, codes = tally.row_floats, tally.row_ints
    r = n[slot, s.REPLICA]
    out[row, 0] = f[slot, s.ARRIVAL]
    for at in range(1, 11):
        out[row, at] = np.nan
    codes[row, 0] = n[slot, s.REQUEST]
    codes[row, 1] = n[slot, s.ORIGIN]
    codes[row, 2] = n[slot, s.MODEL]
    codes[row, 3] = -1
    codes[row, 4] = -1
    if r >= 0:
        codes[row, 3] = world.plant.states[r, s.REGION]
        codes[row, 4] = world.plant.states[r, s.ENDPOINT]
    if reason == s.SERVED:
        out[row, 1] = f[slot, s.STARTED]
        out[row, 2] = f[slot, s.FIRST] + f[slot, s.HALF_RTT] - f[slot, s.ARRIVAL]
        out[row, 3] = end_s
        out[row, 4] = f[slot, s.SHARE]
        out[row, 5] = f[slot, s.AWAKE]
        out[row, 6] = attributional_g
        out[row, 7] = marginal_g
        out[row, 8] = g_per_kwh
        out[row, 9] = f[slot, s.READING_S]
        out[row, 10] = f[slot, s.CACHED]
    codes[row, 5] = int(f[slot, s.N_IN])
    codes[row, 6] = int(f[slot, s.N_OUT])
    codes[row, 7] = met
    codes[row, 8] = reason


@inlined
def _release(world, slot):
    world.flights.ints[slot, s.PHASE] = s.FREE
    world.flights.ints[slot, s.NEXT] = world.registers[s.FREE_HEAD]
    world.registers[s.FREE_HEAD] = slot
    world.registers[s.IN_FLIGHT] -= 1


@compiled
def miss(world, slot, reason):
    """A request that gets no answer."""
    if world.flights.floats[slot, s.ARRIVAL] >= world.scalars[s.WARM_UP]:
        world.tally.reasons[reason] += 1
        if world.tally.row_ints.shape[0] > 0:
            _write_row(world, slot, np.nan, np.nan, np.nan, np.nan, 0, reason)
    _release(world, slot)


@compiled
def lose(world, slot, exact):
    """A request whose replica is gone, once its gateway knows."""
    f, n = world.flights.floats, world.flights.ints
    e = world.plant.states[n[slot, s.REPLICA], s.ENDPOINT]
    gw.give_back(world.gates, f, slot, n[slot, s.GATEWAY], e, exact)
    miss(world, slot, s.FAULT)


@inlined
def answer(world, slot, now, exact):
    """The answer is back with its caller: twin of `Replay._answer`."""
    f, n, tally, scalars = world.flights.floats, world.flights.ints, world.tally, world.scalars
    states = world.plant.states
    r = n[slot, s.REPLICA]
    e = states[r, s.ENDPOINT]
    g = n[slot, s.GATEWAY]
    one_unit = states[r, s.ONE_UNIT] != 0
    tpot_ms = 0.0
    if not one_unit:
        batch = (f[slot, s.BATCH_AT_START] + gw.batch(world.gates, g, e)) / 2.0
        running = min(batch, float(states[r, s.MAX_BATCH]))
        share = running / batch
        pace, _, cached = gw.burdens(world.gates, g, e)
        pace = (f[slot, s.PACE_AT_START] + pace) / 2.0 - f[slot, s.PACE_MS]
        cached = (f[slot, s.CACHED_AT_START] + cached) / 2.0
        replicas = world.plant.replicas
        tpot_s = replicas[r, s.TPOT_BASE] + replicas[r, s.TPOT_SLOPE] * running
        tpot_s += replicas[r, s.TPOT_CACHED] * cached * share
        tpot_ms = tpot_s * 1e3 + max(0.0, pace) * share
    gw.give_back(world.gates, f, slot, g, e, exact)
    gw.note(
        world.gates, world.flights, world.plant, slot, tpot_ms, now,
        scalars[s.Z], scalars[s.TPOT_Z],
    )  # fmt: skip
    if f[slot, s.ARRIVAL] >= scalars[s.WARM_UP]:
        ttft_ms = (f[slot, s.FIRST] + f[slot, s.HALF_RTT] - f[slot, s.ARRIVAL]) * 1e3
        e2e_ms = (now - f[slot, s.ARRIVAL]) * 1e3
        later = f[slot, s.N_OUT] - 1.0
        if later > 0.0:
            tally.latencies[2, _bin(tally, (e2e_ms - ttft_ms) / later)] += 1
        pace_ms = (e2e_ms - ttft_ms) / max(later, PACE_TOKENS - 1.0)
        met = 1
        if ttft_ms > f[slot, s.TTFT_BUDGET] or e2e_ms > f[slot, s.E2E_BUDGET]:
            met = 0
        if pace_ms > f[slot, s.TPOT_BUDGET]:
            met = 0
        ci = mean_of_steps(
            tally.actual[:, states[r, s.ZONE]], scalars[s.ACTUAL_STEP],
            scalars[s.START] + f[slot, s.STARTED] - scalars[s.ACTUAL_START],
            scalars[s.START] + f[slot, s.ENDED] - scalars[s.ACTUAL_START],
        )  # fmt: skip
        pue = world.plant.replicas[r, s.PUE]
        g_per_j = ci / J_PER_KWH
        attributional_g = (f[slot, s.SHARE] * pue + f[slot, s.NETWORK_J]) * g_per_j
        marginal_g = (f[slot, s.AWAKE] * pue + f[slot, s.NETWORK_J]) * g_per_j
        region = states[r, s.REGION]
        tally.answered[n[slot, s.MODEL], r] += 1
        tally.sums[region, s.SUM_COMPLETED] += 1.0
        tally.sums[region, s.SUM_J] += f[slot, s.SHARE]
        tally.sums[region, s.SUM_MARGINAL_J] += f[slot, s.AWAKE]
        tally.sums[region, s.SUM_G] += attributional_g
        tally.sums[region, s.SUM_MARGINAL_G] += marginal_g
        tally.sums[region, s.SUM_PROMPT_J] += f[slot, s.READING_S]
        tally.sums[region, s.SUM_MET] += met
        tally.sums[region, s.SUM_INPUT] += f[slot, s.N_IN]
        tally.sums[region, s.SUM_CACHED] += f[slot, s.CACHED]
        tally.latencies[0, _bin(tally, ttft_ms)] += 1
        tally.latencies[1, _bin(tally, e2e_ms)] += 1
        if tally.row_ints.shape[0] > 0:
            _write_row(world, slot, now, ci, attributional_g, marginal_g, met, s.SERVED)
    _release(world, slot)
