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


def premiums(world, figures, ask):
    """Each region's premium after a forwarded request, g/kWh; as it was where none is feasible."""
    rule = world["rule"]
    capacity = sum(c["max_in_flight"] for _, _, _, c in rows_of(world))
    rise = min(1.0, 32.0 / capacity)
    costs = [f["cost"] for f in figures if f["reason"] == "feasible"]
    after = [region["premium"] for region in world["regions"]]
    if not costs or not rule["scarcity"] or not rule["weights"]["grams"]:
        return after
    for index, region in enumerate(world["regions"]):
        mine = [one for one in rows_of(world) if one[1] == index]
        if any(figures[row]["reason"] == "feasible" for row, *_ in mine):
            here = [c for *_, c in mine]
            full = sum(c["batch"] for c in here) / sum(c["max_in_flight"] for c in here)
            fall = 0.16 + 40.0 * max(0.0, 1.0 - full)
            after[index] *= 1.0 - min(1.0, fall / capacity)
            if after[index] < 1e-3:
                after[index] = 0.0
            continue
        wanted = [
            one
            for one in mine
            if would_do(region, one[3], ask, rule) and figures[one[0]]["cost"] < min(costs)
        ]
        if not wanted:
            continue
        row, _, _, c = wanted[0]
        gain = min(costs) - figures[row]["cost"]
        energy, _ = energy_j(c, ask)
        if energy > 0.0:
            kwh = energy * region["pue"] / J_PER_KWH
            price = rule["weights"]["grams"] * kwh
            worth = gain / price + region["premium"] if price > 0.0 else math.inf
            worth = min(worth, c["max_premium"])
            worth = 0.0 if worth == math.inf else worth
            after[index] += rise * max(0.0, rule["scarcity"] * worth - region["premium"])
    return after


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
