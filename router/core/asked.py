"""What the cost kernel takes from a request, its policy and a region, whoever the candidate is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core import kernel_rows as k
from router.core.burden import context_tokens
from router.core.jit import inlined_early
from router.units import J_PER_KWH

# Types of a request's figures, from ``rtt_row`` on, as `router.core.question` has them.
REQUEST = "i8, f8, f8, f8, f8, f8, f8, f8, i8, f8, f8, f8[::1]"

_KWH_PER_J = 1.0 / J_PER_KWH


class Ask(NamedTuple):
    """A request: what is the same for every candidate. ``n_in2``: n_in squared; ``per_n_out``:
    1 / n_out; ``context``: tokens cached on the mean; ``residency``: bits of where it may run.
    ``cached`` (n,): tokens of its prompt that each candidate is expected to have read before.
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
    cached: NDArray[np.float64]


class Rule(NamedTuple):
    """The policy's share of a candidate's terms. ``balances``: load or turns have a weight; most
    policies spare themselves those two columns. ``burst_tokens``: iterations that prompts may be
    ahead of their turn; inf: they may come at any time. ``sleep``: 1; 0: as were all awake.
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
    burst_tokens: float
    sleep: float


class PlaceTerms(NamedTuple):
    """What is the same throughout a region. ``ci``: of the current hour; ``label``: bits."""

    rtt: float
    kwh_per_j: float
    ci: float
    label: int


@inlined_early
def _within(own_ms, params, policy):
    """A latency budget in force: the caller's own where there is one, else the policy's."""
    return own_ms if own_ms < np.inf else params[policy]


@inlined_early
def ask_of(
    params, n_in, n_out, n_out_q, network_j, ttft_budget, tpot_budget, e2e_budget, residency,
    slot_left_s, now_s, cached,
):  # fmt: skip
    return Ask(
        n_in, n_out, n_out_q, n_in * n_in, 1.0 / max(n_out, 1.0), context_tokens(n_in, n_out),
        network_j * _KWH_PER_J,
        _within(ttft_budget, params, k.POLICY_TTFT_MS),
        _within(tpot_budget, params, k.POLICY_TPOT_MS),
        _within(e2e_budget, params, k.POLICY_E2E_MS),
        residency, slot_left_s, now_s, cached,
    )  # fmt: skip


@inlined_early
def rule_of(params, burst_tokens, sleep=1.0):
    return Rule(
        params[k.W_GCO2E], params[k.W_TTFT], params[k.W_E2E], params[k.W_LOAD], params[k.W_TURN],
        params[k.W_LOAD] != 0.0 or params[k.W_TURN] != 0.0,
        params[k.MAX_GCO2E], params[k.MAX_G_PER_KWH], int(params[k.CI_HOURS]),
        params[k.WAKE_ENERGY], params[k.WAKE_PREMIUM], burst_tokens, sleep,
    )  # fmt: skip


@inlined_early
def place_of(table, labels, i, rtt_row):
    return PlaceTerms(table[rtt_row, i], table[k.KWH_PER_J, i], table[k.CI_FROM, i], labels[i])
