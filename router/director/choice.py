"""Where a request goes first, and where it goes after an endpoint failed it."""

from __future__ import annotations

import contextlib

from router.core.budget_rulings import Ruling
from router.core.lengths import Expected
from router.core.pipeline import Decided
from router.director.dispatcher import Dispatcher, View
from router.errors import (
    BudgetImpossibleError,
    NothingFeasibleError,
    PolicyExcludesError,
    RefusedError,
    UpstreamBlamingError,
    UpstreamError,
    UpstreamLostError,
    UpstreamUnreachedError,
)
from router.model import Budget, Request

# On the receipt of a request that moved when its latency budget was already spent.
BUDGET_MISSED = "budget_missed"


def first_choice(
    dispatcher: Dispatcher,
    view: View,
    request: Request,
    expected: Expected,
    barred: tuple[str, ...] = (),
) -> Decided:
    """``barred``: endpoints that it may not go to. Raises RequestError and RefusedError leaves."""
    try:
        return dispatcher.claimed(_chosen, dispatcher, view, request, expected, barred)
    except NothingFeasibleError:
        freed = _freed(dispatcher, view, request)
        if not (view.board.recall(request.model, dispatcher.parts.clock.monotonic()) or freed):
            raise
        return dispatcher.claimed(_chosen, dispatcher, view, request, expected, barred)
    except (BudgetImpossibleError, PolicyExcludesError):
        dispatcher.doubt_lengths(view, request)
        raise


def _chosen(
    dispatcher: Dispatcher,
    view: View,
    request: Request,
    expected: Expected,
    barred: tuple[str, ...],
) -> Decided:
    avoided = _avoided(dispatcher, view, request)
    if avoided:
        # No free choice, which would tell what room is worth.
        choices = ((*avoided, *barred), barred)
        decided = dispatcher.look_in_order(view, request, expected, None, *choices)
        return decided._replace(need=None)
    return dispatcher.look(view, request, expected, barred)


def _freed(dispatcher: Dispatcher, view: View, request: Request) -> bool:
    """Whether ``request`` may leave the endpoint of its sequence, because that is out.

    One that has begun ends here and is free to begin anew, one that has not may move at once.
    """
    sequences = dispatcher.sequences
    seat = view.board.seats.get(sequences.endpoint(request))
    if not request.sequence_id or (seat and view.board.serves(seat, request.model)):
        return False
    begun = sequences.begun(request)
    sequences.forget(request)
    return not begun


def next_choice(
    dispatcher: Dispatcher,
    request: Request,
    expected: Expected,
    tried: tuple[str, ...],
    error: UpstreamError,
    spent_ms: float,
    admitted: Ruling | None = None,
) -> Decided:
    """Where ``request`` goes after ``error`` of the last endpoint ``tried``.

    Within what is left of its latency budgets; where nobody can any more, an answer that is late
    is still better than none. What carbon budgets said when it was ``admitted`` holds on. Raises
    RequestError and RefusedError leaves where it goes nowhere.
    """
    view = dispatcher.view
    view.board.recall(request.model, dispatcher.parts.clock.monotonic(), tried[-1])
    avoided = _avoided(dispatcher, view, request)
    choices = [tried]
    if avoided:
        choices.insert(0, (*tried, *avoided))
    if len(tried) > 1 or isinstance(error, UpstreamBlamingError):
        # Neighbours may share what is wrong: one more of them would tell little.
        choices.insert(0, (*tried, *avoided, *_mates(view, tried)))
    late = [tried]
    closed = isinstance(error, UpstreamUnreachedError) and not error.refused
    if (closed or isinstance(error, UpstreamLostError)) and len(tried) == 1:
        # Its connection was closed or broke, but it may be there: a new one may be had.
        late.append(())
    with contextlib.suppress(RefusedError):
        asked = with_budget_left(request, spent_ms)
        return dispatcher.claimed(
            dispatcher.look_in_order, view, asked, expected, admitted, *choices
        )
    asked = request._replace(budget=Budget())
    decided = dispatcher.claimed(dispatcher.look_in_order, view, asked, expected, admitted, *late)
    return decided.flagged(BUDGET_MISSED)


def with_budget_left(request: Request, spent_ms: float) -> Request:
    """``request`` with what is left of its latency budgets after ``spent_ms``."""
    budget = request.budget
    left = budget._replace(ttft_ms=budget.ttft_ms - spent_ms, e2e_ms=budget.e2e_ms - spent_ms)
    return request._replace(budget=left)


def _avoided(dispatcher: Dispatcher, view: View, request: Request) -> tuple[str, ...]:
    """Endpoints that this caller goes round, because they fail it and not others."""
    avoidance = view.board.avoidance
    if not avoidance:
        return ()
    now = dispatcher.parts.clock.monotonic()
    return avoidance.of(request.model, request.tenant, now)


def _mates(view: View, tried: tuple[str, ...]) -> tuple[str, ...]:
    """Every endpoint of the regions of those tried."""
    endpoints = view.snapshot.layout.fleet.endpoints
    regions = {one.region for one in endpoints if one.name in tried}
    return tuple(one.name for one in endpoints if one.region in regions)
