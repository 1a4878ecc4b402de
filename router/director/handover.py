"""A request that somebody else carries: decided and leased here, sent and retried by a proxy.

As the journey of one that this gateway sends, but that it moves only where the proxy says that it
did, among the endpoints that were named for it.
"""

from __future__ import annotations

import asyncio

from router.contract import Metadata
from router.core.pipeline import Decided
from router.director.attempt import Attempt
from router.director.call import Call
from router.director.dispatcher import Dispatcher
from router.director.journey import Journey
from router.director.telling import tell_moved
from router.errors import RefusedError, RequestError, UpstreamError, UpstreamLostError
from router.model import Decision, Receipt


class Handover(Journey):
    """`begin` it, then end it in exactly one way: `arrive`, `fail` or `abandon`; and `leave`.

    ``attempt``: in force. ``ended``: whether its place was given back.
    """

    __slots__ = ("_others", "attempt", "ended")

    attempt: Attempt

    def __init__(self, dispatcher: Dispatcher, call: Call) -> None:
        """Raises DrainingError and UnknownModelError."""
        super().__init__(dispatcher, call, streamed=True)
        self._others: dict[str, Decided] = {}
        self.ended = True

    async def begin(self, most: int) -> tuple[Decision, ...]:
        """Take a place; where it goes, and who may follow there, in order: ``most`` in all.

        Raises RequestError and RefusedError leaves.
        """
        await self.admit()
        self.attempt = self._depart()
        self.ended = False
        self._others = self._following(most - 1)
        others = (decided.decision for decided in self._others.values())
        return (self._decision, *others)

    def served_by(self, endpoint: str) -> bool:
        """``endpoint`` has it, by the word of who carries it; False where that cannot be."""
        if endpoint == self._decision.endpoint.name:
            return True
        decided = self._others.get(endpoint)
        if decided is None:
            return False
        first = self.attempt.lease.departed
        failed = self._decision.endpoint.name
        error = UpstreamLostError(f"{failed}: it was carried on to {endpoint}")
        now = self._dispatcher.parts.clock.monotonic()
        # Why is not known: a probe, which is due at once, tells whether it is there.
        self._end(error, now)
        self._tried.passed_over(failed)
        tell_moved(self._dispatcher, self._trace, self._lost, error.reason)
        self._dispatcher.parts.observer.retried(error.reason)
        self._decision = decided.decision
        if self._charge is not None and decided.ruling is not None:
            self._charge.move(decided.ruling)
        self.attempt = self._depart()
        # When it really left the failed one nobody says: rather too early, which attracts nobody.
        self.attempt.lease.departed = first
        return True

    def arrive(self, trailers: Metadata) -> Receipt:
        """It was answered well."""
        self.ended = True
        return super().arrive(trailers)

    async def fail(self, error: UpstreamError) -> UpstreamError:
        """It ended in ``error``; the one that is its caller's to know."""
        try:
            await self._leave_in(error)
        except UpstreamError as told:
            return told
        return error

    async def abandon(self) -> None:
        """It ended, and nobody knows how: its caller left, as far as can be told."""
        await self._leave_in(asyncio.CancelledError())

    async def _leave_in(self, error: BaseException) -> None:
        if not self.ended:
            self.ended = True
            await self.__aexit__(type(error), error, None)

    def _following(self, most: int) -> dict[str, Decided]:
        found: dict[str, Decided] = {}
        request = self._request
        if request.sequence_id:
            # Whoever holds its state has it, or nobody.
            return found
        barred, tried = self._barred(), [self._decision.endpoint.name]
        ruling = None if self._charge is None else self._charge.ruling
        for _ in range(most):
            try:
                decided = self._dispatcher.look(
                    self._view, request, self._expected, (*barred, *tried), ruling
                )
            except (RefusedError, RequestError):
                break
            name = decided.decision.endpoint.name
            found[name] = decided
            tried.append(name)
        return found

    def _may_move(self, error: UpstreamError, doubtful: bool, now: float) -> bool:
        """Who carries it has tried what there was."""
        return False
