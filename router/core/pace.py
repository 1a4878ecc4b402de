"""Caps of the pace: the longest mean iteration that a request tolerates, in steps."""

from __future__ import annotations

import numpy as np

from router.core import kernel_rows as k
from router.core.jit import entry, inlined_early
from router.core.terms import LEAST_MS

# Caps of the pace are whole steps of this, in log2 of ms, from the least on: rounded down by 0.3 %.
PACE_STEPS = 256.0
LEAST_PACE_LOG2 = -4.0
PACES = 6144


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


@inlined_early
def pace_cap(table, live, i, ask, ttft, pace):
    """Mean iteration, ms, beyond which a request placed at candidate i would break its own TPOT or
    e2e budget; inf: none would. The e2e budget leaves (e2e - ttft) / n_out for each token. No
    shorter than it is with the request there, which is why it was placed."""
    allowed = ask.tpot_budget
    if ask.e2e_budget < np.inf:
        allowed = min(allowed, (ask.e2e_budget - ttft) / max(ask.n_out_q, 1.0))
    cap = np.inf
    # A task has no tokens, and nothing to slow down.
    if allowed < np.inf and table[k.TPOT_BASE_MS, i] > 0.0:
        cap = floor_pace(max(allowed / live[k.TPOT_FACTOR, i], pace * (1.0 + 1.0 / PACE_STEPS)))
    return cap
