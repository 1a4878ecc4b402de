"""Every term of a decision, for every candidate: what `explain` shows and what settles disputes.

The same columns, kernel and ladder as `pipeline.decide`; slower, because it keeps everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.contract import Rng
from router.core import kernel_rows as k
from router.core.budget_rulings import Judge
from router.core.columns import GREENEST, Snapshot
from router.core.lengths import Expected
from router.core.pipeline import decide, without_premiums
from router.core.question import BoardView, evaluate, question_of
from router.core.residency import Party, parties
from router.core.rungs import budget_of
from router.errors import RefusedError
from router.model import (
    Budget,
    Decision,
    Endpoint,
    Intensity,
    Request,
    ServedModel,
    Weights,
)

REASONS = {
    k.FEASIBLE: "",
    k.UNHEALTHY: "unhealthy",
    k.RESIDENCY: "residency",
    k.CONTEXT: "context_length",
    k.NOT_FINITE: "not_finite",
    k.CARBON_UNKNOWN: "carbon_unknown",
    k.CARBON_BUDGET: "carbon_budget",
    k.FULL: "full",
    k.TTFT_BUDGET: "ttft_budget",
    k.TPOT_BUDGET: "tpot_budget",
    k.E2E_BUDGET: "e2e_budget",
}


class Candidate(NamedTuple):
    """One endpoint in an explanation. Latencies at the policy's quantile; ``excluded`` is "" or a
    value of REASONS; ``intensity`` None when no source knows the grid zone.

    ``g_per_kwh`` is what the policy decided by (its mean over the run, or an annual mean), NaN
    where unknown; ``delay_ms``: what the path adds to the RTT, as learned, part of ``ttft_ms``;
    ``premium_g``: the price of scarce room and of waking a replica there, in grams
    that count in the cost and that nobody emits; ``cost`` is in the policy's own unit, None when
    the candidate was excluded. ``cached_tokens``: of the prompt, expected not to be read there.
    """

    endpoint: str
    region: str
    grid_zone: str
    profile: str
    profile_provenance: str
    intensity: Intensity | None
    g_per_kwh: float
    pue: float
    batch: float
    max_in_flight: int
    rtt_ms: float
    delay_ms: float
    ttft_ms: float
    tpot_ms: float
    e2e_ms: float
    energy_j: float
    prompt_energy_j: float
    gco2e: float
    premium_g: float
    cost: float | None
    excluded: str
    cached_tokens: float = 0.0
    model: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `decide` would do at ``at``, with its reasons; candidates by rank, excluded ones last.

    Exactly one of ``decision`` and ``refusal`` is set. ``refusal_reason`` is machine-readable.
    ``residency``: everybody who limits where the request may run.
    """

    request: Request
    at: float
    policy: str
    weights: Weights
    quantile: float
    tpot_quantile: float
    budget: Budget
    expected: Expected
    network_j: float
    snapshot_version: int
    candidates: tuple[Candidate, ...]
    decision: Decision | None
    refusal: str
    refusal_reason: str
    residency: tuple[Party, ...] = ()


def explain(
    request: Request,
    snapshot: Snapshot,
    board: BoardView,
    expected: Expected,
    now: float,
    rng: Rng,
    network_j: float = 0.0,
    judge: Judge | None = None,
    monotonic: float | None = None,
) -> Explanation:
    """Rank every candidate for ``request`` at ``now``. Raises RequestError leaves only.

    ``judge``: as of `decide`; where it has candidates ranked by grams alone, costs are grams.
    ``monotonic``: see `question_of`.
    """
    question = question_of(request, snapshot, board, expected, now, network_j, monotonic)
    columns = question.columns
    decision, refusal, reason = None, "", ""
    try:
        decided = decide(
            request, snapshot, board, expected, now, rng, network_j,
            judge=judge, monotonic=monotonic,
        )  # fmt: skip
        decision = decided.decision
    except RefusedError as error:
        refusal, reason = str(error), error.reason
    params = snapshot.params(decision) if decision else snapshot.rungs[-1]
    weights = snapshot.policy.weights
    live = board.live(columns.candidates.model, columns.candidates.version)
    if decision is not None and GREENEST in decision.flags:
        live, weights = without_premiums(live), Weights(per_gco2e=1.0)
    terms, reasons = evaluate(question, live, params)
    pairs = list(zip(columns.candidates.endpoints, columns.candidates.served, strict=True))
    chosen = (decision.endpoint, decision.served) if decision else None
    order = sorted(
        range(len(reasons)),
        # Both: an endpoint may serve two versions of the model.
        key=lambda i: (reasons[i] != k.FEASIBLE, pairs[i] != chosen, terms[i, k.E_COST]),
    )
    candidates = tuple(
        _candidate(
            *pairs[i],
            terms[i],
            reasons[i],
            float(live[k.TTFT_DELAY, i]),
            float(question.cached[i]),
            snapshot,
            now,
        )
        for i in order
    )
    return Explanation(
        request=request,
        at=now,
        policy=snapshot.policy.name,
        weights=weights,
        quantile=snapshot.policy.quantile,
        tpot_quantile=snapshot.policy.tpot_quantile,
        budget=budget_of(request.budget, params),
        expected=expected,
        network_j=network_j,
        snapshot_version=snapshot.version,
        candidates=candidates,
        decision=decision,
        refusal=refusal,
        refusal_reason=reason,
        residency=parties(request, snapshot.policy, snapshot.layout.fleet),
    )


def _candidate(
    endpoint: Endpoint,
    served: ServedModel,
    terms: NDArray[np.float64],
    reason: np.int64,
    delay_ms: float,
    cached_tokens: float,
    snapshot: Snapshot,
    now: float,
) -> Candidate:
    """``terms`` (k.EVALUATED,) and ``reason`` as the kernel has them of this one."""
    region = snapshot.layout.fleet.regions[endpoint.region]
    provenance = endpoint.provenance_of(served.profile)
    known = terms[k.E_CI] <= k.KNOWN_CI
    return Candidate(
        endpoint=endpoint.name,
        region=region.name,
        grid_zone=region.grid_zone,
        profile=served.profile.name,
        profile_provenance=str(provenance),
        intensity=snapshot.intensity(region.name, now),
        g_per_kwh=float(terms[k.E_CI]) if known else math.nan,
        pue=region.pue,
        batch=float(terms[k.E_BATCH]),
        max_in_flight=endpoint.max_in_flight,
        rtt_ms=float(terms[k.E_RTT]),
        delay_ms=delay_ms,
        ttft_ms=float(terms[k.E_TTFT]),
        tpot_ms=float(terms[k.E_TPOT]),
        e2e_ms=float(terms[k.E_E2E]),
        energy_j=float(terms[k.E_ENERGY]),
        prompt_energy_j=float(terms[k.E_PROMPT_ENERGY]),
        gco2e=float(terms[k.E_GRAMS]) if known else math.nan,
        premium_g=float(terms[k.E_PREMIUM]),
        cost=float(terms[k.E_COST]) if reason == k.FEASIBLE else None,
        excluded=REASONS[int(reason)],
        cached_tokens=cached_tokens,
        model=served.name,
    )
