"""What each row of the cost kernel's arrays is, and what its answers mean; imported as ``k``.

Candidates are sorted by region, so that a region is a range of rows; no region is empty, and RTT,
PUE, CI and jurisdictions are the same throughout a region.
"""

from __future__ import annotations

import numpy as np

# Rows of the table, shape (CI_FROM + hours + origins, n): one column a candidate. WAKING_MS,
# WAKING_J: of a released one, what waking takes, and the joules beside those of requests that it
# draws at least until it can be released again; 0 where nothing is released.
(
    PREFILL_BASE_MS, PREFILL_MS_PER_PIECE, PREFILL_MS_PER_TOKEN, HALF_PREFILL_MS_PER_TOKEN2,
    PREFILL_MS_PER_IN_FLIGHT, TPOT_BASE_MS, TPOT_MS_PER_SEQUENCE, TPOT_MS_PER_CACHED_TOKEN,
    CHUNK_MS, MAX_BATCH, PER_MAX_BATCH, MAX_IN_FLIGHT, PER_MAX_IN_FLIGHT, J_PER_TOKEN,
    J_PER_CACHED_TOKEN, J_PER_PROMPT_MS, J_PER_REQUEST, WAKE_W, KWH_PER_J, CONTEXT_TOKENS,
    PER_CAPACITY, MAX_PREMIUM, WAKING_MS, WAKING_J, CI_FROM,
) = range(25)  # fmt: skip

# Rows of the live board, shape (LIVE_ROWS, n). PROMPTS_MS, PROMPTS_MS2, CACHED_TOKENS: of those in
# flight, as in the formulas of `router.core.terms`. PACE_CAP_MS: the longest mean iteration that
# they tolerate. BACKLOG_ENDS_S: when the last prompt of this gateway's is read, on the clock of
# ``now_s``, by the profile: hence BACKLOG_MOST_MS, all prompts of those there. FOREIGN: the
# share of BATCH that is none of OWN. PER_PLACE: 1 / (BATCH + 1). PACED_UNTIL_S: when this gateway's
# prompts would be read at the pace that answers there tolerate, on the same clock. RELEASES_AT_S:
# when it is released unless somebody comes, inf while somebody is there; WOKEN_AT_S: when one that
# wakes is awake; both on the same clock. UNSERVED: cost that requests had for want of it
# (`router.core.waking`). WORTH: of the last place in its region, PREMIUM: of the next one, g/kWh
# (`router.core.premiums`).
(
    BATCH, ELIGIBLE, PACE_CAP_MS, TTFT_FACTOR, QUEUE_FACTOR, TPOT_FACTOR, TURNS, PREMIUM,
    TTFT_DELAY, OWN, AWAKE, PROMPTS_MS, PROMPTS_MS2, CACHED_TOKENS, BACKLOG_ENDS_S,
    BACKLOG_MOST_MS, FOREIGN, PER_PLACE, PACED_UNTIL_S, RELEASES_AT_S, WOKEN_AT_S, UNSERVED,
    WORTH, LIVE_ROWS,
) = range(24)  # fmt: skip

# The same rows by name, as they are kept of decisions.
LIVE_NAMES = (
    "batch", "eligible", "pace_cap_ms", "ttft_factor", "queue_factor", "tpot_factor", "turns",
    "premium", "ttft_delay", "own", "awake", "prompts_ms", "prompts_ms2", "cached_tokens",
    "backlog_ends_s", "backlog_most_ms", "foreign", "per_place", "paced_until_s", "releases_at_s",
    "woken_at_s", "unserved", "worth",
)  # fmt: skip

# The policy's parameters (`router.core.rungs`). Its latency budgets hold where the caller has none.
(
    W_GCO2E, W_TTFT, W_E2E, W_LOAD, W_TURN, NEAR_TIE, PACK, PACK_UNTIL, MAX_GCO2E,
    MAX_G_PER_KWH, CI_HOURS, SCARCITY, WAKE_ENERGY, WAKE_PREMIUM, POLICY_TTFT_MS,
    POLICY_TPOT_MS, POLICY_E2E_MS, PACK_WITHIN, PARAMS,
) = range(19)  # fmt: skip

# The CI of a grid zone that no source knows: finite, so that 0 * CI is 0 where a policy does not
# weigh carbon, and beyond any limit, so that it can never look clean.
UNKNOWN_CI = 1e30
ANY_CI = np.inf
KNOWN_CI = 1e29

# Why a candidate is excluded; the first that holds.
(
    FEASIBLE, UNHEALTHY, RESIDENCY, CONTEXT, NOT_FINITE, CARBON_UNKNOWN, CARBON_BUDGET, FULL,
    TTFT_BUDGET, TPOT_BUDGET, E2E_BUDGET,
) = range(11)  # fmt: skip

# Rows of the scratch that `choose` works in, shape (SCRATCH_ROWS, n).
S_COST, S_TTFT, S_E2E, S_BEST, SCRATCH_ROWS = range(5)

# Columns of what `evaluate` writes, shape (n, EVALUATED).
(
    E_COST, E_RTT, E_TTFT, E_TPOT, E_E2E, E_ENERGY, E_CI, E_GRAMS, E_BATCH, E_PREMIUM,
    E_PROMPT_ENERGY, E_PACE, EVALUATED,
) = range(13)  # fmt: skip
