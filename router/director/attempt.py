"""One try of a request at one endpoint: its lease, what was heard, and what its end says."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import NamedTuple

from router.contract import UnaryReply, UpstreamStream
from router.core.accounting import Account, Run
from router.core.emitted import account_cut_short
from router.core.lease import Lease
from router.core.lengths import Expected
from router.director.answer_meter import AnswerMeter
from router.director.call import Call, fingerprint
from router.director.dispatcher import Parts, View
from router.director.lessons import SentPrompt
from router.director.suspicion import Suspicion
from router.errors import (
    UpstreamBusyError,
    UpstreamDeniedError,
    UpstreamError,
    UpstreamFaultError,
    UpstreamLostError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamTooLargeError,
    UpstreamUnreachedError,
)
from router.model import Decision, Fleet, Outcome, Request, TaskProfile
from router.units import MS_PER_S

# A server that says timed out earlier than this before the deadline speaks of its own.
OWN_DEADLINE_S = 0.05
# A server that says so before any answer has not begun with the request.
TURNED_AWAY = (UpstreamBusyError, UpstreamDeniedError, UpstreamRejectedError)


class Failed(NamedTuple):
    """Of an attempt that failed. ``free``: to move on costs nothing. ``doubtful``: only another
    endpoint's answer can tell whose fault it was."""

    free: bool
    doubtful: bool


