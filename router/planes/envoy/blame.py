"""What failures say of servers: as `router.director.suspicion`, of what Envoy tells.

Envoy tells of the last attempt why it failed, and of those before only that they did. Whether a
request deserved it another server's answer shows: what the next one answers is proven against the
one before, and what none answers counts for nobody.
"""

from __future__ import annotations

from router.core.seat import Seat
from router.director import Dispatcher, View
from router.errors import (
    UpstreamBusyError,
    UpstreamError,
    UpstreamFaultError,
    UpstreamInternalError,
    UpstreamLostError,
    UpstreamRejectedError,
    UpstreamUnreachedError,
)
from router.model import Decision, Request


class Blame:
    """Told of each failure; takes servers out."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def moved(
        self, failed: Seat, decision: Decision, request: Request, departed: float, now: float,
        is_answered: bool,
    ) -> None:  # fmt: skip
        """``failed`` did not answer a request of ``decision``, and another server had it next.
        ``is_answered``: by that one, well. Times: monotonic."""
        # What was under way there when it broke fails at once, for one reason.
        is_new = failed.health.new_event(departed, now)
        # Why is not known: a probe, which is due at once, tells whether it is there.
        if is_answered:
            failed.health.lose(now)
        else:
            # It may be the request's doing, which takes no server from others.
            failed.health.doubt(now)
        failed.publish_load()
        if is_answered and is_new:
            self._strike(failed, decision, request, departed, now, proven=True)

    def ended(
        self, error: UpstreamError, seat: Seat, decision: Decision, request: Request, view: View,
        departed: float, now: float,
    ) -> None:  # fmt: skip
        """``seat`` had it last, and it ended in ``error``."""
        if isinstance(error, UpstreamUnreachedError):
            if seat.health.refuse(now):
                self._dispatcher.parts.observer.ejected(seat.name)
        elif isinstance(error, UpstreamLostError | UpstreamFaultError):
            is_new = seat.health.new_event(departed, now)
            seat.health.lose(now)
            if is_new:
                self._strike(seat, decision, request, departed, now, proven=False)
        elif isinstance(error, UpstreamBusyError):
            view.board.rest(seat, now, None)
        elif isinstance(error, UpstreamInternalError | UpstreamRejectedError):
            seat.signs += 1
        seat.publish_load()

    def _strike(
        self, seat: Seat, decision: Decision, request: Request, departed: float, now: float, *,
        proven: bool,
    ) -> None:  # fmt: skip
        model = (decision.served.name, decision.served.version)
        board = self._dispatcher.view.board
        if board.strike(seat, model, now, departed, request.tenant, proven):
            self._dispatcher.parts.observer.ejected(seat.name)
