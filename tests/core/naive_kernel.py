"""The slow, obvious twin of the cost kernel: whom it chooses, and what it learns of scarce room."""

import math

from tests.core.naive_terms import (
    J_PER_KWH,
    UNKNOWN,
    awake,
    context_of,
    decode_ms,
    energy_j,
    figures,
    is_released,
    own_ms,
    reason,
    rows_of,
    waking_ms,
    waking_premium,
)


def shares(best, limit):
    """Odds of each region: 1 at the least cost, falling linearly to 0 at ``limit``.

    ``best``: the least cost of each region, None where nothing is feasible.
    """
    least = min(cost for cost in best if cost is not None)
    odds = []
    for cost in best:
        if cost is None or cost > limit:
            odds.append(0.0)
        elif limit == least:
            odds.append(1.0)
        else:
            odds.append(1.0 - (cost - least) / (limit - least))
    return [one / sum(odds) for one in odds]


def preference(c, rule):
    """Inside a region, more is better: the one that is fullest by this gateway's own requests below
    the pack line, else the emptiest."""
    if rule["pack"] and c["batch"] + 1 <= rule["pack_until"] * c["max_in_flight"]:
        return (1, c["own"] / c["max_in_flight"])
    return (0, -c["batch"] / c["max_in_flight"])


def holds(region, c, ask, rule, pace, slack):
    """Whether one placed now would keep its TPOT and end-to-end budgets, ``slack`` apart, were
    iterations ``pace`` ms long all the while."""
    tpot = pace * c["tpot_factor"]
    e2e = figures(region, c, ask, rule)["ttft"] + max(ask["n_out_q"], 1.0) * tpot
    return tpot <= ask["tpot_budget"] * slack and e2e <= ask["e2e_budget"] * slack


def choose(world, figures, u, slack=1e-9):
    """(rows that may be chosen, latency-first row), given every row's figures and "reason".

    More than one row only where ``u`` lies within ``slack`` of a boundary between two regions;
    (set(), None) when nothing is feasible.
    """
    rule = world["rule"]
    feasible = [one for one in rows_of(world) if figures[one[0]]["reason"] == "feasible"]
    if not feasible:
        return set(), None
    near = min(feasible, key=lambda one: (figures[one[0]]["ttft"], figures[one[0]]["e2e"]))[0]

    best = [None] * len(world["regions"])
    for row, index, _, _ in feasible:
        cost = figures[row]["cost"]
        best[index] = cost if best[index] is None else min(best[index], cost)
    least = min(cost for cost in best if cost is not None)
    limit = least + rule["near_tie"] * least

    rows, at = set(), 0.0
    for index, share in enumerate(shares(best, limit)):
        if share > 0.0 and at - slack <= u <= at + share + slack:
            within = max(limit, best[index] + rule.get("pack_within", 0.0) * best[index])
            tied = [
                (preference(c, rule), -row)
                for row, where, _, c in feasible
                if where == index and figures[row]["cost"] <= within
            ]
            rows.add(-max(tied)[1])
        at += share
    return rows, near


def would_do(region, c, ask, rule):
    """Whether a candidate that is not feasible would be, were nobody else there."""
    obstacle = reason(region, c, ask, rule)
    if obstacle not in ("full", "ttft", "tpot", "e2e"):
        return False
    # A task's wait for others is part of its prefill, and that stays.
    decode = decode_ms(c, 1.0, context_of(ask))
    fixed = c["prefill_base"] + c["prefill_per_in_flight"] * c["batch"]
    prefill = (fixed + decode + own_ms(c, ask["n_in"])) * c["ttft_factor"]
    ttft = region["rtt"][ask["origin"]] + c["ttft_delay"] + waking_ms(c, ask) + prefill
    tpot = decode * c["tpot_factor"]
    return (
        ttft <= ask["ttft_budget"]
        and tpot <= ask["tpot_budget"]
        and ttft + ask["n_out_q"] * tpot <= ask["e2e_budget"]
    )


def places(c):
    """How many requests a candidate takes while iterations stay as short as those there tolerate,
    were all like the mean of them; at least those there."""
    b, most = c["batch"], c["max_in_flight"]
    if b and c["tpot_base"] and c["pace_cap"] < math.inf:
        each = c["tpot_slope"] + (c["tpot_cached"] * c["cached"] + c["prompts"]) / b
        if each:
            most = min(most, (c["pace_cap"] - c["tpot_base"]) / each)
    return max(b, most)