class Attempt:
    """From its departure, when it takes a place, until `succeed`, `fail` or `abandon` gives that
    back: exactly one of them ends it.

    ``model``: its name and version there. ``waited_s``: since the request came in, ``left_s``:
    until its time is up. ``messages``: of a stream, how many came; ``pieces``, ``first_at``: of
    output in them, and at what monotonic time the first, else 0 and NaN.
    """

    __slots__ = (
        "_answers", "_call", "_meter", "_parts", "_started", "_suspicion", "_timeout_s",
        "_unread", "decision", "first_at", "lease", "left_s", "messages", "model",
        "pieces", "sent", "upstream", "view", "waited_s",
    )  # fmt: skip

    def __init__(
        self,
        parts: Parts,
        view: View,
        call: Call,
        decision: Decision,
        suspicion: Suspicion | None,
        started: float,
        timeout_s: float,
    ) -> None:
        """``suspicion``: of the endpoints that failed the request before. ``started``: when it came
        in; ``timeout_s``: what it is given from then on."""
        endpoint, served = decision.endpoint, decision.served
        seat = view.board.seats[endpoint.name]
        upstream = parts.upstreams[endpoint.protocol]
        self.decision = decision
        self.model = (served.name, served.version)
        self.view = view
        self.upstream = upstream
        self.messages = 0
        self.pieces = 0
        self.first_at = math.nan
        self.sent: SentPrompt | None = None
        self._unread: SentPrompt | None = None
        self._parts = parts
        self._answers: UpstreamStream | None = None
        self._call = call
        self._suspicion = suspicion
        self._started = started
        self._timeout_s = timeout_s
        self._meter = AnswerMeter(upstream.reports, served.profile)
        departed = parts.clock.monotonic()
        self.waited_s = waited_s = departed - started
        self.left_s = timeout_s - waited_s
        self.lease = Lease(
            seat,
            decision.burden,
            seat.outliers.get(self.model),
            departed,
            # What hung elsewhere may but take long: as long is nothing to wonder at here.
            max(decision.e2e_ms / 1e3, waited_s),
            departed,
        )

    @property
    def ended(self) -> bool:
        """Whether its place was given back."""
        return self.lease.outcome is not None

    def time_left_s(self, now: float) -> float:
        """Of the request's time; below 0 when it is over."""
        return self._timeout_s - (now - self._started)

    def send_prompt(self, request: Request, expected: Expected) -> None:
        """Note what the server ought to have of the prompt of ``request``, where it keeps any; once
        it answers, it has all of it."""
        decision, seat = self.decision, self.lease.seat
        known = self.view.board.prefixes_of(request, decision.endpoint.name, decision.served)
        if known is None or request.prefix is None:
            return
        index, row = known
        tokens = index.sent(row, request.prefix, expected.input_tokens)
        ours = seat.in_flight / max(seat.batch, 1.0)
        self.sent = self._unread = SentPrompt(index, row, tokens, request.prefix, ours)

    def unary(self) -> Awaitable[UnaryReply]:
        """The answer of a request that has one. Raises UpstreamError leaves."""
        call = self._call
        return self.upstream.backend.unary(
            self.decision.endpoint, call.payload, call.metadata, self.left_s
        )

    def stream(self) -> UpstreamStream:
        """The answers of a request that has any number of them."""
        call = self._call
        self._answers = answers = self.upstream.backend.stream(
            self.decision.endpoint, call.payload, call.metadata, self.left_s
        )
        return answers

    def heard(self, message: bytes, streamed: bool) -> None:
        """A message of the answer came: the server lives.

        Raises UpstreamError leaves where the message itself tells of a failure.
        """
        self.lease.seat.signs += 1
        failure = self.upstream.reports.failure(message, streamed)
        if failure is not None:
            raise failure
        if self._unread is not None:
            self._unread.read()
            self._unread = None
        self._meter.add(message, streamed)
        if self._suspicion is not None:
            self._suspicion.answered(self._parts.clock.monotonic(), self.model)
        if streamed:
            self.messages += 1
            pieces = self.upstream.reports.pieces(message)
            if pieces:
                if not self.pieces:
                    self.first_at = self._parts.clock.monotonic()
                    self.lease.prompt_read()
                self.pieces += pieces

    def abandon(self) -> None:
        """The caller went away, which says nothing about the endpoint: stop there."""
        self.lease.close(Outcome.IGNORED)
        if self._answers is not None:
            self._answers.cancel()

    def cut_short(self, ended: float, expected: Expected, may_have_run: bool) -> Account:
        """What it took until it was given up, or failed, at this monotonic time: nothing, unless
        it ``may_have_run`` there."""
        lease, decision = self.lease, self.decision
        task = isinstance(decision.served.profile, TaskProfile)
        fleet = self.view.snapshot.layout.fleet
        service_s = ended - lease.departed - seen_rtt_ms(decision, fleet) / MS_PER_S
        return account_cut_short(
            decision,
            expected,
            lease.crowd_at_start,
            max(0.0, service_s) if may_have_run else 0.0,
            self.pieces,
            self._call.request.max_output_tokens,
            1.0 if task else lease.seat.tpot_ratio.factor(0.0),
        )

    def succeed(self, ended: float) -> Run:
        """It was answered, at this monotonic time."""
        lease, decision = self.lease, self.decision
        seat = lease.seat
        batch_at_start, batch_at_end = lease.crowd_at_start.batch, seat.batch
        crowd = lease.crowd()
        seat.signs += 1
        seat.health.succeed(lease.departed)
        if lease.outlier is not None:
            lease.outlier.succeed(self._call.request.tenant, lease.departed)
        lease.close(Outcome.SUCCEEDED)
        self.view.board.answer(self._call.request.model)
        if self._suspicion is not None:
            self._suspicion.answered(ended, self.model)
        attempt_ms = (ended - lease.departed) * 1e3
        task = isinstance(decision.served.profile, TaskProfile)
        return Run(
            self.pieces,
            crowd,
            attempt_ms if task else (self.first_at - lease.departed) * 1e3,
            attempt_ms,
            seen_rtt_ms(decision, self.view.snapshot.layout.fleet),
            1.0 if task else seat.tpot_ratio.factor(0.0),
            self._meter.size(self.pieces),
            # Not 1 / the mean: of two loads the lighter one costs a request more.
            (1.0 / max(batch_at_start, 1.0) + 1.0 / max(batch_at_end, 1.0)) / 2.0,
        )

    def fail(self, error: UpstreamError, now: float) -> Failed:
        """It ended in ``error``: stop there; the endpoint's health learns what that says of it."""
        if self._answers is not None:
            self._answers.cancel()
        lease = self.lease
        seat = lease.seat
        free = doubtful = ejected = False
        outcome = Outcome.DROPPED
        try:
            if self.sent is not None and isinstance(
                error, UpstreamUnreachedError | UpstreamLostError
            ):
                # Whoever begins anew has kept nothing.
                self.sent.prefixes.forget(self.sent.row)
            if isinstance(error, UpstreamUnreachedError):
                free = True
                ejected = error.refused and seat.health.refuse(now)
            elif isinstance(error, UpstreamLostError):
                # All that was under way there breaks at once: one event, charged once.
                free = not seat.health.new_event(lease.departed, now)
                doubtful = not free
                seat.health.lose(now)
            else:
                free, doubtful = self._judge(error, now)
                if isinstance(error, UpstreamRejectedError | UpstreamTimeoutError) and not doubtful:
                    outcome = Outcome.IGNORED
        finally:
            lease.close(outcome)
        if ejected:
            self._parts.observer.ejected(seat.name)
        return Failed(free, doubtful)

    def _judge(self, error: UpstreamError, now: float) -> Failed:
        """As `fail`, of a server that answered, or did not in time."""
        board, seat, request = self.view.board, self.lease.seat, self._call.request
        if isinstance(error, UpstreamTimeoutError) and self.time_left_s(now) < OWN_DEADLINE_S:
            # No sign of life. One that waits less than the prediction says nothing of the endpoint.
            return Failed(False, self.left_s * 1e3 >= self.decision.e2e_ms)
        seat.signs += 1
        if isinstance(error, UpstreamBusyError):
            board.rest(seat, now, error.retry_after_s)
            return Failed(False, False)
        if isinstance(error, UpstreamFaultError):
            fresh = seat.health.new_event(self.lease.departed, now)
            return Failed(not fresh and not board.troubled(request.model, now), True)
        if isinstance(error, UpstreamTooLargeError):
            return Failed(False, False)
        if isinstance(error, UpstreamRejectedError):
            outlier = self.lease.outlier
            if outlier is None:
                return Failed(False, False)
            doubtful = outlier.rejects(request.tenant, now, fingerprint(self._call))
            return Failed(False, doubtful)
        return Failed(False, True)


def seen_rtt_ms(decision: Decision, fleet: Fleet) -> float:
    """Round trip between this gateway and the endpoint, as the RTT table has it."""
    if not fleet.gateway_origin:
        return decision.rtt_ms
    return fleet.rtt_ms[fleet.gateway_origin][decision.endpoint.region]
