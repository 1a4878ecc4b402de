"""What a request may emit, before it runs, and what one did that ended without an answer.

Grams as on receipts: facility energy, attributional, at the intensity of the run.
"""

from __future__ import annotations

import math
from typing import Final

from router.core.accounting import ENERGY_HIGH, Account, ReadPrompt, decoding_of, energy_interval
from router.core.energy import Crowd, attributional_j_per_token, estimate_run, predict_run, task_j
from router.core.lengths import Expected
from router.core.tokens import TokenCount, known_count, tokens_by_time
from router.model import (
    UNLIMITED,
    Decision,
    Profile,
    Provenance,
    Region,
    TaskProfile,
    TokensKind,
)
from router.units import MS_PER_S, grams

# Of a grid zone that no source knows, whose grams count all the same: coal, IPCC AR5 WG III annex
# III (median 820, maximum 910 gCO2e/kWh), rounded up.
UNKNOWN_G_PER_KWH: Final = 1000.0
_NO_ANSWER: Final = TokenCount(math.nan, math.nan, math.nan, TokensKind.ASSUMED)


def most_g(
    decision: Decision, expected: Expected, crowd: Crowd, network_j: float, region: Region
) -> float:
    """Upper side of what the receipt will say: a long answer, among ``crowd``, which the request
    has yet to join."""
    profile = decision.served.profile
    if isinstance(profile, TaskProfile):
        energy_j = task_j(profile)
    else:
        n_out = max(expected.output_tokens, expected.output_tokens_quantile)
        there = crowd._replace(batch=crowd.batch + 1.0)
        run = predict_run(profile, expected.input_tokens, n_out, there, decision.cached_tokens)
        energy_j = ENERGY_HIGH * run.attributional_j
    return charged_g(energy_j * region.pue + network_j, decision.run_g_per_kwh)


def g_per_output(profile: Profile, pue: float, g_per_kwh: float) -> float:
    """gCO2e of an output token on a replica that is as busy as it is meant to be, at its
    ``target_batch``; of a task of a request. Facility energy, attributional; NaN where the
    intensity is unknown."""
    if isinstance(profile, TaskProfile):
        return grams(task_j(profile) * pue, g_per_kwh)
    return grams(attributional_j_per_token(profile, profile.target_batch) * pue, g_per_kwh)


def account_cut_short(
    decision: Decision,
    expected: Expected,
    crowd: Crowd,
    service_s: float,
    pieces: int,
    max_output_tokens: float = UNLIMITED,
    pace: float = 1.0,
) -> Account:
    """What an attempt took that was given up, or failed, ``service_s`` after it left: an estimate.

    ``pieces``: of output that came by then; 0 where nobody could see any: then there are as many
    tokens as the time has room for, but none beyond ``max_output_tokens``, the request's own limit,
    and the context. ``pace``: as of `router.core.accounting.Run`.
    """
    profile, kind = decision.served.profile, Provenance.ESTIMATED
    if decision.endpoint.emulated:
        kind = Provenance.EMULATED
    if isinstance(profile, TaskProfile):
        task = task_j(profile) * min(1.0, service_s * MS_PER_S / profile.service_ms)
        return Account(_NO_ANSWER, task, task, kind, prompt_energy_j=0.0)
    read = ReadPrompt(expected.input_tokens, decision.cached_tokens)
    tokens = known_count(float(pieces), TokensKind.COUNTED)
    if not pieces:
        most = min(max_output_tokens, decision.served.context_tokens)
        service_ms = service_s * MS_PER_S
        token_ms, decoding_ms = decoding_of(profile, read, crowd, service_ms, pace)
        tokens = tokens_by_time(token_ms, decoding_ms, service_ms, most)
    run = estimate_run(
        profile, read.input_tokens, tokens.tokens, crowd, service_s,
        cached_tokens=read.cached_tokens,
    )  # fmt: skip
    return Account(
        tokens,
        run.attributional_j,
        run.marginal_j,
        kind,
        *energy_interval(profile, crowd, service_s, read, tokens),
        prompt_energy_j=run.prompt_j,
        cached_tokens=decision.cached_tokens,
    )


def charged_g(facility_j: float, g_per_kwh: float) -> float:
    """Grams of facility joules; where the intensity is not known, at UNKNOWN_G_PER_KWH."""
    return grams(facility_j, g_per_kwh if math.isfinite(g_per_kwh) else UNKNOWN_G_PER_KWH)
