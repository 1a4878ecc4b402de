"""One request's attempts: the decision in force, its lease, the time left, and how it ended."""

from __future__ import annotations

import math

from router.contract import AnswerSize, BackendReport, Metadata
from router.core.accounting import Run, account, build_receipt, predict, with_marginal
from router.core.lease import Lease
from router.director.dispatcher import Dispatcher, Lesson, seen_rtt_ms
from router.errors import (
    RefusedError,
    RequestError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamFaultError,
    UpstreamInternalError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
)
from router.model import Outcome, Receipt, Request, TaskProfile

# Messages of a stream that are looked into: enough to tell their mean size.
_SIZED_MESSAGES = 8


class Journey:
    """From admission to receipt. `depart` begins an attempt; `fail`, `lose`, `abandon` or `arrive`
    ends it, and every attempt is ended exactly once."""

    __slots__ = (
        "_decided_s",
        "_decision_id",
        "_departed",
        "_dispatcher",
        "_expected",
        "_factors",
        "_lease",
        "_request",
        "_sized",
        "_sized_bytes",
        "_started",
        "_stated_tokens",
        "_timeout_s",
        "_tried",
        "_view",
        "decision",
    )  # fmt: skip

    def __init__(self, dispatcher: Dispatcher, request: Request, deadline_s: float | None) -> None:
        """Take the first decision. Raises RequestError and RefusedError leaves."""
        clock = dispatcher.parts.clock
        dispatcher.require_open()
        self._dispatcher = dispatcher
        self._request = request
        self._started = clock.monotonic()
        self._timeout_s = dispatcher.timeout_s(deadline_s)
        self._tried: tuple[str, ...] = ()
        # A reload may replace the view while the request runs; its own decision keeps its own.
        self._view = dispatcher.view
        self._expected = dispatcher.expect(request)
        self.decision = dispatcher.pick(self._view, request, self._expected)
        self._decision_id = dispatcher.next_id()
        self._decided_s = clock.monotonic() - self._started

    def depart(self) -> float:
        """Take a place on the decided endpoint; seconds left for upstream work."""
        seat = self._view.board.seats[self.decision.endpoint.name]
        self._factors = seat.factors
        self._lease = Lease(seat, self.decision.batch_cap)
        self._departed = self._dispatcher.parts.clock.monotonic()
        self._sized, self._sized_bytes, self._stated_tokens = 0, 0.0, math.nan
        return self._left_s()

    def size(self, message: bytes, streamed: bool) -> None:
        """Note how long an answer is, of as many of them as tell; of a task none does."""
        if self._sized >= _SIZED_MESSAGES:
            return
        if isinstance(self.decision.served.profile, TaskProfile):
            self._sized = _SIZED_MESSAGES
            return
        size = self._dispatcher.parts.reports.size(message, streamed)
        self._sized += 1
        self._sized_bytes += size.output_bytes
        self._stated_tokens = size.output_tokens

    def fail(self, error: UpstreamError) -> bool:
        """End the attempt before any answer; True when another endpoint is to be tried now."""
        self.lose(error)
        if not isinstance(error, UpstreamFaultError | UpstreamBusyError):
            return False
        dispatcher = self._dispatcher
        dispatcher.parts.throttle.fail()
        tried = (*self._tried, self.decision.endpoint.name)
        spent_s = dispatcher.parts.clock.monotonic() - self._started
        may_retry = (
            len(tried) < dispatcher.limits.max_attempts
            and dispatcher.parts.throttle.allows
            and spent_s < self._timeout_s
        )
        if not may_retry:
            return False
        # The next endpoint must meet what is left of the caller's budgets.
        budget = self._request.budget
        left = budget._replace(
            ttft_ms=budget.ttft_ms - spent_s * 1e3, e2e_ms=budget.e2e_ms - spent_s * 1e3
        )
        self._view = dispatcher.view
        try:
            self.decision = dispatcher.pick(
                self._view, self._request._replace(budget=left), self._expected, tried
            )
        except (RefusedError, RequestError):
            # A reload may have taken the model or the origin away: the failure that was is told.
            return False
        self._tried = tried
        dispatcher.parts.observer.retried(error.reason)
        return True

    def lose(self, error: UpstreamError) -> None:
        """End the attempt; the endpoint's health learns what the error says about it."""
        board, parts = self._view.board, self._dispatcher.parts
        error.endpoint = self.decision.endpoint.name
        error.region = self.decision.endpoint.region
        error.attempts = len(self._tried) + 1
        error.decision_id = self._decision_id
        now = parts.clock.monotonic()
        seat = self._lease.seat
        outcome, ejected = Outcome.DROPPED, False
        if isinstance(error, UpstreamRejectedError):
            outcome = Outcome.IGNORED
        elif isinstance(error, UpstreamBusyError):
            seat.health.mark_busy(now, error.retry_after_s)
        elif isinstance(error, UpstreamTimeoutError):
            # A caller that waits less than the prediction says nothing about the endpoint.
            if self._left_s() * 1e3 < self.decision.e2e_ms:
                outcome = Outcome.IGNORED
            else:
                ejected = seat.health.fail(now, board.may_eject())
        else:
            answered = isinstance(error, UpstreamInternalError)
            ejected = seat.health.fail(now, board.may_eject(), answered)
        self._lease.close(outcome)
        if ejected:
            parts.observer.ejected(seat.name)

    def abandon(self) -> None:
        """End the attempt because the caller went away: says nothing about the endpoint."""
        self._lease.close(Outcome.IGNORED)

    def arrive(self, trailers: Metadata, messages: int, first_at: float) -> Receipt:
        """End the attempt well and write the receipt; what it teaches is digested later.

        ``messages``: streamed answers, 0 for a unary call. ``first_at``: monotonic time of the
        first of them, else NaN.
        """
        dispatcher, lease, decision = self._dispatcher, self._lease, self.decision
        parts = dispatcher.parts
        ended = parts.clock.monotonic()
        seat = lease.seat
        batch_at_end = seat.batch
        batch = (lease.batch_at_start + batch_at_end) / 2.0
        seat.health.succeed(ended)
        lease.close(Outcome.SUCCEEDED)
        parts.throttle.succeed()
        report = parts.reports.read(trailers)
        attempt_ms = (ended - self._departed) * 1e3
        task = isinstance(decision.served.profile, TaskProfile)
        ttft_ms = attempt_ms if task else (first_at - self._departed) * 1e3
        rtt_ms = seen_rtt_ms(decision, self._view.snapshot.layout.fleet)
        pace = 1.0 if task else seat.tpot_ratio.factor(0.0)
        # Not 1 / the mean: of two loads the lighter one costs a request more.
        share = (1.0 / max(lease.batch_at_start, 1.0) + 1.0 / max(batch_at_end, 1.0)) / 2.0
        answer = self._answer(messages)
        run = Run(messages, batch, ttft_ms, attempt_ms, rtt_ms, pace, answer, share)
        receipt = self._receipt(run, report, ended)
        dispatcher.note(
            Lesson(
                receipt,
                seat,
                self._factors,
                lease.batch_at_start,
                run,
                self._view.snapshot.layout.fleet,
                self._decided_s,
                self._departed - self._started,
            )
        )
        return receipt

    def _answer(self, messages: int) -> AnswerSize:
        """The size of the whole answer, from the messages that were looked into."""
        if not self._sized:
            return AnswerSize(math.nan, math.nan)
        whole = self._sized_bytes * max(messages, 1) / self._sized
        # What the first messages of a stream state is not of the whole.
        return AnswerSize(whole, self._stated_tokens if messages <= 1 else math.nan)

    def _left_s(self) -> float:
        return self._timeout_s - (self._departed - self._started)

    def _receipt(self, run: Run, report: BackendReport, ended: float) -> Receipt:
        dispatcher, snapshot = self._dispatcher, self._view.snapshot
        now = dispatcher.parts.clock.now()
        decision = self.decision
        region = decision.endpoint.region
        waited_ms = (self._departed - self._started) * 1e3
        run_s = run.e2e_ms / 1e3
        regions = snapshot.layout.fleet.regions
        network_j = dispatcher.network_j(self._request.payload_bytes)
        receipt = build_receipt(
            self._decision_id,
            self._request,
            decision,
            snapshot.policy.name,
            regions[region],
            len(self._tried) + 1,
            account(
                self._request,
                decision,
                run,
                report,
                self._expected,
                dispatcher.token_bytes.of(self._request.model),
            ),
            predict(decision, self._expected, self._lease.batch_at_start, network_j, regions),
            run.ttft_ms + waited_ms,
            (ended - self._started) * 1e3,
            network_j,
            snapshot.mean_g_per_kwh(region, now - run_s, run_s),
            now,
        )
        beside = self._view.marginal
        return with_marginal(receipt, beside.get(receipt.grid_zone)) if beside else receipt
