"""One request's attempts: the decision in force, its lease, the time left, and how it ended."""

from __future__ import annotations

from enum import Enum
from functools import partial

from router.contract import BackendReport, Metadata
from router.core.accounting import Run, account, build_receipt, predict, with_marginal
from router.core.lease import Lease
from router.core.pipeline import Decided
from router.core.seat import ModelKey
from router.director.answer_meter import AnswerMeter
from router.director.call import Call
from router.director.choice import first_choice, next_choice, with_budget_left
from router.director.dispatcher import Dispatcher, Lesson, seen_rtt_ms
from router.director.suspicion import Suspicion
from router.errors import (
    RefusedError,
    RequestError,
    ShedError,
    UpstreamBlamingError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamFaultError,
    UpstreamLostError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamTooLargeError,
    UpstreamUnreachedError,
)
from router.model import Outcome, Receipt, TaskProfile

# Of endpoints that could not be reached, so many are tried at most: each costs a moment.
_MOST_TRIED = 10
# A server that says timed out earlier than this before the deadline speaks of its own.
_OWN_DEADLINE_S = 0.05
# Trials of others in a row that prove nothing: then the fault is taken for the request's own.
_MOST_UNPROVEN = 3


class _MoveCost(Enum):
    """What it costs to ask another endpoint: nothing, a retry, or more than there is."""

    FREE = 0
    RETRY = 1
    TOO_MUCH = 2


