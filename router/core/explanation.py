"""Every term of a decision, for every candidate: what `explain` shows and what settles disputes.

The same columns, kernel and ladder as `pipeline.decide`; slower, because it keeps everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from router.contract import Rng
from router.core import kernel as k
from router.core.board import Board
from router.core.columns import Snapshot
from router.core.lengths import Expected
from router.core.pipeline import decide
from router.core.question import ask, evaluate, merge_budgets
from router.core.residency import Party, parties
from router.errors import RefusedError
from router.model import Budget, Decision, Intensity, Relax, Request, Weights

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
    the candidate was excluded.
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
    gco2e: float
    premium_g: float
    cost: float | None
    excluded: str


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
    board: Board,
    expected: Expected,
    now: float,
    rng: Rng,
    network_j: float = 0.0,
) -> Explanation:
    """Rank every candidate for ``request`` at ``now``. Raises RequestError leaves only."""
    question = ask(request, snapshot, expected, now, network_j)
    columns = question.columns
    decision, refusal, reason = None, "", ""
    try:
        decision = decide(request, snapshot, board, expected, now, rng, network_j)
    except RefusedError as error:
        refusal, reason = str(error), error.reason
    relaxed = decision.relaxed if decision else snapshot.policy.ladder
    params = snapshot.relaxed_params if Relax.CARBON in relaxed else snapshot.params
    budget = merge_budgets(request.budget, snapshot.policy.budget)
    if Relax.POLICY_LATENCY in relaxed:
        budget = request.budget
    live = board.live(columns.candidates.model, columns.candidates.version)
    terms, reasons = evaluate(question, live, params, budget)
    pairs = list(zip(columns.candidates.endpoints, columns.candidates.served, strict=True))
    order = sorted(
        range(len(reasons)),
        key=lambda i: (
            reasons[i] != k.FEASIBLE,
            # Both: an endpoint may serve two versions of the model.
            not (decision and pairs[i] == (decision.endpoint, decision.served)),
            terms[i, k.E_COST],
        ),
    )
    fleet = snapshot.layout.fleet
    candidates = []
    for i in order:
        endpoint, served = pairs[i]
        region = fleet.regions[endpoint.region]
        known = terms[i, k.E_CI] <= k.KNOWN_CI
        candidates.append(
            Candidate(
                endpoint=endpoint.name,
                region=region.name,
                grid_zone=region.grid_zone,
                profile=served.profile.name,
                profile_provenance="emulated"
                if endpoint.emulated
                else str(served.profile.provenance),
                intensity=snapshot.intensity(region.name, now),
                g_per_kwh=float(terms[i, k.E_CI]) if known else float("nan"),
                pue=region.pue,
                batch=float(terms[i, k.E_BATCH]),
                max_in_flight=endpoint.max_in_flight,
                rtt_ms=float(terms[i, k.E_RTT]),
                delay_ms=float(live[k.TTFT_DELAY, i]),
                ttft_ms=float(terms[i, k.E_TTFT]),
                tpot_ms=float(terms[i, k.E_TPOT]),
                e2e_ms=float(terms[i, k.E_E2E]),
                energy_j=float(terms[i, k.E_ENERGY]),
                gco2e=float(terms[i, k.E_GRAMS]) if known else float("nan"),
                premium_g=float(terms[i, k.E_PREMIUM]),
                cost=float(terms[i, k.E_COST]) if reasons[i] == k.FEASIBLE else None,
                excluded=REASONS[int(reasons[i])],
            )
        )
    return Explanation(
        request=request,
        at=now,
        policy=snapshot.policy.name,
        weights=snapshot.policy.weights,
        quantile=snapshot.policy.quantile,
        budget=budget,
        expected=expected,
        network_j=network_j,
        snapshot_version=snapshot.version,
        candidates=tuple(candidates),
        decision=decision,
        refusal=refusal,
        refusal_reason=reason,
        residency=parties(request, snapshot.policy, fleet),
    )
