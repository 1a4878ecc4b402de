"""One request's story: decide, lease, forward, learn, receipt. Names no vendor and no policy.

A failed attempt moves to the next endpoint while the deadline and the retry budget last, and never
after the first byte reached the caller. A caller that goes away cancels upstream. How an attempt
ends, and whether another follows, is the journey's to know.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from itertools import islice

from router.contract import Metadata, UnaryReply
from router.core import kernel_rows as k
from router.core.explanation import Explanation, explain
from router.core.refusal import SHED_RETRY_S
from router.director.call import NO_PROMPT, Answer, Call, Prompt
from router.director.cascade import Cascade, Judging, answer_of, judging
from router.director.dispatcher import Dispatcher, Parts, RequestLimits, View, with_told
from router.director.handover import Handover
from router.director.journey import Journey
from router.director.telling import Telling
from router.errors import NothingFeasibleError, UpstreamError, UpstreamRejectedError
from router.model import Decision, Receipt, Request

__all__ = [
    "NO_PROMPT", "Answer", "Call", "Director", "Dispatcher", "Handover", "Parts", "Prompt",
    "RequestLimits", "RoutedStream", "View",
]  # fmt: skip

_ASK_ATTEMPTS = 3
# Of one server: it is a question about a model, not a run of it.
_ASK_TIMEOUT_S = 5.0


class RoutedStream:
    """One request's routed answers. Iterate once; then read ``receipt`` and ``trailers``.

    ``initial_metadata``, ``decision`` and ``decision_id`` are known from the first message on, or
    at the end of one without any. ``pieces``: of the answer, so far; about a token each.

    Cancelling the iterating task, or `aclose`, cancels upstream and closes the lease at once.
    """

    def __init__(self, dispatcher: Dispatcher, call: Call) -> None:
        self.receipt: Receipt | None = None
        self.trailers: Metadata = ()
        self.initial_metadata: Metadata = ()
        self.decision: Decision | None = None
        self.decision_id = ""
        self.pieces = 0
        self._answers = self._route(dispatcher, call)

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return self._answers

    async def aclose(self) -> None:
        """Stop, wherever it is; needed when the iteration was left early."""
        await self._answers.aclose()

    async def _route(self, dispatcher: Dispatcher, call: Call) -> AsyncGenerator[bytes, None]:
        journey = Journey(dispatcher, call, streamed=True)
        try:
            await journey.admit()
            while True:
                async with journey as attempt:
                    # Inside: a channel that was closed refuses the call before there is a stream.
                    answers = attempt.stream()
                    async for message in answers:
                        attempt.heard(message, streamed=True)
                        self.pieces = attempt.pieces
                        if self.decision is None:
                            self.decision, self.decision_id = attempt.decision, journey.decision_id
                            self.initial_metadata = answers.initial_metadata()
                        yield message
                if not attempt.ended:
                    if self.decision is None:
                        self.decision, self.decision_id = attempt.decision, journey.decision_id
                        self.initial_metadata = answers.initial_metadata()
                    self.trailers = answers.trailers()
                    self.receipt = journey.arrive(self.trailers)
                    return
        finally:
            journey.leave()


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
        by = judging(self._dispatcher, call)
        if by is not None:
            return await self._infer_judged(call, by)
        journey = Journey(self._dispatcher, call, streamed=False)
        try:
            await journey.admit()
            reply = await answer_of(journey)
            receipt = journey.arrive(reply.trailers)
            return Answer(reply.payload, reply.initial_metadata, reply.trailers, receipt)
        finally:
            journey.leave()

    async def _infer_judged(self, call: Call, by: Judging) -> Answer:
        journey = Cascade(self._dispatcher, call, by)
        try:
            await journey.admit()
            reply = await answer_of(journey)
            reply, lesson = await journey.improved(reply, journey.answered(reply.trailers))
            receipt = journey.settle(lesson)
            return Answer(reply.payload, reply.initial_metadata, reply.trailers, receipt)
        finally:
            journey.leave()

    def stream(self, call: Call) -> RoutedStream:
        """Route one request with any number of answers; raises while iterating, as `infer` does."""
        return RoutedStream(self._dispatcher, call)

    def hand_over(self, call: Call) -> Handover:
        """A request that somebody else carries. Raises DrainingError and UnknownModelError."""
        return Handover(self._dispatcher, call)

    @property
    def limits(self) -> RequestLimits:
        """Of each request."""
        return self._dispatcher.limits

    def admitting(self, request: Request) -> Telling:
        """What is raised within ends ``request`` before `infer` or `stream` was called: the ledger
        is told."""
        return Telling(self._dispatcher, request)

    def holder(self, request: Request) -> str:
        """The endpoint that holds the sequence that ``request`` goes on with; "" when none does."""
        return self._dispatcher.sequences.endpoint(request)

    def hold(self, model: str, owner: str, sequence_id: str, endpoint: str) -> None:
        """``endpoint`` holds a sequence of ``owner`` from now on, whether a request goes on with it
        by its ``model`` or asks for it without naming one."""
        self._dispatcher.sequences.hold((model, ""), owner, sequence_id, endpoint)

    async def ask(self, call: Call, method: str, carries_prompt: bool = False) -> UnaryReply:
        """Proxy a question about a model to a healthy endpoint, or about a sequence to the one that
        holds it. ``method``: see `Backend.ask`. ``carries_prompt``: so it may only go where its
        request may run.

        Raises as `infer` does.
        """
        dispatcher = self._dispatcher
        dispatcher.require_open()
        if call.request.sequence_id:
            return await self._ask_holder(call, method)
        dispatcher.require_protocol(call)
        dispatcher.require_named(call)
        clock, view = dispatcher.parts.clock, dispatcher.view
        model = call.request.model
        candidates = view.snapshot.layout.find(model, call.request.version)
        live = view.board.live(candidates.model, candidates.version)
        may_run: Iterable[int] = range(len(candidates.endpoints))
        if carries_prompt:
            may_run = dispatcher.may_run(view, call.request)
        # By name: an endpoint with several versions of the model is asked once.
        healthy = {
            candidates.endpoints[row].name: (candidates.endpoints[row], candidates.served[row].name)
            for row in may_run
            if live[k.ELIGIBLE, row]
        }
        started = clock.monotonic()
        timeout_s = dispatcher.timeout_s(call.deadline_s)
        failure: UpstreamError | NothingFeasibleError = NothingFeasibleError(
            f"no healthy endpoint serves {model!r} now", SHED_RETRY_S
        )
        for endpoint, served in islice(healthy.values(), _ASK_ATTEMPTS):
            left_s = min(timeout_s - (clock.monotonic() - started), _ASK_TIMEOUT_S)
            backend = dispatcher.parts.upstreams[endpoint.protocol].backend
            try:
                payload = call.to(served).payload
                return await backend.ask(endpoint, method, payload, call.metadata, left_s)
            except UpstreamRejectedError:
                raise
            except UpstreamError as error:
                failure = error
        raise failure

    async def _ask_holder(self, call: Call, method: str) -> UnaryReply:
        dispatcher = self._dispatcher
        name = self.holder(call.request)
        fleet = dispatcher.view.snapshot.layout.fleet
        endpoint = next((one for one in fleet.endpoints if one.name == name), None)
        if endpoint is None:
            text = f"the endpoint that holds {call.request.sequence_id!r} is gone"
            raise NothingFeasibleError(text)
        left_s = min(dispatcher.timeout_s(call.deadline_s), _ASK_TIMEOUT_S)
        backend = dispatcher.parts.upstreams[endpoint.protocol].backend
        return await backend.ask(endpoint, method, call.payload, call.metadata, left_s)

    def decide(self, request: Request, prompt: Prompt = NO_PROMPT) -> Decision:
        """The decision that `infer` would take now, without forwarding: changes nothing."""
        dispatcher = self._dispatcher
        expected = dispatcher.expect(request)
        request = dispatcher.with_prefix(dispatcher.with_floor(request), expected, prompt)
        return dispatcher.look(dispatcher.view, request, expected).decision

    def explain(self, request: Request, prompt: Prompt = NO_PROMPT) -> Explanation:
        """Every term of that decision, for every candidate. Raises RequestError leaves only."""
        dispatcher = self._dispatcher
        expected, view = dispatcher.expect(request), dispatcher.view
        explanation = explain(
            dispatcher.with_prefix(dispatcher.with_floor(request), expected, prompt),
            view.snapshot,
            view.board,
            expected,
            dispatcher.parts.clock.now(),
            dispatcher.parts.rng,
            dispatcher.network_j(request.payload_bytes),
            dispatcher.judge(view, request, expected),
            dispatcher.parts.clock.monotonic(),
        )
        if explanation.decision is None:
            return explanation
        return replace(explanation, decision=with_told(view, explanation.decision))

    def expected_tokens(self, request: Request) -> float:
        """Of its prompt and its answer together. Raises UnknownModelError."""
        expected = self._dispatcher.expect(request)
        return expected.input_tokens + min(expected.output_tokens, request.max_output_tokens)

    def model_ready(self, model: str, version: str) -> bool:
        """Whether requests for the model are taken now. Raises UnknownModelError."""
        return self._dispatcher.model_ready(model, version)
