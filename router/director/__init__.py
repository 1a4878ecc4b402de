"""One request's story: decide, lease, forward, learn, receipt. Names no vendor and no policy.

A failed attempt moves to the next endpoint while the deadline and the retry budget last, and never
after the first byte reached the caller. A caller that goes away cancels upstream. How an attempt
ends, and whether another follows, is the journey's to know.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import islice

from router.contract import Metadata, UnaryReply
from router.core import kernel
from router.core.explanation import Explanation, explain
from router.core.refusal import SHED_RETRY_S
from router.director.call import Answer, Call
from router.director.dispatcher import Dispatcher, Parts, RequestLimits, View
from router.director.journey import Journey
from router.errors import NothingFeasibleError, UpstreamError, UpstreamRejectedError
from router.model import Decision, Receipt, Request

__all__ = [
    "Answer", "Call", "Director", "Dispatcher", "Parts", "RequestLimits", "RoutedStream", "View",
]  # fmt: skip

_ASK_ATTEMPTS = 3
# Of one server: it is a question about a model, not a run of it.
_ASK_TIMEOUT_S = 5.0


class RoutedStream:
    """One request's routed answers. Iterate once; then read ``receipt`` and ``trailers``.

    Cancelling the iterating task, or `aclose`, cancels upstream and closes the lease at once.
    """

    def __init__(self, dispatcher: Dispatcher, call: Call) -> None:
        self.receipt: Receipt | None = None
        self.trailers: Metadata = ()
        self._answers = self._route(dispatcher, call)

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return self._answers

    async def aclose(self) -> None:
        """Stop, wherever it is; needed when the iteration was left early."""
        await self._answers.aclose()

    async def _route(self, dispatcher: Dispatcher, call: Call) -> AsyncGenerator[bytes, None]:
        journey = Journey(dispatcher, call)
        await journey.admit()
        while True:
            async with journey as attempt:
                # Inside: a channel that was closed refuses the call before there is a stream.
                answers = attempt.stream()
                async for message in answers:
                    attempt.heard(message, streamed=True)
                    yield message
            if not attempt.ended:
                self.trailers = answers.trailers()
                self.receipt = journey.arrive(self.trailers)
                return


class Director:
    """Routes requests over the current view. One instance serves every request of a process."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    @property
    def view(self) -> View:
        """What decisions are taken on now."""
        return self._dispatcher.view

    async def infer(self, call: Call) -> Answer:
        """Route one request with one answer.

        Raises RequestError, RefusedError or UpstreamError leaves.
        """
        journey = Journey(self._dispatcher, call)
        await journey.admit()
        while True:
            async with journey as attempt:
                reply = await attempt.unary()
                attempt.heard(reply.payload, streamed=False)
            if not attempt.ended:
                receipt = journey.arrive(reply.trailers)
                return Answer(reply.payload, reply.initial_metadata, reply.trailers, receipt)

    def stream(self, call: Call) -> RoutedStream:
        """Route one request with any number of answers; raises while iterating, as `infer` does."""
        return RoutedStream(self._dispatcher, call)

    async def ask(self, call: Call, method: str) -> UnaryReply:
        """Proxy a question about a model to a healthy endpoint. ``method``: see `Backend.ask`.

        Raises as `infer` does.
        """
        dispatcher = self._dispatcher
        dispatcher.require_open()
        clock, view = dispatcher.parts.clock, dispatcher.view
        model = call.request.model
        candidates = view.snapshot.layout.find(model, call.request.version)
        live = view.board.live(candidates.model, candidates.version)
        # By name: an endpoint with several versions of the model is asked once.
        healthy = {
            endpoint.name: endpoint
            for row, endpoint in enumerate(candidates.endpoints)
            if live[kernel.ELIGIBLE, row]
        }
        started = clock.monotonic()
        timeout_s = dispatcher.timeout_s(call.deadline_s)
        failure: UpstreamError | NothingFeasibleError = NothingFeasibleError(
            f"no healthy endpoint serves {model!r} now", SHED_RETRY_S
        )
        for endpoint in islice(healthy.values(), _ASK_ATTEMPTS):
            left_s = min(timeout_s - (clock.monotonic() - started), _ASK_TIMEOUT_S)
            backend = dispatcher.parts.upstreams[endpoint.protocol].backend
            try:
                return await backend.ask(endpoint, method, call.payload, call.metadata, left_s)
            except UpstreamRejectedError:
                raise
            except UpstreamError as error:
                failure = error
        raise failure

    def decide(self, request: Request) -> Decision:
        """The decision that `infer` would take now, without forwarding: changes nothing."""
        dispatcher = self._dispatcher
        return dispatcher.look(dispatcher.view, request, dispatcher.expect(request)).decision

    def explain(self, request: Request) -> Explanation:
        """Every term of that decision, for every candidate. Raises RequestError leaves only."""
        dispatcher = self._dispatcher
        return explain(
            request,
            dispatcher.view.snapshot,
            dispatcher.view.board,
            dispatcher.expect(request),
            dispatcher.parts.clock.now(),
            dispatcher.parts.rng,
            dispatcher.network_j(request.payload_bytes),
        )

    def model_ready(self, model: str, version: str) -> bool:
        """Whether requests for the model are taken now. Raises UnknownModelError."""
        return self._dispatcher.model_ready(model, version)
