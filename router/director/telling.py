"""What the ledger and traces are told of how requests, and their attempts, end: each once."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Final

from router.contract import RequestTrace
from router.errors import CarbonRouterError, RefusedError, RequestError, tell_span
from router.model import Receipt, Request, RowOutcome

if TYPE_CHECKING:
    from router.director.dispatcher import Dispatcher

# The reason of what its caller left; of a fault of our own.
CALLER_LEFT: Final = "cancelled"
_INTERNAL: Final = "internal"


def how_it_ended(error: BaseException) -> tuple[RowOutcome, str]:
    """Outcome and reason of what ended in ``error``."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return RowOutcome.CANCELLED, CALLER_LEFT
    if isinstance(error, RefusedError | RequestError):
        return RowOutcome.REFUSED, error.reason
    if isinstance(error, CarbonRouterError):
        return RowOutcome.FAILED, error.reason
    return RowOutcome.FAILED, _INTERNAL


def tell_lost(
    dispatcher: Dispatcher, trace: RequestTrace | None, lost: Receipt | None, error: BaseException
) -> None:
    """The attempt of ``lost`` was the last one; its request ends in ``error``."""
    ledger = dispatcher.parts.ledger
    if ledger is not None and lost is not None:
        ledger.ended(lost, *how_it_ended(error))
    if trace is not None:
        trace.ended(lost, *how_it_ended(error), dispatcher.view.snapshot.policy.name)
        tell_span(error, trace.trace_id, trace.span_id)


def tell_moved(
    dispatcher: Dispatcher, trace: RequestTrace | None, lost: Receipt | None, reason: str
) -> None:
    """The attempt of ``lost`` failed, and its request goes on elsewhere."""
    ledger = dispatcher.parts.ledger
    if lost is None:
        return
    if ledger is not None:
        ledger.ended(lost, RowOutcome.MOVED, reason)
    if trace is not None:
        trace.moved(lost, reason)


class Telling:
    """A block in which what is raised ends ``request`` before it went anywhere.

    On the way of every request, so no generator.
    """

    __slots__ = ("_dispatcher", "_request", "_started", "_trace")

    def __init__(
        self, dispatcher: Dispatcher, request: Request, trace: RequestTrace | None = None
    ) -> None:
        self._dispatcher = dispatcher
        self._request = request
        self._trace = trace
        self._started = dispatcher.parts.clock.monotonic()

    def __enter__(self) -> None:
        """Nothing is to be done."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        dispatcher = self._dispatcher
        ledger, trace = dispatcher.parts.ledger, self._trace
        if error is None or (ledger is None and trace is None):
            return
        clock = dispatcher.parts.clock
        outcome, reason = how_it_ended(error)
        policy = dispatcher.view.snapshot.policy.name
        if trace is not None:
            trace.ended(None, outcome, reason, policy)
            tell_span(error, trace.trace_id, trace.span_id)
        if ledger is None:
            return
        waited_ms = (clock.monotonic() - self._started) * 1e3
        ledger.turned_away(self._request, outcome, reason, policy, clock.now(), waited_ms)
