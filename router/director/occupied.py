"""Whether a request that finds no place now may find one in a moment.

A server that comes back, or has just lost its connections, takes one request at a time until it has
answered; one that pushed back rests. Neither is gone, and nobody is to be told so.
"""

from __future__ import annotations

from collections.abc import Collection

from router.core import kernel_rows as k
from router.core.board import Board
from router.core.question import Question


def is_occupied(question: Question, board: Board, tried: Collection[str], pinned: str) -> bool:
    """Whether an endpoint that may serve the request is in service and admits nothing just now."""
    candidates = question.columns.candidates
    live = board.live(candidates.model, candidates.version)
    rows = zip(candidates.endpoints, candidates.served, candidates.labels, strict=True)
    for row, (endpoint, served, label) in enumerate(rows):
        name = endpoint.name
        if name in tried or (pinned and name != pinned) or not int(label) & question.residency:
            continue
        if not live[k.ELIGIBLE, row] and board.seats[name].serves((served.name, served.version)):
            return True
    return False
