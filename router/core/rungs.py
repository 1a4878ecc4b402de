"""A policy as the kernel's parameters: as it says, and on each rung of its ladder.

What a rung drops is said here and nowhere else: a rung is a row of parameters, and whoever decides
goes down the rows until something is feasible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core import kernel_rows as k
from router.model import DROPPED_BUDGETS, UNLIMITED, Budget, Energy, Policy, Relax, Spread

# Hours of carbon intensity that the columns hold.
CI_HOURS: Final = 6
_BUDGETS: Final[Mapping[str, int]] = {
    "ttft_ms": k.POLICY_TTFT_MS,
    "tpot_ms": k.POLICY_TPOT_MS,
    "e2e_ms": k.POLICY_E2E_MS,
}
# Parameters that a rung replaces, beside the budgets that it drops. Without its carbon limit and
# weight a policy has but latency to choose by.
_DROPS: Final[Mapping[Relax, Mapping[int, float]]] = {
    Relax.CARBON: {
        k.W_GCO2E: 0.0,
        k.W_E2E: 1.0,
        k.MAX_GCO2E: math.inf,
        k.MAX_G_PER_KWH: k.ANY_CI,
    },
}
# Of the least grams, what counts as no more; less where the policy says so.
_GREENEST_TIE: Final = 0.002


class GreenRung(NamedTuple):
    """Parameters (k.PARAMS,) by which nothing counts but grams; ``relaxed``: what they drop."""

    params: NDArray[np.float64]
    relaxed: tuple[Relax, ...]


def rungs_of(policy: Policy) -> tuple[NDArray[np.float64], ...]:
    """Parameters (k.PARAMS,) as the policy says, then with each rung of its ladder taken too."""
    found = [_params(policy)]
    for rung in policy.ladder:
        params = found[-1].copy()
        for row, value in _DROPS.get(rung, {}).items():
            params[row] = value
        for budget in DROPPED_BUDGETS.get(rung, ()):
            params[_BUDGETS[budget]] = UNLIMITED
        found.append(params)
    return tuple(found)


def green_rungs_of(policy: Policy) -> tuple[GreenRung, ...]:
    """Who has no grams left goes where it emits least: the policy's latency budgets give way at
    once where its ladder lets them, its carbon limits where nothing is feasible by then.

    Grids that nobody knows are last in any case. No premium counts: see `router.core.pipeline`.
    """
    params = _params(policy)
    for row in (k.W_TTFT, k.W_E2E, k.W_LOAD, k.W_TURN, k.SCARCITY, k.WAKE_PREMIUM, k.PACK_WITHIN):
        params[row] = 0.0
    params[k.W_GCO2E] = 1.0
    params[k.NEAR_TIE] = min(policy.near_tie, _GREENEST_TIE)
    params[k.MAX_G_PER_KWH] = min(policy.max_g_per_kwh, k.KNOWN_CI)
    relaxed: tuple[Relax, ...] = ()
    if Relax.POLICY_LATENCY in policy.ladder:
        relaxed = (Relax.POLICY_LATENCY,)
        for budget in DROPPED_BUDGETS[Relax.POLICY_LATENCY]:
            params[_BUDGETS[budget]] = UNLIMITED
    found = [GreenRung(params, relaxed)]
    if Relax.CARBON in policy.ladder:
        params = params.copy()
        params[k.MAX_GCO2E], params[k.MAX_G_PER_KWH] = math.inf, k.ANY_CI
        found.append(GreenRung(params, (*relaxed, Relax.CARBON)))
    return tuple(found)


def budget_of(own: Budget, params: NDArray[np.float64]) -> Budget:
    """Each limit from the caller where it set one, else from the policy as ``params`` have it."""
    return Budget(
        own.ttft_ms if own.ttft_ms < UNLIMITED else float(params[k.POLICY_TTFT_MS]),
        own.tpot_ms if own.tpot_ms < UNLIMITED else float(params[k.POLICY_TPOT_MS]),
        own.e2e_ms if own.e2e_ms < UNLIMITED else float(params[k.POLICY_E2E_MS]),
        own.explicit,
    )


def _params(policy: Policy) -> NDArray[np.float64]:
    weights = policy.weights
    weighs_carbon = weights.per_gco2e != 0.0
    limited = policy.max_gco2e < math.inf or policy.max_g_per_kwh < math.inf
    # A policy for which carbon counts must not route to a zone that no source knows.
    ceiling = k.KNOWN_CI if weighs_carbon or limited else k.ANY_CI
    params = np.zeros(k.PARAMS)
    params[k.W_GCO2E] = weights.per_gco2e
    params[k.W_TTFT] = weights.per_ttft_ms
    params[k.W_E2E] = weights.per_e2e_ms
    params[k.W_LOAD] = weights.per_load
    params[k.W_TURN] = weights.per_turn
    params[k.NEAR_TIE] = policy.near_tie
    params[k.PACK] = 1.0 if policy.spread is Spread.PACK else 0.0
    params[k.PACK_UNTIL] = policy.pack_until
    params[k.PACK_WITHIN] = policy.pack_within if policy.spread is Spread.PACK else 0.0
    params[k.MAX_GCO2E] = policy.max_gco2e
    params[k.MAX_G_PER_KWH] = min(policy.max_g_per_kwh, ceiling)
    params[k.CI_HOURS] = CI_HOURS
    params[k.SCARCITY] = policy.scarcity
    if policy.energy is Energy.LONG_RUN:
        # A price, not joules: those of the long run pay for awake replicas already.
        params[k.WAKE_PREMIUM] = policy.wake_share
    else:
        params[k.WAKE_ENERGY] = 1.0
    for budget, row in _BUDGETS.items():
        params[row] = getattr(policy.budget, budget)
    return params
