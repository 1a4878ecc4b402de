"""Scarcity premiums: what forwarded requests teach of the room that regions have.

What a premium is: `router.core.terms`.
"""

from __future__ import annotations

import numpy as np

from router.core import kernel_rows as k
from router.core.asked import REQUEST, ask_of, place_of, rule_of
from router.core.jit import entry, inlined_early
from router.core.latency import PACE_TOKENS
from router.core.terms import energy_j, in_time_alone, reason_of, terms_of

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


@inlined_early
def _fallen(table, live, first, end, premium):
    """The premium of a region (rows ``first`` to ``end``) in which somebody just found room."""
    left = 0.0
    if premium > 0.0:
        inside, most = 0.0, 0.0
        for i in range(first, end):
            inside += live[k.BATCH, i]
            most += table[k.MAX_IN_FLIGHT, i]
        fall = FALL + FALL_EMPTY * max(0.0, 1.0 - inside / most)
        left = premium * (1.0 - min(1.0, fall * table[k.PER_CAPACITY, first]))
    return left if left >= LEAST_PREMIUM else 0.0


@inlined_early
def _worth(table, live, labels, first, end, rtt_row, ask, rule, best_cost, premium):
    """What room in a region without would be worth to a request that has to pay ``best_cost``
    elsewhere, g/kWh of its energy there; 0 where it is not room alone that it lacks."""
    worth = 0.0
    place = place_of(table, labels, first, rtt_row)
    for i in range(first, end):
        terms = terms_of(table, live, i, place, ask, rule)
        if terms.cost >= best_cost or not in_time_alone(table, live, i, place, ask):
            continue
        # The first will do: replicas of a region are much alike, and this is the hot path.
        if reason_of(table, live, i, place, ask, rule, terms) >= k.FULL:
            energy = energy_j(table, i, ask, terms.own)
            if energy > 0.0:
                gain = (best_cost - terms.cost) / (rule.w_g * energy * place.kwh_per_j)
                worth = min(gain + premium, table[k.MAX_PREMIUM, i])
            break
    # A gain over next to no energy, where no price is known to be too much: no price at all.
    return worth if worth < np.inf else 0.0


@entry(f"void(f8[:,::1], f8[:,::1], i8[::1], i8[::1], f8[::1], {REQUEST}, f8[::1])")
def learn_premiums(
    table, live, labels, starts, params, rtt_row, n_in, n_out, n_out_q, network_j,
    ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, now_s, cached, best,
):  # fmt: skip
    """What a forwarded request teaches of scarcity, into ``live[PREMIUM]``, which alone is written.

    ``best``: row S_BEST as `choose` left it for the same request, which was feasible: the least
    cost in each region. Raises the premium of regions without room that the request would have
    gained by, and lowers that of regions with room. The premium stays below SCARCITY of what the
    room is worth: how much more has to be paid elsewhere, premium there included. So where all
    would gain alike nobody leaves.
    """
    rule = rule_of(params, PACE_TOKENS)
    if not (params[k.SCARCITY] > 0.0 and rule.w_g > 0.0):
        return
    ask = ask_of(
        params, n_in, n_out, n_out_q, network_j, ttft_budget, tpot_budget, e2e_budget, residency,
        slot_left_s, now_s, cached,
    )  # fmt: skip
    best_cost = np.inf
    for r in range(np.uint64(starts.size - 1)):
        best_cost = min(best_cost, best[r])
    for r in range(np.uint64(starts.size - 1)):
        first, end = np.uint64(starts[r]), np.uint64(starts[r + np.uint64(1)])
        premium = live[k.PREMIUM, first]
        if best[r] < np.inf:
            premium = _fallen(table, live, first, end, premium)
        else:
            worth = _worth(table, live, labels, first, end, rtt_row, ask, rule, best_cost, premium)
            missing = params[k.SCARCITY] * worth - premium
            premium += min(1.0, RISE * table[k.PER_CAPACITY, first]) * max(0.0, missing)
        for i in range(first, end):
            live[k.PREMIUM, i] = premium