def priced(region, worth):
    """The premium of a region whose last place has ``worth``: that, times the odds that all that is
    left will be wanted."""
    there = [c for c in region["candidates"] if c["eligible"]]
    total = sum(places(c) for c in there)
    free = sum(places(c) - c["batch"] for c in there)
    return worth * math.exp(-free / math.sqrt(max(total, 1.0)))


def paid_but_for_waking(world, costs, ask):
    """The least of ``costs``, every row's, less the premium on waking that is in it; None where
    nothing is feasible."""
    rule = world["rule"]
    feasible = [one for one in rows_of(world) if costs[one[0]]["reason"] == "feasible"]
    if not feasible:
        return None
    row, _, region, c = min(feasible, key=lambda one: costs[one[0]]["cost"])
    run_s = figures(region, c, ask, rule)["run_s"]
    waking_g = waking_premium(region, c, ask, rule, run_s)
    return costs[row]["cost"] - rule["weights"]["grams"] * waking_g


def premiums(world, figures, ask):
    """(worth, premium) of each region after a forwarded request, g/kWh; as they were where none is
    feasible."""
    rule = world["rule"]
    capacity = sum(c["max_in_flight"] for _, _, _, c in rows_of(world))
    paid = paid_but_for_waking(world, figures, ask)
    if paid is None or not rule["scarcity"] or not rule["weights"]["grams"]:
        return [(region["worth"], region["premium"]) for region in world["regions"]]
    after = []
    for index, region in enumerate(world["regions"]):
        mine = [one for one in rows_of(world) if one[1] == index]
        worth = region["worth"]
        if any(figures[row]["reason"] == "feasible" for row, *_ in mine):
            worth *= 1.0 - min(1.0, 0.01 / capacity)
            if worth < 1e-3:
                worth = 0.0
        else:
            lost = lost_without(region, mine, figures, paid, ask, rule)
            worth += min(1.0, 100.0 / capacity) * max(0.0, rule["scarcity"] * lost - worth)
        after.append((worth, priced(region, worth)))
    return after


def lost_without(region, mine, figures, paid, ask, rule):
    """What a request that pays ``paid`` elsewhere lost for want of room in a region, g/kWh; 0 where
    it is not room alone that it lacks."""
    for row, _, _, c in mine:
        if would_do(region, c, ask, rule) and figures[row]["cost"] < paid:
            energy, _ = energy_j(c, ask)
            price = rule["weights"]["grams"] * energy * region["pue"] / J_PER_KWH
            if not energy > 0.0:
                return 0.0
            gain = (paid - figures[row]["cost"]) / price if price > 0.0 else math.inf
            worth = min(gain + region["premium"], c["max_premium"])
            return 0.0 if worth == math.inf else worth
    return 0.0


def wanted_awake(world, ask, paid):
    """(row that is to be awake for the likes of a request, what each row then went without);
    -1 where none is. ``paid``: the least cost of those awake."""
    rule = world["rule"]
    unserved = [c["unserved"] for *_, c in rows_of(world)]
    spare = {}
    released = {}
    for row, _, region, c in rows_of(world):
        serves = reason(region, awake(c), ask, rule, in_turn=False) == "feasible"
        if serves and c["batch"] <= c["max_in_flight"] / 16.0:
            cost = figures(region, awake(c), ask, rule)["cost"]
            (released if is_released(c, ask) else spare)[row] = cost
    cheapest = min(spare, key=spare.get, default=-1)
    if not released:
        return cheapest, unserved
    row = min(released, key=released.get)
    if spare:
        if released[row] >= paid:
            return cheapest, unserved
        _, _, region, c = rows_of(world)[row]
        ci = UNKNOWN if region["ci"] is None else region["ci"][0]
        price_g = c["waking_j"] * region["pue"] / J_PER_KWH * ci
        unserved[row] += 4.0 * (paid - released[row])
        if unserved[row] < rule["weights"]["grams"] * price_g:
            return cheapest, unserved
    unserved[row] = 0.0
    return row, unserved
