"""Which replica to wake ahead: released ones take minutes to come back, and callers wait seconds.

Whoever scales a fleet releases replicas that are idle (`router.core.terms`, *waking*). Most budgets
then exclude them, so that no request would ever wake one. What does is said here, from what
requests would choose were all awake; of all requests some teach, as of `router.core.premiums`.

- *A spare.* Of replicas that are all but empty (SPARE_SHARE), one that would serve the request is
  kept awake, the one where it costs least: the next to be filled. Once more of it is taken, another
  is woken while the rest fills. So most of a replica's room is ahead of the demand.
- *What it costs to do without.* Where a released replica would have served for less, what each
  request paid more adds up (UNSERVED), and the replica is woken once that is what waking costs. Who
  rents until the rent has come to the price, and then buys, pays at most twice what it costs to
  know for how long there is a need (Karlin, Manasse, Rudolph and Sleator, Algorithmica 1988).
"""

from __future__ import annotations

import numpy as np

from router.core import kernel_rows as k
from router.core.asked import REQUEST, ask_of, place_of, rule_of
from router.core.jit import entry
from router.core.premiums import TEACHES
from router.core.terms import reason_of, terms_of, waking_of

# Up to this share of its places a replica counts as spare. With 0, as only an empty one serves the
# longest prompts, the fleet of us-six-grids-30 emits 9 % more and sheds 0.001 instead of 0.002 % of
# the requests; with 1/8 1 % less and 0.005 % (docs/decisions/a-spare-is-kept-awake.md).
SPARE_SHARE = 1.0 / 16.0


@entry(f"i8(f8[:,::1], f8[:,::1], i8[::1], f8[::1], {REQUEST}, f8)")
def wanted_awake(
    table, live, labels, params, rtt_row, n_in, n_out, n_out_q, network_j,
    ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, now_s, cached, paid,
):  # fmt: skip
    """The row that is to be awake for the likes of this request: to be woken if it is released,
    else not to be released yet; -1 where none is.

    ``paid``: the least cost at which anybody who is awake would serve it, inf where nobody would.
    Writes ``live[UNSERVED]`` alone.
    """
    ask = ask_of(
        params, n_in, n_out, n_out_q, network_j, ttft_budget, tpot_budget, e2e_budget, residency,
        slot_left_s, now_s, cached,
    )  # fmt: skip
    rule = rule_of(params, np.inf, 0.0)
    spare, spare_cost, released, released_cost = -1, np.inf, -1, np.inf
    for i in range(np.uint64(table.shape[1])):
        if live[k.BATCH, i] > SPARE_SHARE * table[k.MAX_IN_FLIGHT, i]:
            continue
        place = place_of(table, labels, i, rtt_row)
        terms = terms_of(table, live, i, place, ask, rule)
        if reason_of(table, live, i, place, ask, rule, terms) != k.FEASIBLE:
            continue
        if waking_of(table, live, i, now_s)[1]:
            if terms.cost < released_cost:
                released, released_cost = np.int64(i), terms.cost
        elif terms.cost < spare_cost:
            spare, spare_cost = np.int64(i), terms.cost
    if released < 0 or (released_cost >= paid and spare >= 0):
        return spare
    if spare >= 0:
        place = place_of(table, labels, np.uint64(released), rtt_row)
        price = rule.w_g * table[k.WAKING_J, released] * place.kwh_per_j * place.ci
        live[k.UNSERVED, released] += (paid - released_cost) / TEACHES
        if live[k.UNSERVED, released] < price:
            return spare
    live[k.UNSERVED, released] = 0.0
    return released
