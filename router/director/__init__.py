"""One request's story: decide, lease, forward, learn, receipt. Names no vendor and no policy.

A failed attempt moves to the next endpoint while the deadline and the retry budget last, and never
after the first byte reached the caller. A caller that goes away cancels upstream.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from itertools import islice
from typing import NamedTuple

from router.contract import Metadata, UnaryReply, UpstreamStream
from router.core import kernel
from router.core.explanation import Explanation, explain
from router.core.refusal import SHED_RETRY_S
from router.director.dispatcher import Dispatcher, Limits, Parts, View
from router.director.journey import Journey
from router.errors import NothingFeasibleError, UpstreamError, UpstreamRejectedError
from router.model import Decision, Receipt, Request

__all__ = ["Answer", "Director", "Limits", "Parts", "RoutedStream", "View"]

_ASK_ATTEMPTS = 3
# Of one server: it is a question about a model, not a run of it.
_ASK_TIMEOUT_S = 5.0


class Answer(NamedTuple):
    """A routed unary answer: the backend's bytes untouched, and the receipt."""

    payload: bytes
    initial_metadata: Metadata
    trailers: Metadata
    receipt: Receipt


class RoutedStream:
    """One request's routed answers. Iterate once; then read ``receipt`` and ``trailers``.

    Cancelling the iterating task, or `aclose`, cancels upstream and closes the lease at once.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        request: Request,
        payload: bytes,
        metadata: Metadata,
        deadline_s: float | None,
    ) -> None:
        self.receipt: Receipt | None = None
        self.trailers: Metadata = ()
        self._answers = self._route(dispatcher, request, payload, metadata, deadline_s)

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return self._answers

    async def aclose(self) -> None:
        """Stop, wherever it is; needed when the iteration was left early."""
        await self._answers.aclose()

    async def _route(
        self,
        dispatcher: Dispatcher,
        request: Request,
        payload: bytes,
        metadata: Metadata,
        deadline_s: float | None,
    ) -> AsyncGenerator[bytes, None]:
        parts = dispatcher.parts
        journey = Journey(dispatcher, request, deadline_s)
        await journey.admit()
        while True:
            left_s = journey.depart()
            messages, first_at = 0, math.nan
            endpoint = journey.decision.endpoint
            upstream: UpstreamStream | None = None
            try:
                # Inside: a channel that was closed refuses the call before there is a stream.
                upstream = journey.upstream.backend.stream(endpoint, payload, metadata, left_s)
                async for message in upstream:
                    journey.heard(message, streamed=True)
                    if not messages:
                        first_at = parts.clock.monotonic()
                    messages += 1
                    yield message
            except UpstreamError as error:
                if upstream is not None:
                    upstream.cancel()
                if messages:
                    # Another endpoint's answers after these would be a second answer.
                    journey.lose(error)
                    raise
                told = await journey.fail(error)
                if told is not None:
                    raise told from None
                continue
            except BaseException:
                journey.abandon()
                if upstream is not None:
                    upstream.cancel()
                raise
            self.trailers = upstream.trailers()
            self.receipt = journey.arrive(self.trailers, messages, first_at)
            return


class Director(Dispatcher):
    """Routes requests over the current view. One instance serves every request of a process."""

    async def infer(
        self, request: Request, payload: bytes, metadata: Metadata, deadline_s: float | None
    ) -> Answer:
        """Route one request with one answer. Raises RequestError, RefusedError or UpstreamError
        leaves. ``deadline_s``: seconds the caller still waits, or None.
        """
        journey = Journey(self, request, deadline_s)
        await journey.admit()
        while True:
            left_s = journey.depart()
            try:
                reply = await journey.upstream.backend.unary(
                    journey.decision.endpoint, payload, metadata, left_s
                )
                journey.heard(reply.payload, streamed=False)
            except UpstreamError as error:
                told = await journey.fail(error)
                if told is not None:
                    raise told from None
                continue
            except BaseException:
                journey.abandon()
                raise
            receipt = journey.arrive(reply.trailers, messages=0, first_at=math.nan)
            return Answer(reply.payload, reply.initial_metadata, reply.trailers, receipt)

    def stream(
        self, request: Request, payload: bytes, metadata: Metadata, deadline_s: float | None
    ) -> RoutedStream:
        """Route one request with any number of answers; raises while iterating, as `infer` does."""
        return RoutedStream(self, request, payload, metadata, deadline_s)

    async def ask(
        self,
        model: str,
        version: str,
        method: str,
        payload: bytes,
        metadata: Metadata,
        deadline_s: float | None,
    ) -> UnaryReply:
        """Proxy a question about a model to a healthy endpoint. ``method``: see `Backend.ask`."""
        self.require_open()
        candidates = self.view.snapshot.layout.find(model, version)
        live = self.view.board.live(candidates.model, candidates.version)
        # By name: an endpoint with several versions of the model is asked once.
        healthy = {
            endpoint.name: endpoint
            for row, endpoint in enumerate(candidates.endpoints)
            if live[kernel.ELIGIBLE, row]
        }
        started = self.parts.clock.monotonic()
        timeout_s = self.timeout_s(deadline_s)
        failure: UpstreamError | NothingFeasibleError = NothingFeasibleError(
            f"no healthy endpoint serves {model!r} now", SHED_RETRY_S
        )
        for endpoint in islice(healthy.values(), _ASK_ATTEMPTS):
            left_s = timeout_s - (self.parts.clock.monotonic() - started)
            left_s = min(left_s, _ASK_TIMEOUT_S)
            try:
                backend = self.parts.upstreams[endpoint.protocol].backend
                return await backend.ask(endpoint, method, payload, metadata, left_s)
            except UpstreamRejectedError:
                raise
            except UpstreamError as error:
                failure = error
        raise failure

    def decide(self, request: Request) -> Decision:
        """The decision that `infer` would take now, without forwarding: changes nothing."""
        return self.look(self.view, request, self.expect(request)).decision

    def explain(self, request: Request) -> Explanation:
        """Every term of that decision, for every candidate. Raises RequestError leaves only."""
        return explain(
            request,
            self.view.snapshot,
            self.view.board,
            self.expect(request),
            self.parts.clock.now(),
            self.parts.rng,
            self.network_j(request.payload_bytes),
        )

    def model_ready(self, model: str, version: str) -> bool:
        """Whether at least one endpoint that serves the model is in service.

        One that is busy for a moment counts: a fleet under load sheds, it does not go away.
        """
        candidates = self.view.snapshot.layout.find(model, version)
        seats = self.view.board.seats
        return not self.draining and any(
            seats[endpoint.name].serves((served.name, served.version))
            for endpoint, served in zip(candidates.endpoints, candidates.served, strict=True)
        )
