"""One request's attempts: the decision in force, the time left, where it goes next, its receipt."""

from __future__ import annotations

from functools import partial
from types import TracebackType

from router.contract import BackendReport, Metadata
from router.core.accounting import Run, account, build_receipt, predict, with_marginal
from router.core.pipeline import Decided
from router.director.attempt import OWN_DEADLINE_S, Attempt, Failed
from router.director.call import Call
from router.director.choice import first_choice, next_choice, with_budget_left
from router.director.dispatcher import Dispatcher, Lesson
from router.director.moving import MoveCost, cost_to_move
from router.director.suspicion import Suspicion
from router.errors import (
    RefusedError,
    RequestError,
    ShedError,
    UpstreamError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamUnreachedError,
)
from router.model import Receipt

# Of endpoints that could not be reached, so many are tried at most: each costs a moment.
_MOST_TRIED = 10


class Journey:
    """From admission to receipt. `admit` comes first; then ``async with`` it for each attempt,
    which takes a place on the decided endpoint. An UpstreamError within ends the attempt: it is
    passed over where another endpoint is to be tried now, and else becomes what to tell the caller.
    Whatever else is raised there abandons it. One that went well is ended by `arrive`.
    """

    __slots__ = ("_attempt", "_call", "_decided_s", "_decision", "_decision_id",
                 "_departures", "_dispatcher", "_expected", "_need", "_request", "_started",
                 "_suspicion", "_timeout_s", "_tried", "_view", "_witnesses")  # fmt: skip

    def __init__(self, dispatcher: Dispatcher, call: Call) -> None:
        """Raises DrainingError and UnknownModelError."""
        parts = dispatcher.parts
        dispatcher.require_open()
        self._dispatcher = dispatcher
        self._call = call
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

    async def admit(self) -> None:
        """Take the first decision; waits for a place, a moment at most.

        Raises RequestError and RefusedError leaves.
        """
        dispatcher, request = self._dispatcher, self._request
        try:
            decided = first_choice(dispatcher, self._view, request, self._expected)
        except ShedError:
            decided = await dispatcher.waiting.for_room(self._decide_late, self._wait_s())
        self._decision, self._need = decided
        parts = dispatcher.parts
        parts.budget.earn()
        if dispatcher.trials:
            dispatcher.trials.earn(request.model, request.tenant)
        if self._call.deadline_s is None:
            most = self._expected.output_tokens_quantile
            self._timeout_s = dispatcher.patience_s(self._view, request, self._decision, most)
        self._decision_id = dispatcher.next_id()
        self._decided_s = parts.clock.monotonic() - self._started

    async def __aenter__(self) -> Attempt:
        dispatcher, request, view = self._dispatcher, self._request, self._view
        self._departures += 1
        if self._need is not None:
            self._need.teach(view.board)
            self._need = None
        if request.sequence_id:
            dispatcher.sequences.place(request, self._decision.endpoint.name)
        self._attempt = attempt = Attempt(
            dispatcher.parts,
            view,
            self._call,
            self._decision,
            self._suspicion,
            self._started,
            self._timeout_s,
        )
        return attempt

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        if isinstance(error, UpstreamError):
            await self._fail(error)
            return True
        # The caller went away.
        self._attempt.abandon()
        if self._suspicion is not None:
            self._suspicion.close()
        return False

    async def _fail(self, error: UpstreamError) -> None:
        """End the attempt in ``error``. Returns where another endpoint is to be tried now; raises
        what to tell the caller where none is.
        """
        attempt, parts = self._attempt, self._dispatcher.parts
        now = parts.clock.monotonic()
        if attempt.messages:
            # Another endpoint's answers after these would be a second answer.
            self._end(error, now)
            self._suspect().cut_short(error, now)
            raise error
        if self._suspicion is not None:
            self._suspicion.close()
        failed = self._end(error, now)
        self._tried = (*self._tried, self._decision.endpoint.name)
        self._witnesses += not isinstance(error, UpstreamUnreachedError)
        if self._may_move(error, failed.doubtful, now):
            cost = MoveCost.FREE
            if not failed.free:
                cost = await cost_to_move(
                    self._dispatcher, attempt, self._suspect(), error, failed.doubtful
                )
            if await self._move_for(cost, error):
                parts.observer.retried(error.reason)
                return
        now = parts.clock.monotonic()
        bound = self._dispatcher.limits.max_attempts == 1 or self._has_begun
        raise self._timed(self._suspect().given_up(error, now, bound), now) from None

    def _timed(self, error: UpstreamError, now: float) -> UpstreamError:
        """``error``; of a caller who gave no deadline, whose time it was that ran out."""
        attempt = self._attempt
        theirs = self._call.deadline_s is not None or attempt.time_left_s(now) > OWN_DEADLINE_S
        if theirs or not isinstance(error, UpstreamTimeoutError):
            return error
        text = (
            f"{attempt.decision.endpoint.name}: no answer within {self._timeout_s * 1e3:.0f} ms, "
            "all that a call without a deadline is given here"
        )
        return self._placed(UpstreamTimeoutError(text))

    def arrive(self, trailers: Metadata) -> Receipt:
        """End the attempt well and write the receipt; what it teaches is digested later."""
        dispatcher, attempt = self._dispatcher, self._attempt
        ended = dispatcher.parts.clock.monotonic()
        run = attempt.succeed(ended)
        seat = attempt.lease.seat
        if self._request.sequence_id:
            dispatcher.sequences.answered(self._request, seat.name)
        receipt = self._receipt(run, attempt.upstream.reports.read(trailers), ended)
        dispatcher.note(
            Lesson(
                receipt,
                seat,
                attempt.lease.crowd_at_start.batch,
                run,
                self._view.snapshot.layout.fleet,
                self._decided_s,
                attempt.waited_s,
            )
        )
        return receipt

    @property
    def _has_begun(self) -> bool:
        """Whether an endpoint holds state that the request needs."""
        return bool(self._request.sequence_id) and self._dispatcher.sequences.begun(self._request)

    def _placed(self, error: UpstreamError) -> UpstreamError:
        """``error``, with where it happened."""
        error.endpoint = self._decision.endpoint.name
        error.region = self._decision.endpoint.region
        error.attempts = self._departures
        error.decision_id = self._decision_id
        return error

    def _end(self, error: UpstreamError, now: float) -> Failed:
        attempt = self._attempt
        failed = attempt.fail(self._placed(error), now)
        if failed.doubtful:
            lease = attempt.lease
            self._suspect().note(lease.seat, attempt.model, lease.departed, error)
        return failed

    def _may_move(self, error: UpstreamError, doubtful: bool, now: float) -> bool:
        """Whether another endpoint may be asked, cost aside."""
        if self._attempt.time_left_s(now) <= 0.0:
            return False
        if (
            self._witnesses >= self._dispatcher.limits.max_attempts
            or len(self._tried) >= _MOST_TRIED
        ):
            return False
        if self._has_begun:
            return False
        return doubtful or not isinstance(error, UpstreamRejectedError)

    async def _move_for(self, cost: MoveCost, error: UpstreamError) -> bool:
        """Move, if that can be paid; what was not needed after all is given back."""
        budget = self._dispatcher.parts.budget
        if cost is MoveCost.TOO_MUCH or (cost is MoveCost.RETRY and not budget.spend()):
            return False
        moved = False
        try:
            moved = await self._move(error, self._dispatcher.parts.clock.monotonic())
        finally:
            if cost is MoveCost.RETRY and not moved:
                budget.give_back()
        if moved and cost is MoveCost.RETRY:
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
        self._decision = decided.decision
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

    def _receipt(self, run: Run, report: BackendReport, ended: float) -> Receipt:
        dispatcher, snapshot = self._dispatcher, self._view.snapshot
        now = dispatcher.parts.clock.now()
        decision = self._decision
        region = decision.endpoint.region
        attempt = self._attempt
        waited_ms = attempt.waited_s * 1e3
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
            predict(decision, self._expected, attempt.lease.crowd_at_start, network_j, regions),
            run.ttft_ms + waited_ms,
            (ended - self._started) * 1e3,
            network_j,
            snapshot.mean_g_per_kwh(region, now - run_s, run_s),
            now,
        )
        beside = self._view.marginal
        return with_marginal(receipt, beside.get(receipt.grid_zone)) if beside else receipt
