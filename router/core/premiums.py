"""Scarcity premiums: what forwarded requests teach of the room that regions have.

What a premium is: `router.core.terms`. Of a region with ``places``, of which ``free`` are left,

    premium = worth * exp(-free / sqrt(places))

``worth`` is what requests lost that found no place there. One more that comes now costs that if the
places that are left will all be asked for, and nothing if not: so the last places are kept for who
has most to lose, as seats are for who books late (Littlewood 1972: a fare is taken if it is at
least the higher one times the odds that it will want the seat). What is asked for varies by about
sqrt(places), as the number of independent requests does; the tail is taken as exponential.
"""

from __future__ import annotations

import numpy as np

from router.core import kernel_rows as k
from router.core.asked import REQUEST, ask_of, place_of, rule_of
from router.core.jit import entry, inlined_early
from router.core.latency import PACE_TOKENS
from router.core.terms import energy_j, in_time_alone, lonely_j, reason_of, terms_of

# Worth rises by RISE / capacity of the way with each request that misses the room, and falls by
# FALL / capacity of itself with each that finds some; capacity: what the model's endpoints may have
# in flight. Both thus go by how often the fleet turns over, not by its size. Below the least it is
# 0. Of all requests, this share teaches (those with a draw below it): as much is learned, in less
# time. No room is worth more than MAX_PREMIUM of its row (see `router.core.columns`): a gain over
# next to no energy is no price.
TEACHES = 0.25
RISE = 100.0
FALL = 0.01
LEAST_WORTH = 1e-3
# Two costs of one candidate, one of them by `choose`: they differ by how sums are rounded.
_SAME = 1e-9


@inlined_early
def _fallen(table, first, worth):
    """The worth of a region's room, of which somebody just found some."""
    left = worth * (1.0 - min(1.0, FALL * table[k.PER_CAPACITY, first]))
    return left if left >= LEAST_WORTH else 0.0


@inlined_early
def _lost(table, live, labels, first, end, rtt_row, ask, rule, paid):
    """What room in a region without would be worth to a request that has to pay ``paid``
    elsewhere, g/kWh of its energy there; 0 where it is not room alone that it lacks."""
    worth = 0.0
    place = place_of(table, labels, first, rtt_row)
    for i in range(first, end):
        terms = terms_of(table, live, i, place, ask, rule)
        if terms.cost >= paid or not in_time_alone(table, live, i, place, ask):
            continue
        # The first will do: replicas of a region are much alike, and this is the hot path.
        if reason_of(table, live, i, place, ask, rule, terms) >= k.FULL:
            energy = energy_j(table, i, ask, terms.own)
            if energy > 0.0:
                gain = (paid - terms.cost) / (rule.w_g * energy * place.kwh_per_j)
                worth = min(gain + live[k.PREMIUM, i], table[k.MAX_PREMIUM, i])
            break
    # A gain over next to no energy, where no price is known to be too much: no price at all.
    return worth if worth < np.inf else 0.0


@inlined_early
def _but_for_waking(table, live, labels, first, end, rtt_row, ask, rule, cost):
    """``cost``, the least in a region, less the premium on waking that is in it.

    Who pays it had no choice, and whoever comes after finds that replica awake: it is no measure of
    what room elsewhere is worth.
    """
    place = place_of(table, labels, first, rtt_row)
    for i in range(first, end):
        if live[k.AWAKE, i] != 0.0:
            continue
        terms = terms_of(table, live, i, place, ask, rule)
        if abs(terms.cost - cost) <= _SAME * abs(cost):
            released = ask.now_s > live[k.RELEASES_AT_S, i]
            fixed_j, waking_j = lonely_j(table, live, i, terms.run_s, released, rule)
            lonely_g = (fixed_j * terms.ci + waking_j * place.ci) * place.kwh_per_j
            cost -= rule.w_g * rule.wake_premium * lonely_g
            break
    return cost


@inlined_early
def _places(table, live, i):
    """How many requests candidate i takes: of ``max_in_flight`` those with which iterations are
    still as short as those there tolerate, were all like them; at least those there."""
    batch, most, cap = live[k.BATCH, i], table[k.MAX_IN_FLIGHT, i], live[k.PACE_CAP_MS, i]
    if batch > 0.0 and cap < np.inf and table[k.TPOT_BASE_MS, i] > 0.0:
        cached_ms = table[k.TPOT_MS_PER_CACHED_TOKEN, i] * live[k.CACHED_TOKENS, i]
        each_ms = table[k.TPOT_MS_PER_SEQUENCE, i] + (cached_ms + live[k.PROMPTS_MS, i]) / batch
        if each_ms > 0.0:
            most = min(most, (cap - table[k.TPOT_BASE_MS, i]) / each_ms)
    return max(batch, most)


@inlined_early
def _premium(table, live, first, end, worth):
    """The price of the next place in a region whose last one has ``worth``."""
    free, places = 0.0, 0.0
    if worth > 0.0:
        for i in range(first, end):
            if live[k.ELIGIBLE, i] != 0.0:
                taken = _places(table, live, i)
                places += taken
                free += taken - live[k.BATCH, i]
    return worth * np.exp(-free / np.sqrt(max(places, 1.0)))


@entry(f"void(f8[:,::1], f8[:,::1], i8[::1], i8[::1], f8[::1], {REQUEST}, f8[::1])")
def learn_premiums(
    table, live, labels, starts, params, rtt_row, n_in, n_out, n_out_q, network_j,
    ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, now_s, cached, best,
):  # fmt: skip
    """What a forwarded request teaches of scarcity, into ``live[WORTH]`` and ``live[PREMIUM]``,
    which alone are written.

    ``best``: row S_BEST as `choose` left it for the same request, which was feasible: the least
    cost in each region. Raises the worth of room in regions without any that the request would have
    gained by, lowers that of regions with some, and sets all premiums by the room there is now.
    Worth stays below SCARCITY of what is lost: how much more has to be paid elsewhere, premium
    there included, waking left out. So where all would gain alike nobody leaves.
    """
    rule = rule_of(params, PACE_TOKENS)
    if not (params[k.SCARCITY] > 0.0 and rule.w_g > 0.0):
        return
    ask = ask_of(
        params, n_in, n_out, n_out_q, network_j, ttft_budget, tpot_budget, e2e_budget, residency,
        slot_left_s, now_s, cached,
    )  # fmt: skip
    paid, region = np.inf, 0
    for r in range(np.uint64(starts.size - 1)):
        if best[r] < paid:
            paid, region = best[r], np.int64(r)
    first, end = np.uint64(starts[region]), np.uint64(starts[region + 1])
    paid = _but_for_waking(table, live, labels, first, end, rtt_row, ask, rule, paid)
    for r in range(np.uint64(starts.size - 1)):
        first, end = np.uint64(starts[r]), np.uint64(starts[r + np.uint64(1)])
        worth = live[k.WORTH, first]
        if best[r] < np.inf:
            worth = _fallen(table, first, worth)
        else:
            lost = _lost(table, live, labels, first, end, rtt_row, ask, rule, paid)
            missing = params[k.SCARCITY] * lost - worth
            worth += min(1.0, RISE * table[k.PER_CAPACITY, first]) * max(0.0, missing)
        premium = _premium(table, live, first, end, worth)
        for i in range(first, end):
            live[k.WORTH, i] = worth
            live[k.PREMIUM, i] = premium
