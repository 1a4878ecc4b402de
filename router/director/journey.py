"""One request's attempts: the decision in force, its lease, the time left, and how it ended."""

from __future__ import annotations

from router.contract import BackendReport, Metadata
from router.core.accounting import Run, account, build_receipt, with_marginal
from router.core.lease import Lease
from router.director.dispatcher import Dispatcher, Lesson
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
        "_started",
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
        self.decision = dispatcher.admit(self._view, request, self._expected)
        self._decision_id = dispatcher.next_id()
        self._decided_s = clock.monotonic() - self._started

    def depart(self) -> float:
        """Take a place on the decided endpoint; seconds left for upstream work."""
        seat = self._view.board.seats[self.decision.endpoint.name]
        self._factors = seat.factors
        self._lease = Lease(seat, self.decision.batch_cap)
        self._departed = self._dispatcher.parts.clock.monotonic()
        return self._left_s()

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
            self.decision = dispatcher.admit(
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
        batch = (lease.batch_at_start + seat.batch) / 2.0
        seat.health.succeed(ended)
        lease.close(Outcome.SUCCEEDED)
        parts.throttle.succeed()
        report = parts.reports.read(trailers)
        attempt_ms = (ended - self._departed) * 1e3
        task = isinstance(decision.served.profile, TaskProfile)
        ttft_ms = attempt_ms if task else (first_at - self._departed) * 1e3
        run = Run(messages, batch, ttft_ms, attempt_ms)
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

    def _left_s(self) -> float:
        return self._timeout_s - (self._departed - self._started)

    def _receipt(self, run: Run, report: BackendReport, ended: float) -> Receipt:
        dispatcher, snapshot = self._dispatcher, self._view.snapshot
        now = dispatcher.parts.clock.now()
        region = self.decision.endpoint.region
        waited_ms = (self._departed - self._started) * 1e3
        run_s = run.e2e_ms / 1e3
        receipt = build_receipt(
            self._decision_id,
            self._request,
            self.decision,
            snapshot.policy.name,
            snapshot.layout.fleet.regions[region],
            len(self._tried) + 1,
            account(self.decision, run, report, self._expected.output_tokens),
            run.ttft_ms + waited_ms,
            (ended - self._started) * 1e3,
            dispatcher.network_j(self._request.payload_bytes),
            snapshot.mean_g_per_kwh(region, now - run_s, run_s),
            now,
        )
        beside = self._view.marginal
        return with_marginal(receipt, beside.get(receipt.grid_zone)) if beside else receipt
