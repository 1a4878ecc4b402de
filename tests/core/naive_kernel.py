"""The slow, obvious twin of the cost kernel: its docstring's formulas over dictionaries and lists.

A world is ``{"regions": [{"rtt", "pue", "ci", "label", "candidates": [...]}], "rule": {...}}``;
rows number the candidates of all regions in order. ``ci``: g/kWh of the current and the coming
hours, None when no source knows it.
"""

import itertools
import math

J_PER_KWH = 3_600_000.0
UNKNOWN = 1e30


def rows_of(world):
    """(row, region index, region, candidate) of every candidate, in row order."""
    found = []
    for index, region in enumerate(world["regions"]):
        for candidate in region["candidates"]:
            found.append((len(found), index, region, candidate))
    return found


def mean_ci(hours, slot_left_s, run_s):
    """Mean of a step function over the run: cut it at every hour, weigh each piece by its length.

    The run starts ``slot_left_s`` before the end of ``hours[0]``; the last hour holds ever after.
    """
    if hours is None:
        return UNKNOWN

    def ci_at(t):
        return hours[min(max(0, math.floor((t - slot_left_s) / 3600.0) + 1), len(hours) - 1)]

    if run_s == 0.0:
        return ci_at(0.0)
    turns = [slot_left_s + 3600.0 * hour for hour in range(len(hours))]
    cuts = [0.0, *[t for t in turns if 0.0 < t < run_s], run_s]
    pieces = [(b - a, ci_at((a + b) / 2.0)) for a, b in itertools.pairwise(cuts)]
    return sum(length * ci for length, ci in pieces) / run_s


def own_ms(c, n_in):
    """What a prompt of ``n_in`` tokens takes of iterations, in one piece."""
    per_token = c["prefill_per_token"] + c["prefill_per_token2"] * n_in / 2.0
    return c["prefill_per_piece"] + n_in * per_token


def decode_ms(c, sequences, cached_tokens):
    """An iteration without prompts."""
    return c["tpot_base"] + c["tpot_slope"] * sequences + c["tpot_cached"] * cached_tokens


def running_part(c):
    """Which part of those there decodes beside the request: beyond max_batch they wait."""
    return min(1.0, c["max_batch"] / (c["batch"] + 1.0))


def context_of(ask):
    """Tokens that the request has cached, on the mean over its answer."""
    return ask["n_in"] + ask["n_out"] / 2.0


def iteration(c, ask):
    """(decode, prompts of others, mean length) of an iteration with the request there, ms; its own
    prompt apart."""
    part = running_part(c)
    cached = c["cached"] * part + context_of(ask)
    decode = decode_ms(c, min(c["batch"] + 1.0, c["max_batch"]), cached)
    prompts = c["prompts"] * part
    return decode, prompts, decode + prompts


def pace_with(c, ask):
    """Mean iteration while the request runs, its own prompt spread over its own tokens."""
    return iteration(c, ask)[2] + own_ms(c, ask["n_in"]) / max(ask["n_out"], 1.0)


def foreign_part(c):
    """Which part of those there this gateway did not send."""
    return max(0.0, c["batch"] - c["own"]) / max(c["batch"], 1.0)


def wait_ms(c, ask):
    """Until the iteration that reads its prompt begins, and for the prompts that are read with it:
    as known of this gateway's own requests, and as much longer as usual for the others.
    """
    known, usual = known_wait_ms(c, ask), usual_wait_ms(c, ask)
    return known + max(0.0, usual - known) * foreign_part(c)


def known_wait_ms(c, ask):
    """Half of the running iteration, and the prompts that were sent before and are not read, but no
    more than there are; and those that come meanwhile."""
    decode, prompts, pace = iteration(c, ask)
    if pace == 0.0:
        return 0.0
    left = max(0.0, c["backlog_ends"] - ask["now"]) * 1e3
    backlog = min(left, c["backlog_most"])
    return (decode / 2.0 + backlog) * (1.0 + prompts / pace)


def usual_wait_ms(c, ask):
    """As of prompts that come at any time.

    Whoever comes at any time meets an iteration of length t with odds in proportion to t: on the
    mean one of E(t^2) / E(t), and half of it is left. Where iterations with one prompt of w ms are
    rare among many of D ms, E(t^2) / E(t) is about the mean and prompts2 / (the mean and what is
    queued of prompts) of it. Where nothing iterates there is nothing to wait for.
    """
    decode, prompts, pace = iteration(c, ask)
    if pace == 0.0:
        return 0.0
    longer = pace
    if c["prompts2"] > 0.0:
        longer += c["prompts2"] * running_part(c) * pace / (decode * (pace + prompts))
    return (0.5 + prompts / pace) * longer


def prefill_ms(c, ask):
    """Of the time to the first token what the request takes itself, by the model."""
    decode, _, _ = iteration(c, ask)
    fixed = c["prefill_base"] + c["prefill_per_in_flight"] * c["batch"]
    return fixed + decode + own_ms(c, ask["n_in"])


