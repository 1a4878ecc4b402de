"""Which variant of an alias a decision is for, and what the others would have cost.

Which one serves a request is chosen by the kernel together with where: the candidates of an alias
are all endpoints of all variants that reach the request's floors (`router.core.layout`).
"""

from __future__ import annotations

import numpy as np

from router.core import kernel_rows as k
from router.core.columns import Snapshot
from router.core.question import BoardView, Question, asked_anew, evaluate, of_every_variant
from router.model import (
    Alias,
    Alternative,
    ChosenVariant,
    Decision,
    OtherVariant,
    Request,
)

# On a decision for which a carbon budget let the operator's floor give way.
FLOOR_DROPPED = "quality_floor_dropped"


def with_variant(
    decision: Decision,
    request: Request,
    alias: Alias,
    question: Question,
    snapshot: Snapshot,
    board: BoardView,
    now: float,
) -> Decision:
    """``decision`` on a ``request`` for ``alias``, with what is told of its variants: of all of
    them, also of those below the request's floor. ``question``: that it answers."""
    if request.least_quality:
        question = asked_anew(question, of_every_variant(request), snapshot, board, now)
    candidates = question.columns.candidates
    live = board.live(candidates.model, candidates.version)
    terms, reasons = evaluate(question, live, snapshot.params(decision))
    costs = np.where(reasons == k.FEASIBLE, terms[:, k.E_COST], np.inf)
    served = decision.served.name
    others = []
    for variant in alias.variants:
        if variant.model == served:
            continue
        place = None
        mine = [row for row, one in enumerate(candidates.served) if one.name == variant.model]
        if mine:
            row = min(mine, key=costs.__getitem__)
            if costs[row] < np.inf and terms[row, k.E_CI] <= k.KNOWN_CI:
                place = Alternative(
                    candidates.endpoints[row],
                    candidates.served[row],
                    float(terms[row, k.E_CI]),
                    float(question.cached[row]),
                )
        others.append(OtherVariant(variant.model, variant.quality, place))
    chosen = ChosenVariant(
        alias.name, served, alias.quality_of(served), request.least_quality, tuple(others)
    )
    return decision._replace(variant=chosen)
