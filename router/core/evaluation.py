"""Every term of every candidate: nothing is chosen, nothing is left out."""

from __future__ import annotations

import numpy as np

from router.core import kernel_rows as k
from router.core.asked import REQUEST, ask_of, place_of, rule_of
from router.core.jit import entry
from router.core.latency import PACE_TOKENS
from router.core.terms import reason_of, terms_of


@entry(f"void(f8[:,::1], f8[:,::1], i8[::1], f8[::1], {REQUEST}, f8[:,::1], i8[::1])")
def evaluate(
    table, live, labels, params, rtt_row, n_in, n_out, n_out_q, network_j,
    ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, now_s, cached, out,
    reasons,
):  # fmt: skip
    """Every term of every candidate into ``out`` (n, EVALUATED) and ``reasons`` (n,).

    The same arithmetic as `choose`, for explanations and for telling why nothing is feasible.
    """
    ask = ask_of(
        params, n_in, n_out, n_out_q, network_j, ttft_budget, tpot_budget, e2e_budget, residency,
        slot_left_s, now_s, cached,
    )  # fmt: skip
    rule = rule_of(params, PACE_TOKENS)
    feasible = False
    for i in range(np.uint64(table.shape[1])):
        place = place_of(table, labels, i, rtt_row)
        terms = terms_of(table, live, i, place, ask, rule)
        out[i, k.E_COST] = terms.cost
        out[i, k.E_RTT] = place.rtt
        out[i, k.E_TTFT] = terms.ttft
        out[i, k.E_TPOT] = terms.tpot
        out[i, k.E_E2E] = terms.e2e
        out[i, k.E_ENERGY] = terms.energy
        out[i, k.E_CI] = terms.ci
        out[i, k.E_GRAMS] = terms.grams
        out[i, k.E_BATCH] = terms.batch
        out[i, k.E_PREMIUM] = terms.premium
        out[i, k.E_PROMPT_ENERGY] = table[k.J_PER_PROMPT_MS, i] * terms.own
        out[i, k.E_PACE] = terms.pace
        reasons[i] = reason_of(table, live, i, place, ask, rule, terms)
        feasible |= reasons[i] == k.FEASIBLE
    if feasible:
        return
    # Where nobody's turn it is, it is anybody's.
    rule = rule_of(params, np.inf)
    for i in range(np.uint64(table.shape[1])):
        place = place_of(table, labels, i, rtt_row)
        terms = terms_of(table, live, i, place, ask, rule)
        reasons[i] = reason_of(table, live, i, place, ask, rule, terms)