def queue_ms(c, ask):
    """Of it what the request waits for on the mean; nothing where nobody is."""
    return min(c["batch"], 1.0) * wait_ms(c, ask)


def first_ms(c, ask):
    """From when the request reaches the server to its first token, nobody being over max_batch: its
    own, and what it waits for, each as wrong as it is."""
    return prefill_ms(c, ask) * c["ttft_factor"] + queue_ms(c, ask) * c["queue_factor"]


def energy_j(c, ask):
    """Joules of the request, waking apart; of them, those of its prompt."""
    prompt = c["j_per_prompt"] * own_ms(c, ask["n_in"])
    answer = (c["j_per_token"] + c["j_per_cached"] * context_of(ask)) * ask["n_out"]
    return answer + prompt + c["j_per_request"], prompt


def figures(region, c, ask, rule):
    """Every figure of one candidate."""
    b = c["batch"]
    first = first_ms(c, ask)
    decode, prompts, _ = iteration(c, ask)
    tpot = decode + min(prompts, c["chunk"])
    run = first + ask["n_out"] * tpot
    turn = max(0.0, b + 1 - c["max_batch"]) * run / c["max_batch"]
    ttft = region["rtt"][ask["origin"]] + c["ttft_delay"] + turn + first
    e2e = ttft + ask["n_out_q"] * tpot * c["tpot_factor"]
    energy, prompt_energy = energy_j(c, ask)
    if not c["awake"]:
        energy += rule["wake_energy"] * c["wake_w"] * run / 1000.0
    ci = mean_ci(region["ci"], ask["slot_left_s"], run / 1000.0)
    grams = (energy * region["pue"] + ask["network_j"]) / J_PER_KWH * ci
    weights = rule["weights"]
    premium = energy * region["pue"] / J_PER_KWH * region["premium"]
    if not c["awake"]:
        premium += rule["wake_premium"] * c["wake_w"] * run / 1e3 * region["pue"] / J_PER_KWH * ci
    return {
        "batch": b,
        "rtt": region["rtt"][ask["origin"]],
        "ttft": ttft,
        "tpot": tpot * c["tpot_factor"],
        "e2e": e2e,
        "run_s": run / 1000.0,
        "energy": energy,
        "prompt_energy": prompt_energy,
        "pace": pace_with(c, ask),
        "ci": ci,
        "grams": grams,
        "premium": premium,
        "cost": weights["grams"] * (grams + premium)
        + weights["ttft"] * ttft
        + weights["e2e"] * e2e
        + weights["load"] * b / c["max_in_flight"]
        + weights["turn"] * c["turns"],
    }


def obstacles(region, c, ask, rule, f):
    """(name, figure, limit): excluded when figure > limit, by the first in this order."""
    known = f["ci"] < UNKNOWN / 2.0
    finite = all(math.isfinite(figure) for figure in f.values())
    return [
        ("unhealthy", 0 if c["eligible"] else 1, 0),
        ("residency", 0 if region["label"] & ask["residency"] else 1, 0),
        ("context", ask["n_in"] + ask["n_out"], c["context"]),
        ("not_finite", 0 if finite else 1, 0),
        ("carbon_unknown", UNKNOWN if not known else 0.0, rule["max_ci"]),
        ("carbon_budget", f["ci"], rule["max_ci"]),
        ("carbon_budget", f["grams"], rule["max_grams"]),
        ("full", c["batch"] + 1, c["max_in_flight"]),
        ("full", f["pace"], c["pace_cap"]),
        ("ttft", f["ttft"], ask["ttft_budget"]),
        ("tpot", f["tpot"], ask["tpot_budget"]),
        ("e2e", f["e2e"], ask["e2e_budget"]),
    ]


def reason(region, c, ask, rule):
    """The name of the first obstacle, or "feasible"."""
    f = figures(region, c, ask, rule)
    for name, figure, limit in obstacles(region, c, ask, rule, f):
        if figure > limit:
            return name
    return "feasible"


def on_the_edge(region, c, ask, rule):
    """Whether rounding alone may decide: a figure that all but equals its limit."""
    f = figures(region, c, ask, rule)
    # A mean over hours that are all alike may be off by its rounding, too.
    return any(
        (figure != limit or name == "carbon_budget") and math.isclose(figure, limit, rel_tol=1e-9)
        for name, figure, limit in obstacles(region, c, ask, rule, f)
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
    ttft = region["rtt"][ask["origin"]] + c["ttft_delay"] + prefill
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
            worth = gain / (rule["weights"]["grams"] * kwh) + region["premium"]
            worth = min(worth, c["max_premium"])
            after[index] += rise * max(0.0, rule["scarcity"] * worth - region["premium"])
    return after
