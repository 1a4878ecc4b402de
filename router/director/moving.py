"""What it costs to ask another endpoint, after one failed a request."""

from __future__ import annotations

from enum import Enum

from router.director.attempt import Attempt
from router.director.dispatcher import Dispatcher
from router.director.suspicion import Suspicion
from router.errors import UpstreamBlamingError, UpstreamError

# Trials of others in a row that prove nothing: then the fault is taken for the request's own.
_MOST_UNPROVEN = 3


class MoveCost(Enum):
    """Nothing, a retry, or more than there is."""

    FREE = 0
    RETRY = 1
    TOO_MUCH = 2


async def cost_to_move(
    dispatcher: Dispatcher,
    attempt: Attempt,
    suspicion: Suspicion,
    error: UpstreamError,
    doubtful: bool,
    known: bool = False,
) -> MoveCost:
    """After ``attempt`` ended in ``error``, ``doubtful`` whose fault that was. Nothing, once the
    endpoint was shown at fault after the request had left: where that cannot pay, it waits for what
    the trials of others show. ``known``: that the request was found wrong by all, a moment ago.
    """
    lease, board = attempt.lease, attempt.view.board
    accused = (lease.seat.name, attempt.model)
    unproven = 0
    while unproven < _MOST_UNPROVEN:
        now = dispatcher.parts.clock.monotonic()
        shown = doubtful and lease.outlier is not None and lease.outlier.is_stale(lease.departed)
        if shown and not board.troubled(attempt.model[0], now):
            return MoveCost.FREE
        if suspicion.may_try(error, known):
            return MoveCost.RETRY
        if not (doubtful and isinstance(error, UpstreamBlamingError)):
            return MoveCost.TOO_MUCH
        proven = await dispatcher.verdicts.next(accused, max(attempt.time_left_s(now), 0.0))
        if proven is None:
            return MoveCost.TOO_MUCH
        unproven = 0 if proven else unproven + 1
    return MoveCost.TOO_MUCH