class Journey:
    """From admission to receipt. `admit` comes first. `depart` begins an attempt; `fail`, `lose`,
    `abandon` or `arrive` ends it, and every attempt is ended exactly once."""

    __slots__ = (
        "_deadline_s",
        "_decided_s",
        "_decision_id",
        "_departed",
        "_departures",
        "_dispatcher",
        "_expected",
        "_factors",
        "_lease",
        "_meter",
        "_need",
        "_request",
        "_started",
        "_suspicion",
        "_timeout_s",
        "_tried",
        "_view",
        "_witnesses",
        "decision",
        "upstream",
    )  # fmt: skip

    def __init__(self, dispatcher: Dispatcher, call: Call) -> None:
        """Raises DrainingError and UnknownModelError."""
        parts = dispatcher.parts
        dispatcher.require_open()
        self._dispatcher = dispatcher
        self._request = call.request
        self._started = parts.clock.monotonic()
        self._timeout_s = dispatcher.timeout_s(call.deadline_s)
        self._departures = 0
        # Endpoints tried; of them, how many saw the request.
        self._tried: tuple[str, ...] = ()
        self._witnesses = 0
        self._suspicion: Suspicion | None = None
        # A reload may replace the view while the request runs; its own decision keeps its own.
        self._view = dispatcher.view
        self._expected = dispatcher.expect(call.request)
        self._deadline_s = call.deadline_s

    async def admit(self) -> None:
        """Take the first decision; waits for a place, a moment at most.

        Raises RequestError and RefusedError leaves.
        """
        dispatcher, request = self._dispatcher, self._request
        try:
            decided = first_choice(dispatcher, self._view, request, self._expected)
        except ShedError:
            decided = await dispatcher.waiting.for_room(self._decide_late, self._wait_s())
        self.decision, self._need = decided
        parts = dispatcher.parts
        parts.budget.earn()
        if dispatcher.trials:
            dispatcher.trials.earn(request.model, request.tenant)
        if self._deadline_s is None:
            most = self._expected.output_tokens_quantile
            self._timeout_s = dispatcher.patience_s(self._view, request, self.decision, most)
        self._decision_id = dispatcher.next_id()
        self._decided_s = parts.clock.monotonic() - self._started

    def depart(self) -> float:
        """Take a place on the decided endpoint; seconds left for upstream work."""
        decision = self.decision
        seat = self._view.board.seats[decision.endpoint.name]
        self._departures += 1
        if self._need is not None:
            self._need.teach(self._view.board)
            self._need = None
        if self._request.sequence_id:
            self._dispatcher.sequences.place(self._request, decision.endpoint.name)
        self._factors = seat.factors
        self._departed = self._dispatcher.parts.clock.monotonic()
        self._lease = Lease(
            seat,
            decision.batch_cap,
            seat.outliers.get(self._model),
            self._departed,
            # What hung elsewhere may but take long: as long is nothing to wonder at here.
            max(decision.e2e_ms / 1e3, self._departed - self._started),
        )
        self.upstream = self._dispatcher.parts.upstreams[decision.endpoint.protocol]
        self._meter = AnswerMeter(self.upstream.reports, decision.served.profile)
        return self._left_s()

    def heard(self, message: bytes, streamed: bool) -> None:
        """A message of the answer came: the server lives.

        Raises UpstreamError leaves where the message itself tells of a failure.
        """
        self._lease.seat.signs += 1
        failure = self.upstream.reports.failure(message, streamed)
        if failure is not None:
            raise failure
        self._meter.add(message, streamed)
        if self._suspicion is not None:
            self._suspicion.answered(self._dispatcher.parts.clock.monotonic())

    async def fail(self, error: UpstreamError) -> UpstreamError | None:
        """End the attempt before any answer: None when another endpoint is to be tried now, else
        the error to tell the caller.
        """
        parts = self._dispatcher.parts
        now = parts.clock.monotonic()
        if self._suspicion is not None:
            self._suspicion.close()
        free, doubtful = self._end(error, now)
        self._tried = (*self._tried, self.decision.endpoint.name)
        self._witnesses += not isinstance(error, UpstreamUnreachedError)
        if self._may_move(error, doubtful, now):
            cost = _MoveCost.FREE if free else await self._cost(error, doubtful)
            if await self._move_for(cost, error):
                parts.observer.retried(error.reason)
                return None
        now = parts.clock.monotonic()
        bound = self._dispatcher.limits.max_attempts == 1 or self._has_begun
        return self._timed(self._suspect().given_up(error, now, bound), now)

    def _timed(self, error: UpstreamError, now: float) -> UpstreamError:
        """``error``; of a caller who gave no deadline, whose time it was that ran out."""
        theirs = self._deadline_s is not None or self._time_left_s(now) > _OWN_DEADLINE_S
        if theirs or not isinstance(error, UpstreamTimeoutError):
            return error
        return UpstreamTimeoutError(
            f"{self.decision.endpoint.name}: no answer within {self._timeout_s * 1e3:.0f} ms, all "
            "that a call without a deadline is given here",
        )

    def lose(self, error: UpstreamError) -> None:
        """End the attempt after an answer had begun: nobody else can be asked any more."""
        now = self._dispatcher.parts.clock.monotonic()
        self._end(error, now)
        self._suspect().cut_short(error, now)

    def abandon(self) -> None:
        """End the attempt because the caller went away: says nothing about the endpoint."""
        self._lease.close(Outcome.IGNORED)
        if self._suspicion is not None:
            self._suspicion.close()

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
        seat.signs += 1
        seat.health.succeed(lease.departed)
        if lease.outlier is not None:
            lease.outlier.succeed(self._request.tenant, lease.departed)
        lease.close(Outcome.SUCCEEDED)
        self._view.board.answer(self._request.model)
        if self._suspicion is not None:
            self._suspicion.answered(ended)
        if self._request.sequence_id:
            dispatcher.sequences.answered(self._request, seat.name)
        report = self.upstream.reports.read(trailers)
        attempt_ms = (ended - self._departed) * 1e3
        task = isinstance(decision.served.profile, TaskProfile)
        ttft_ms = attempt_ms if task else (first_at - self._departed) * 1e3
        rtt_ms = seen_rtt_ms(decision, self._view.snapshot.layout.fleet)
        pace = 1.0 if task else seat.tpot_ratio.factor(0.0)
        # Not 1 / the mean: of two loads the lighter one costs a request more.
        share = (1.0 / max(lease.batch_at_start, 1.0) + 1.0 / max(batch_at_end, 1.0)) / 2.0
        answer = self._meter.size(messages)
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

    @property
    def _model(self) -> ModelKey:
        served = self.decision.served
        return served.name, served.version

    @property
    def _has_begun(self) -> bool:
        """Whether an endpoint holds state that the request needs."""
        return bool(self._request.sequence_id) and self._dispatcher.sequences.begun(self._request)

    def _end(self, error: UpstreamError, now: float) -> tuple[bool, bool]:
        """End the attempt; the endpoint's health learns what the error says about it.

        Returns whether to move on costs nothing, and whether it is in doubt whose fault it was.
        """
        parts, lease = self._dispatcher.parts, self._lease
        error.endpoint = self.decision.endpoint.name
        error.region = self.decision.endpoint.region
        error.attempts = self._departures
        error.decision_id = self._decision_id
        seat = lease.seat
        free = doubtful = ejected = False
        outcome = Outcome.DROPPED
        try:
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
        if doubtful:
            self._suspect().note(seat, self._model, lease.departed, error)
        if ejected:
            parts.observer.ejected(seat.name)
        return free, doubtful

    def _judge(self, error: UpstreamError, now: float) -> tuple[bool, bool]:
        """As `_end`, of a server that answered, or did not in time."""
        board, seat, request = self._view.board, self._lease.seat, self._request
        if isinstance(error, UpstreamTimeoutError) and self._time_left_s(now) < _OWN_DEADLINE_S:
            # No sign of life. One that waits less than the prediction says nothing of the endpoint.
            return False, self._left_s() * 1e3 >= self.decision.e2e_ms
        seat.signs += 1
        if isinstance(error, UpstreamBusyError):
            board.rest(seat, now, error.retry_after_s)
            return False, False
        if isinstance(error, UpstreamFaultError):
            fresh = seat.health.new_event(self._lease.departed, now)
            return not fresh and not board.troubled(request.model, now), True
        if isinstance(error, UpstreamTooLargeError):
            return False, False
        if isinstance(error, UpstreamRejectedError):
            outlier = self._lease.outlier
            return False, outlier is not None and outlier.is_doubted(request.tenant, now)
        return False, True

    def _may_move(self, error: UpstreamError, doubtful: bool, now: float) -> bool:
        """Whether another endpoint may be asked, cost aside."""
        if self._time_left_s(now) <= 0.0:
            return False
        if (
            self._witnesses >= self._dispatcher.limits.max_attempts
            or len(self._tried) >= _MOST_TRIED
        ):
            return False
        if self._has_begun:
            return False
        return doubtful or not isinstance(error, UpstreamRejectedError)

    async def _cost(self, error: UpstreamError, doubtful: bool) -> _MoveCost:
        """What it costs to move. Nothing, once the endpoint was shown at fault after the request
        had left: where it cannot pay, it waits for what the trials of others show.
        """
        dispatcher, lease, suspicion = self._dispatcher, self._lease, self._suspect()
        board, outlier, accused = self._view.board, lease.outlier, (lease.seat.name, self._model)
        unproven = 0
        while unproven < _MOST_UNPROVEN:
            now = dispatcher.parts.clock.monotonic()
            shown = doubtful and outlier is not None and outlier.is_stale(lease.departed)
            if shown and not board.troubled(self._request.model, now):
                return _MoveCost.FREE
            if dispatcher.parts.budget.balance >= 1.0 and suspicion.may_try(error):
                return _MoveCost.RETRY
            if not (doubtful and isinstance(error, UpstreamBlamingError)):
                return _MoveCost.TOO_MUCH
            proven = await dispatcher.verdicts.next(accused, max(self._time_left_s(now), 0.0))
            if proven is None:
                return _MoveCost.TOO_MUCH
            unproven = 0 if proven else unproven + 1
        return _MoveCost.TOO_MUCH

    async def _move_for(self, cost: _MoveCost, error: UpstreamError) -> bool:
        """Move, if that can be paid; what was not needed after all is given back."""
        budget = self._dispatcher.parts.budget
        if cost is _MoveCost.TOO_MUCH or (cost is _MoveCost.RETRY and not budget.spend()):
            return False
        moved = False
        try:
            moved = await self._move(error, self._dispatcher.parts.clock.monotonic())
        finally:
            if cost is _MoveCost.RETRY and not moved:
                budget.give_back()
        if moved and cost is _MoveCost.RETRY:
            self._suspect().tries(error)
        return moved

    async def _move(self, error: UpstreamError, now: float) -> bool:
        """Decide anew, without what was tried; False when there is nowhere else."""
        dispatcher, request = self._dispatcher, self._request
        self._view = dispatcher.view
        if request.sequence_id:
            dispatcher.sequences.forget(request)
        chosen = partial(
            next_choice,
            dispatcher,
            request,
            self._expected,
            self._tried,
            error,
            self._spent_ms(now),
        )
        try:
            decided = await dispatcher.waiting.for_room(chosen, self._wait_s())
        except (RefusedError, RequestError):
            # A reload may have taken the model or the origin away.
            return False
        # What room is worth was told by its first choice: this one is no free one.
        self.decision = decided.decision
        return True

    def _decide_late(self) -> Decided:
        """The first decision after a wait: on the view of now, within what is left."""
        self._view = self._dispatcher.view
        spent_ms = self._spent_ms(self._dispatcher.parts.clock.monotonic())
        request = with_budget_left(self._request, spent_ms)
        return first_choice(self._dispatcher, self._view, request, self._expected)

    def _wait_s(self) -> float:
        """How long it may wait for a place."""
        return min(self._dispatcher.limits.max_wait_s, self._timeout_s)

    def _spent_ms(self, now: float) -> float:
        return (now - self._started) * 1e3

    def _suspect(self) -> Suspicion:
        if self._suspicion is None:
            dispatcher = self._dispatcher
            self._suspicion = Suspicion(
                self._request,
                self._view.board,
                dispatcher.trials,
                dispatcher.parts.observer,
                dispatcher.verdicts,
            )
        return self._suspicion

    def _time_left_s(self, now: float) -> float:
        return self._timeout_s - (now - self._started)

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
            self._departures,
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
