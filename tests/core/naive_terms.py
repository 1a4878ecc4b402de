"""The slow, obvious twin of `router.core.terms`: its formulas over dictionaries and lists.

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
    """What a prompt of ``n_in`` tokens takes of iterations, in one piece that begins after those
    that are cached."""
    read, cached = n_in - c["cached_prompt"], c["cached_prompt"]
    per_token = c["prefill_per_token"] + c["prefill_per_token2"] * (cached + read / 2.0)
    return c["prefill_per_piece"] + read * per_token


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
    """Until the iteration that reads its prompt begins, the known backlog apart, and for the
    prompts that are read with it: as known of this gateway's own requests, and as much longer as
    usual for the others.
    """
    known, usual = running_wait_ms(c, ask), usual_wait_ms(c, ask)
    return known + max(0.0, usual - known - backlog_ms(c, ask)) * foreign_part(c)


def backlog_ms(c, ask):
    """The prompts that were sent before and are not read, but no more than there are."""
    _, _, pace = iteration(c, ask)
    if pace == 0.0:
        return 0.0
    left = max(0.0, c["backlog_ends"] - ask["now"]) * 1e3
    return min(left, c["backlog_most"])


def running_wait_ms(c, ask):
    """Half of the running iteration, and the prompts that come meanwhile."""
    decode, prompts, pace = iteration(c, ask)
    if pace == 0.0:
        return 0.0
    return decode / 2.0 * (1.0 + prompts / pace)


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
    """Of the time to the first token what the request takes itself, by the model, and those before
    it that are known."""
    decode, _, _ = iteration(c, ask)
    fixed = c["prefill_base"] + c["prefill_per_in_flight"] * c["batch"]
    before = min(c["batch"], 1.0) * backlog_ms(c, ask)
    return fixed + decode + own_ms(c, ask["n_in"]) + before


def queue_ms(c, ask):
    """Of it what the request waits for on the mean beyond; nothing where nobody is."""
    return min(c["batch"], 1.0) * wait_ms(c, ask)


def first_ms(c, ask):
    """From when the request reaches the server to its first token, nobody being over max_batch: its
    own, and what it waits for, each as wrong as it is."""
    return prefill_ms(c, ask) * c["ttft_factor"] + queue_ms(c, ask) * c["queue_factor"]


def limit_of(c, ask):
    """The longest mean iteration that those there, and the request, tolerate."""
    return min(c["pace_cap"], ask["tpot_budget"] / c["tpot_factor"])


def stretch_of(c, ask):
    """How many times longer prompts of this gateway's take than alone, at that pace; at most
    100: all that does not decode, and does not read prompts of others."""
    decode, prompts, _ = iteration(c, ask)
    limit = limit_of(c, ask)
    left = limit - decode - prompts * foreign_part(c)
    return min(limit / left, 100.0) if left > 0.0 else 100.0


def over_turn_ms(c, ask):
    """By how much its prompt, and those ahead of it at that pace, are more than an answer of 32
    tokens bears beside the prompts that come meanwhile; 0 where it has none, where none is ahead
    and where nobody minds."""
    if limit_of(c, ask) == math.inf:
        return 0.0
    paced = paced_ms(c, ask)
    left = max(0.0, c["paced_until"] - ask["now"]) * 1e3
    most = c["backlog_most"] if c["tpot_base"] > 0.0 else 0.0
    ahead = min(left, most * stretch_of(c, ask))
    if ahead == 0.0 or paced == 0.0:
        return 0.0
    coming = iteration(c, ask)[1] * stretch_of(c, ask)
    return ahead + paced - 32.0 * max(limit_of(c, ask) - coming, 1e-9)


def paced_ms(c, ask):
    """What reading its prompt takes at that pace; 0 where nobody minds."""
    if limit_of(c, ask) == math.inf:
        return 0.0
    return own_ms(c, ask["n_in"]) * stretch_of(c, ask)


def energy_j(c, ask):
    """Joules of the request, waking apart; of them, those of its prompt."""
    prompt = c["j_per_prompt"] * own_ms(c, ask["n_in"])
    answer = (c["j_per_token"] + c["j_per_cached"] * context_of(ask)) * ask["n_out"]
    return answer + prompt + c["j_per_request"], prompt


def is_released(c, ask):
    """Whether nobody came in time to keep it awake."""
    return ask["now"] > c["releases_at"]


def waking_ms(c, ask):
    """Until it is awake."""
    if is_released(c, ask):
        return c["waking_ms"]
    # No more, however far a clock is set back.
    return min(max(0.0, c["woken_at"] - ask["now"]) * 1e3, c["waking_ms"])


def lonely_j(c, ask, run_s):
    """Joules that a run draws for want of company, and, once it is released, of waking it."""
    if c["awake"]:
        return 0.0, 0.0
    return c["wake_w"] * run_s, c["waking_j"] if is_released(c, ask) else 0.0


def awake(c):
    """The same, were it not released."""
    return {**c, "releases_at": math.inf, "woken_at": -math.inf}


def waking_premium(region, c, ask, rule, run_s):
    """What a run pays for its replica to be awake for it alone, in grams that nobody emits."""
    fixed, waking = lonely_j(c, ask, run_s)
    ci = mean_ci(region["ci"], ask["slot_left_s"], run_s)
    lonely = fixed * ci + waking * (UNKNOWN if region["ci"] is None else region["ci"][0])
    return rule["wake_premium"] * lonely * region["pue"] / J_PER_KWH


def figures(region, c, ask, rule):
    """Every figure of one candidate."""
    b = c["batch"]
    first = first_ms(c, ask)
    decode, prompts, _ = iteration(c, ask)
    tpot = decode + min(prompts, c["chunk"])
    run = first + ask["n_out"] * tpot
    turn = max(0.0, b + 1 - c["max_batch"]) * run / c["max_batch"]
    ttft = region["rtt"][ask["origin"]] + c["ttft_delay"] + waking_ms(c, ask) + turn + first
    e2e = ttft + ask["n_out_q"] * tpot * c["tpot_factor"]
    energy, prompt_energy = energy_j(c, ask)
    fixed, waking = lonely_j(c, ask, run / 1000.0)
    energy += rule["wake_energy"] * (fixed + waking)
    ci = mean_ci(region["ci"], ask["slot_left_s"], run / 1000.0)
    grams = (energy * region["pue"] + ask["network_j"]) / J_PER_KWH * ci
    weights = rule["weights"]
    premium = energy * region["pue"] / J_PER_KWH * region["premium"]
    premium += waking_premium(region, c, ask, rule, run / 1000.0)
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
        ("turn", over_turn_ms(c, ask), 0.0),
        ("full", f["pace"], c["pace_cap"]),
        ("ttft", f["ttft"], ask["ttft_budget"]),
        ("tpot", f["tpot"], ask["tpot_budget"]),
        ("e2e", f["e2e"], ask["e2e_budget"]),
    ]


def reason(region, c, ask, rule, in_turn=True):
    """The name of the first obstacle, or "feasible"; whose turn it is may be no obstacle."""
    f = figures(region, c, ask, rule)
    for name, figure, limit in obstacles(region, c, ask, rule, f):
        if figure > limit and (in_turn or name != "turn"):
            return "full" if name == "turn" else name
    return "feasible"


def reasons(world, ask):
    """Of every row; where nobody's turn it is, it is anybody's."""
    for in_turn in (True, False):
        found = [
            reason(region, c, ask, world["rule"], in_turn) for _, _, region, c in rows_of(world)
        ]
        if "feasible" in found:
            break
    return found


def on_the_edge(region, c, ask, rule):
    """Whether rounding alone may decide: a figure that all but equals its limit."""
    f = figures(region, c, ask, rule)
    # A mean over hours that are all alike may be off by its rounding, too.
    return any(
        (figure != limit or name == "carbon_budget") and math.isclose(figure, limit, rel_tol=1e-9)
        for name, figure, limit in obstacles(region, c, ask, rule, f)
    )
