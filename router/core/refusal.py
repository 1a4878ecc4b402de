"""Why a request is refused, in words for its caller."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router.core import kernel_rows as k
from router.core.columns import Snapshot
from router.core.obstacle import ERRORS, obstacle
from router.core.question import Question, evaluate
from router.core.residency import listed, parties
from router.core.rungs import budget_of
from router.errors import NothingFeasibleError, RefusedError, ShedError
from router.model import Request

# When a caller that is refused for want of room or health may try again.
SHED_RETRY_S = 1.0
_EXCLUDED = {
    k.CARBON_BUDGET: "exceeds the policy's carbon budget",
    k.CARBON_UNKNOWN: "lies in a grid zone whose carbon intensity is unknown or stale",
    k.CONTEXT: "has too short a context for this request",
}


def refusal(
    request: Request,
    question: Question,
    snapshot: Snapshot,
    live: NDArray[np.float64],
    params: NDArray[np.float64],
) -> RefusedError:
    """Why nothing is feasible under ``params``, the last rung's: the obstacle of the candidates
    that came closest."""
    terms, reasons = evaluate(question, live, params)
    labels = question.columns.candidates.labels
    why = int(obstacle(labels, reasons, question.residency))
    model, error = request.model, ERRORS[why]
    if why == k.FULL:
        return ShedError(
            f"every endpoint that could serve {model!r} is at its concurrency cap", SHED_RETRY_S
        )
    if why == k.UNHEALTHY:
        out = int(((reasons == k.UNHEALTHY) & ((labels & question.residency) != 0)).sum())
        return NothingFeasibleError(
            f"no healthy endpoint serves {model!r} now ({out} out): why, the gateway's log says "
            "and /snapshot of its admin address",
            SHED_RETRY_S,
        )
    if why == k.NOT_FINITE:
        return error(
            f"no endpoint of {model!r} has finite predictions for this request: check its profile"
        )
    if why in _EXCLUDED:
        return error(f"every endpoint of {model!r} {_EXCLUDED[why]}")
    if why == k.RESIDENCY:
        return error(_nowhere(request, snapshot))
    budget = budget_of(request.budget, params)
    column, name, limit = {
        k.E2E_BUDGET: (k.E_E2E, "end-to-end", budget.e2e_ms),
        k.TPOT_BUDGET: (k.E_TPOT, "TPOT", budget.tpot_ms),
        k.TTFT_BUDGET: (k.E_TTFT, "TTFT", budget.ttft_ms),
    }[why]
    best = float(terms[reasons == why, column].min())
    return error(
        f"no endpoint of {model!r} meets the {name} budget of {limit:g} ms: the best "
        f"prediction is {best:.0f} ms"
    )


def _nowhere(request: Request, snapshot: Snapshot) -> str:
    layout = snapshot.layout
    limits = parties(request, snapshot.policy, layout.fleet)
    unknown = sorted(request.residency - layout.known(request.residency))
    hint = f"; no region here lies in {', '.join(unknown)}" if unknown else ""
    return f"no endpoint of {request.model!r} lies in: {listed(limits)}{hint}"
