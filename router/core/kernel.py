"""The numba cost kernel: of all candidates that are feasible, the one to take.

Plain loops over float64 columns (`router.core.columns` fills them), explicit signatures, compiled
when the module is imported and kept on disk (`router.core.jit`). What a candidate costs and why it
is excluded is said in `router.core.terms`; ``tests/core/naive_kernel.py`` is the slow, obvious twin
of all of it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from router.core import kernel_rows as k
from router.core.asked import REQUEST, ask_of, place_of, rule_of
from router.core.jit import entry, inlined_early
from router.core.latency import PACE_TOKENS
from router.core.pace import pace_cap
from router.core.terms import queue_ms, reason_of, terms_of, turn_of


def _alias_scope(module: Any) -> Any:
    """Metadata that says: what `_read` reads, `_write` never writes."""
    domain = module.add_metadata(["router.core.kernel"])
    return module.add_metadata([module.add_metadata(["columns", domain])])


@intrinsic
def _read(typing_context, array, i):
    """``array[i]`` of a column. Without the promise that no write of the loop changes it, the
    compiler compares thirty address ranges before every sweep, which takes longer than a sweep.
    """

    def generate(context, builder, signature, arguments):
        column = context.make_array(signature.args[0])(context, builder, arguments[0])
        value = builder.load(builder.gep(column.data, [arguments[1]]))
        value.set_metadata("alias.scope", _alias_scope(builder.module))
        return value

    return array.dtype(array, i), generate


@intrinsic
def _write(typing_context, array, i, value):
    """``array[i] = value`` of scratch, which shares no memory with any column."""

    def generate(context, builder, signature, arguments):
        scratch = context.make_array(signature.args[0])(context, builder, arguments[0])
        store = builder.store(arguments[2], builder.gep(scratch.data, [arguments[1]]))
        store.set_metadata("noalias", _alias_scope(builder.module))
        return context.get_dummy_value()

    return numba.types.void(array, i, array.dtype), generate


@entry("i8(f8[::1], f8, f8, f8)")
def _draw_region(best, best_cost, limit, u):
    """One of the near-tied regions, with odds that fall linearly with distance from the best.

    ``best``: cost of each region's best candidate. Many gateways that share one signal thus move
    traffic gradually while two regions cross, instead of all at once.
    """
    span = limit - best_cost
    total = 0.0
    for r in range(best.size):
        if best[r] <= limit:
            total += 1.0 - (best[r] - best_cost) / span if span > 0.0 else 1.0
    left = u * total
    chosen = -1
    for r in range(best.size):
        if best[r] <= limit:
            weight = 1.0 - (best[r] - best_cost) / span if span > 0.0 else 1.0
            if weight > 0.0 and left >= 0.0:
                chosen = r
            left -= weight
    return chosen


@inlined_early
def _sweep(table, live, labels, rtt_row, ask, rule, scratch):
    """Cost, TTFT and end-to-end of every candidate, inf where it is not feasible.

    False when a run reaches into another hour: then the figures do not hold. Every candidate
    gets the arithmetic of `terms_of` and the constraints of `reason_of`, without a branch, so that
    the compiler does several at once.
    """
    costs, ttfts, e2es = scratch[k.S_COST], scratch[k.S_TTFT], scratch[k.S_E2E]
    prefill_base, prefill_load = table[k.PREFILL_BASE_MS], table[k.PREFILL_MS_PER_IN_FLIGHT]
    prefill_piece, prefill_token = table[k.PREFILL_MS_PER_PIECE], table[k.PREFILL_MS_PER_TOKEN]
    prefill_token2, chunk = table[k.HALF_PREFILL_MS_PER_TOKEN2], table[k.CHUNK_MS]
    tpot_base, tpot_slope = table[k.TPOT_BASE_MS], table[k.TPOT_MS_PER_SEQUENCE]
    tpot_cached = table[k.TPOT_MS_PER_CACHED_TOKEN]
    max_batch, per_max_batch = table[k.MAX_BATCH], table[k.PER_MAX_BATCH]
    max_in_flight, per_max_in_flight = table[k.MAX_IN_FLIGHT], table[k.PER_MAX_IN_FLIGHT]
    j_per_token, j_per_request = table[k.J_PER_TOKEN], table[k.J_PER_REQUEST]
    j_per_cached, j_per_prompt = table[k.J_PER_CACHED_TOKEN], table[k.J_PER_PROMPT_MS]
    wake_w, kwh_per_j = table[k.WAKE_W], table[k.KWH_PER_J]
    context, ci, rtt = table[k.CONTEXT_TOKENS], table[k.CI_FROM], table[rtt_row]
    batches, eligible = live[k.BATCH], live[k.ELIGIBLE]
    caps, turns = live[k.PACE_CAP_MS], live[k.TURNS]
    ttft_factor, tpot_factor, premiums = live[k.TTFT_FACTOR], live[k.TPOT_FACTOR], live[k.PREMIUM]
    ttft_delay, awake, queue_factor = live[k.TTFT_DELAY], live[k.AWAKE], live[k.QUEUE_FACTOR]
    prompts_there, prompts2_there = live[k.PROMPTS_MS], live[k.PROMPTS_MS2]
    cached_there, foreign, per_place = live[k.CACHED_TOKENS], live[k.FOREIGN], live[k.PER_PLACE]
    backlog_ends, backlog_most = live[k.BACKLOG_ENDS_S], live[k.BACKLOG_MOST_MS]
    paced_until = live[k.PACED_UNTIL_S]
    releases_at, woken_at = live[k.RELEASES_AT_S], live[k.WOKEN_AT_S]
    waking_ms, waking_j = table[k.WAKING_MS], table[k.WAKING_J]
    total = ask.n_in + ask.n_out
    late = 0
    for i in range(np.uint64(table.shape[1])):
        batch = _read(batches, i)
        over = batch + 1.0 - _read(max_batch, i)
        running = _read(max_batch, i) if over > 0.0 else batch + 1.0
        crowd = running * _read(per_place, i) if over > 0.0 else 1.0
        iterates = _read(tpot_base, i) > 0.0
        crowd = crowd if iterates else 0.0
        most = _read(backlog_most, i) if iterates else 0.0
        had = _read(ask.cached, i)
        own = (
            _read(prefill_piece, i)
            + _read(prefill_token, i) * (ask.n_in - had)
            + _read(prefill_token2, i) * (ask.n_in2 - had * had)
        )
        prompts = _read(prompts_there, i) * crowd
        decode = (
            _read(tpot_base, i)
            + _read(tpot_slope, i) * running
            + _read(tpot_cached, i) * (_read(cached_there, i) * crowd + ask.context)
        )
        backlog, queue = queue_ms(
            batch, _read(foreign, i), decode, prompts, _read(prompts2_there, i) * crowd,
            _read(backlog_ends, i) - ask.now_s, most,
        )  # fmt: skip
        prefill = _read(prefill_base, i) + _read(prefill_load, i) * batch + decode + own + backlog
        first = prefill * _read(ttft_factor, i) + queue * _read(queue_factor, i)
        tpot = decode + min(prompts, _read(chunk, i))
        pace = decode + prompts + own * ask.per_n_out
        run_ms = first + ask.n_out * tpot
        released = ask.now_s > _read(releases_at, i)
        most_ms, waking_left = _read(waking_ms, i), max(0.0, _read(woken_at, i) - ask.now_s) * 1e3
        awake_in = most_ms if released else min(waking_left, most_ms)
        ttft = _read(rtt, i) + _read(ttft_delay, i) + rule.sleep * awake_in + first
        queued = ttft + over * run_ms * _read(per_max_batch, i)
        ttft = queued if over > 0.0 else ttft
        tpot_q = tpot * _read(tpot_factor, i)
        e2e = ttft + ask.n_out_q * tpot_q
        run_s = run_ms * 1e-3
        late += int(run_s > ask.slot_left_s)
        per_token = _read(j_per_token, i) + _read(j_per_cached, i) * ask.context
        energy = per_token * ask.n_out + _read(j_per_prompt, i) * own + _read(j_per_request, i)
        fixed_j, woken_j = _read(wake_w, i) * run_s, rule.sleep * _read(waking_j, i)
        lonely = fixed_j + woken_j if released else fixed_j
        lonely = lonely if _read(awake, i) == 0.0 else 0.0
        energy += rule.wake_energy * lonely
        grams = (energy * _read(kwh_per_j, i) + ask.network_kwh) * _read(ci, i)
        premium = energy * _read(kwh_per_j, i) * _read(premiums, i)
        premium += rule.wake_premium * lonely * _read(kwh_per_j, i) * _read(ci, i)
        cost = rule.w_g * (grams + premium) + rule.w_ttft * ttft + rule.w_e2e * e2e
        cost += rule.w_load * batch * _read(per_max_in_flight, i) + rule.w_turn * _read(turns, i)
        _, in_turn = turn_of(
            min(_read(caps, i), ask.tpot_budget / _read(tpot_factor, i)),
            decode + prompts * _read(foreign, i), own, _read(paced_until, i) - ask.now_s, most,
            rule.burst_tokens, prompts,
        )  # fmt: skip
        fits = (
            (_read(eligible, i) != 0.0)
            & ((_read(labels, i) & ask.residency) != 0)
            & (total <= _read(context, i))
            & (cost + 0.0 * run_ms < np.inf)
            & (_read(ci, i) <= rule.max_ci)
            & (grams <= rule.max_grams)
            & (batch + 1.0 <= _read(max_in_flight, i))
            & (pace <= _read(caps, i))
            & in_turn
            & (ttft <= ask.ttft_budget)
            & (tpot_q <= ask.tpot_budget)
            & (e2e <= ask.e2e_budget)
        )
        _write(costs, i, cost if fits else np.inf)
        _write(ttfts, i, ttft if fits else np.inf)
        _write(e2es, i, e2e if fits else np.inf)
    return late == 0


@inlined_early
def _sweep_hours(table, live, labels, starts, rtt_row, ask, rule, scratch):
    """As `_sweep`, one by one, for runs that reach into another hour."""
    for r in range(starts.size - 1):
        place = place_of(table, labels, np.uint64(starts[r]), rtt_row)
        # Unsigned rows spare numba's check for negative indices.
        for i in range(np.uint64(starts[r]), np.uint64(starts[r + 1])):
            terms = terms_of(table, live, i, place, ask, rule)
            fits = reason_of(table, live, i, place, ask, rule, terms) == k.FEASIBLE
            scratch[k.S_COST, i] = terms.cost if fits else np.inf
            scratch[k.S_TTFT, i] = terms.ttft if fits else np.inf
            scratch[k.S_E2E, i] = terms.e2e if fits else np.inf


@inlined_early
def _least(starts, scratch):
    """(least cost of all, its region, row that is nearest in time) of what is feasible, and the
    least cost of each region into S_BEST."""
    least, region = np.inf, 0
    nearest, nearest_ttft = np.uint64(0), np.inf
    i = np.uint64(0)
    for r in range(np.uint64(starts.size - 1)):
        least_here = np.inf
        end = np.uint64(starts[r + np.uint64(1)])
        while i < end:
            least_here = min(least_here, scratch[k.S_COST, i])
            ttft = scratch[k.S_TTFT, i]
            # As the latency-first policy: near before little loaded.
            if ttft <= nearest_ttft and (
                ttft < nearest_ttft or scratch[k.S_E2E, i] < scratch[k.S_E2E, nearest]
            ):
                nearest, nearest_ttft = i, ttft
            i += np.uint64(1)
        scratch[k.S_BEST, r] = least_here
        if least_here < least:
            least, region = least_here, np.int64(r)
    return least, region, nearest


@entry(
    f"Tuple((i8, f8, f8, f8, f8, f8, f8, f8, f8, i8, f8, f8, f8, f8))"
    f"(f8[:,::1], f8[:,::1], i8[::1], i8[::1], f8[::1], {REQUEST}, f8, f8[:,::1])"
)
def choose(
    table, live, labels, starts, params, rtt_row, n_in, n_out, n_out_q, network_j,
    ttft_budget, tpot_budget, e2e_budget, residency, slot_left_s, now_s, cached, u, scratch,
):  # fmt: skip
    """Pick one candidate; ``u`` uniform in [0, 1) draws among near-tied regions.

    table (rows, n), live (LIVE_ROWS, n), labels (n,) jurisdiction bits, starts (regions + 1,) row
    ranges, params (PARAMS,), the caller's own budgets (inf: none), cached (n,) tokens of the prompt
    that are not read there, scratch (SCRATCH_ROWS, n), which alone is written.
    Returns (row, ttft_ms, tpot_ms, e2e_ms, energy_j, run_s, prompt_ms,
    prefill_ms, queue_ms, latency_first_row, latency_first_energy_j, latency_first_run_s,
    pace_cap_ms, paced_ms); rows are -1 when nothing is feasible. ``prompt_ms``: what the prompt
    takes of iterations there; ``prefill_ms``, ``queue_ms``: of the time to the first token, without
    their factors; ``pace_cap_ms``: mean iteration there beyond which this request would break
    a budget of its own; ``paced_ms``: what its prompt takes at the pace that answers tolerate.
    """
    ask = ask_of(
        params, n_in, n_out, n_out_q, network_j, ttft_budget, tpot_budget, e2e_budget, residency,
        slot_left_s, now_s, cached,
    )  # fmt: skip
    regions = starts.size - 1
    best = scratch[k.S_BEST, :regions]
    rule = rule_of(params, PACE_TOKENS)
    best_cost, best_region, nearest = np.inf, 0, np.uint64(0)
    for burst_tokens in (PACE_TOKENS, np.inf):
        rule = rule_of(params, burst_tokens)
        if not _sweep(table, live, labels, rtt_row, ask, rule, scratch):
            _sweep_hours(table, live, labels, starts, rtt_row, ask, rule, scratch)
        best_cost, best_region, nearest = _least(starts, scratch)
        if best_cost < np.inf:
            break
    if best_cost == np.inf:
        return (
            -1, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, -1, np.nan, np.nan,
            np.nan, np.nan,
        )  # fmt: skip
    limit = best_cost + params[k.NEAR_TIE] * abs(best_cost)
    tied = 0
    for r in range(np.uint64(regions)):
        tied += int(best[r] <= limit)
    region = best_region
    if tied > 1:
        region = _draw_region(best, best_cost, limit, u)
    # Where a fuller replica costs more, a near-tie of costs would stop before any is full.
    limit = max(limit, best[region] + params[k.PACK_WITHIN] * abs(best[region]))
    row, best_key = np.uint64(0), -np.inf
    for i in range(np.uint64(starts[region]), np.uint64(starts[region + 1])):
        batch = live[k.BATCH, i]
        key = -batch * table[k.PER_MAX_IN_FLIGHT, i]
        roomy = batch + 1.0 <= params[k.PACK_UNTIL] * table[k.MAX_IN_FLIGHT, i]
        if params[k.PACK] != 0.0 and roomy:
            # Above every replica that is past the pack line, and the fuller the better.
            key = 1.0 + live[k.OWN, i] * table[k.PER_MAX_IN_FLIGHT, i]
        if scratch[k.S_COST, i] <= limit and key > best_key:
            row, best_key = i, key
    place = place_of(table, labels, row, rtt_row)
    found = terms_of(table, live, row, place, ask, rule)
    cap = pace_cap(table, live, row, ask, found.ttft, found.pace)
    near = nearest
    place = place_of(table, labels, near, rtt_row)
    first = terms_of(table, live, near, place, ask, rule)
    return (
        np.int64(row), found.ttft, found.tpot, found.e2e, found.energy, found.run_s, found.own,
        found.prefill, found.queue,
        np.int64(nearest), first.energy, first.run_s, cap, found.paced,
    )  # fmt: skip
