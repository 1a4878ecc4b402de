"""One request's attempts: the decision in force, the time left, where it goes next, its receipt."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType

from router.contract import BackendReport, Metadata
from router.core.accounting import (
    Account,
    Run,
    account,
    build_receipt,
    predict,
    with_marginal,
)
from router.core.pipeline import Decided
from router.director.attempt import OWN_DEADLINE_S, TURNED_AWAY, Attempt, Failed
from router.director.call import Call
from router.director.charge import Charge
from router.director.choice import first_choice, next_choice, with_budget_left
from router.director.dispatcher import Dispatcher
from router.director.lessons import Lesson
from router.director.moving import MoveCost, cost_to_move
from router.director.served_quality import ServedQuality
from router.director.suspicion import Suspicion
from router.director.telling import Telling, tell_lost, tell_moved
from router.director.tried import Tried
from router.director.waiting import PASSING
from router.errors import (
    RefusedError,
    RequestError,
    ShedError,
    UpstreamError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamUnreachedError,
)
from router.model import Receipt, Request, RowOutcome


class Journey:
    """From admission to receipt. `admit` comes first; then ``async with`` it for each attempt,
    which takes a place on the decided endpoint; `leave` it in any case. An UpstreamError within
    ends the attempt: it is passed over where another endpoint is to be tried now, and else becomes
    what to tell the caller. Whatever else is raised there abandons it. One that went well is ended
    by `arrive`.

    ``decision_id``: "" until it was admitted.
    """

    __slots__ = (
        "_attempt",
        "_call",
        "_charge",
        "_claim",
        "_decided_s",
        "_decision",
        "_departures",
        "_dispatcher",
        "_expected",
        "_lost",
        "_lost_g",
        "_need",
        "_quality",
        "_request",
        "_sight",
        "_started",
        "_suspicion",
        "_timeout_s",
        "_trace",
        "_tried",
        "_view",
        "decision_id",
    )  # fmt: skip

    def __init__(self, dispatcher: Dispatcher, call: Call, streamed: bool) -> None:
        """``streamed``: it has any number of answers. Raises DrainingError and
        UnknownModelError."""
        self._dispatcher = dispatcher
        self._call = call
        self._started = dispatcher.parts.clock.monotonic()
        self._timeout_s = dispatcher.timeout_s(call.deadline_s)
        self._departures = 0
        self._tried = Tried(dispatcher, call)
        self._suspicion: Suspicion | None = None
        # A reload may replace the view while the request runs; its own decision keeps its own.
        self._view = dispatcher.view
        self.decision_id = ""
        # Of the attempt that ended last without an answer; grams of all of them.
        self._lost: Receipt | None = None
        self._lost_g = 0.0
        tracer = dispatcher.parts.tracer
        self._trace = (
            None
            if tracer is None
            else tracer.begin(call.request, call.metadata, call.protocol, streamed)
        )
        with Telling(dispatcher, call.request, self._trace):
            dispatcher.require_open()
            dispatcher.require_protocol(call)
            dispatcher.require_named(call)
            self._expected = dispatcher.expect(call.request)
        request = dispatcher.with_floor(call.request)
        self._request = dispatcher.with_prefix(request, self._expected, call.prompt)
        self._charge: Charge | None = None
        # Of the first decision, until it is known what came of it.
        self._sight: object = None
        self._quality: ServedQuality | None = None
        model, version, tenant = call.request.model, call.request.version, call.request.tenant
        self._claim = dispatcher.shares.claim(
            self._view.board, model, version, tenant, call.weight, self._started
        )

    async def admit(self) -> None:
        """Take the first decision; waits for a place, a moment at most.

        Raises RequestError and RefusedError leaves.
        """
        dispatcher, request = self._dispatcher, self._request
        parts = dispatcher.parts
        try:
            with Telling(dispatcher, request, self._trace):
                decided = await self._first()
        except RefusedError as error:
            dispatcher.budgets.missed(error, parts.clock.monotonic())
            dispatcher.refused(error)
            raise
        self._decision, self._need, ruling, sight, _ = decided
        self._claim.take(self._started)
        if self._decision.variant is not None:
            self._quality = ServedQuality(dispatcher, request)
            self._quality.chosen(self._decision)
        if ruling is not None:
            self._charge = Charge(dispatcher, ruling)
        if not request.client_retries:
            # What a client asks again is no more traffic: it earns no retries beside its own.
            parts.budget.earn()
            if dispatcher.trials:
                dispatcher.trials.earn(request.model, request.tenant)
        if self._call.deadline_s is None:
            most = self._expected.output_tokens_quantile
            self._timeout_s = dispatcher.patience_s(self._view, request, self._decision, most)
        self.decision_id = dispatcher.next_id()
        self._sight = dispatcher.departed(sight, self.decision_id)
        self._decided_s = parts.clock.monotonic() - self._started

    async def _first(self) -> Decided:
        try:
            return self._first_choice(self._request, self._started)
        except PASSING as error:
            dispatcher = self._dispatcher
            dispatcher.budgets.missed(error, dispatcher.parts.clock.monotonic(), final=False)
        return await self._for_room(self._decide_late)

    async def __aenter__(self) -> Attempt:
        return self._depart()

    def _depart(self) -> Attempt:
        dispatcher, request, view = self._dispatcher, self._request, self._view
        self._departures += 1
        self._lost = None
        if self._need is not None:
            self._need.teach(view.board)
            self._need = None
        if request.sequence_id:
            dispatcher.sequences.place(request, self._decision.endpoint.name)
        call, trace = self._call, self._trace
        if trace is not None:
            call = call._replace(metadata=trace.departs(self._decision, call.metadata))
        if self._decision.variant is not None:
            call = call.to(self._decision.served.name)
        self._attempt = attempt = Attempt(
            dispatcher.parts,
            view,
            call,
            self._decision,
            self._suspicion,
            self._started,
            self._timeout_s,
        )
        attempt.send_prompt(request, self._expected)
        return attempt

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        if isinstance(error, UpstreamError):
            try:
                await self._fail(error)
            except BaseException as told:
                self._give_up(self._lost, told)
                raise
            tell_moved(self._dispatcher, self._trace, self._lost, error.reason)
            return True
        # The caller went away.
        self._attempt.abandon()
        if self._suspicion is not None:
            self._suspicion.close()
        self._lose(self._dispatcher.parts.clock.monotonic(), True, True)
        self._give_up(self._lost, error)
        return False

    def _give_up(self, lost: Receipt | None, error: BaseException) -> None:
        """The attempt of ``lost`` was the last one: the request ends in ``error``."""
        if self._charge is not None:
            self._charge.give_up()
        tell_lost(self._dispatcher, self._trace, lost, error)

    def _lose(self, now: float, is_seen: bool, may_have_run: bool) -> None:
        """The attempt ended without an answer: what it took counts all the same. ``is_seen``:
        whether it may have reached a server, ``may_have_run``: and that have begun with it."""
        attempt = self._attempt
        lost = self._built(
            attempt.cut_short(now, self._expected, may_have_run),
            (attempt.first_at - self._started) * 1e3,
            now,
            self._network_j() if is_seen else 0.0,
        )
        self._lost = lost
        self._lost_g += lost.gco2e
        if self._charge is not None and is_seen:
            self._charge.cut_short(lost)

    async def _fail(self, error: UpstreamError) -> None:
        """End the attempt in ``error``. Returns where another endpoint is to be tried now; raises
        what to tell the caller where none is.
        """
        attempt, parts = self._attempt, self._dispatcher.parts
        now = parts.clock.monotonic()
        self._tell_decision(has_failed=True)
        if attempt.messages:
            # Another endpoint's answers after these would be a second answer.
            self._end(error, now)
            self._suspect().cut_short(error, now)
            raise error
        if self._suspicion is not None:
            self._suspicion.close()
        failed = self._end(error, now)
        self._tried.failed(self._decision.endpoint.name, error)
        if self._may_move(error, failed.doubtful, now):
            cost = MoveCost.FREE
            if not failed.free:
                known = self._tried.is_known_mistake(error, now)
                cost = await cost_to_move(
                    self._dispatcher, attempt, self._suspect(), error, failed.doubtful, known
                )
            if await self._move_for(cost, error):
                parts.observer.retried(error.reason)
                return
        now = parts.clock.monotonic()
        bound = self._dispatcher.limits.max_attempts == 1 or self._has_begun
        if not bound:
            self._tried.note_mistake(self._view.snapshot.layout, now)
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

    def leave(self) -> None:
        """It is over, however it ended: others may have its place."""
        self._tell_decision(has_failed=False)
        if self._quality is not None:
            self._quality.leave()
        self._claim.leave(self._dispatcher.parts.clock.monotonic())

    def arrive(self, trailers: Metadata) -> Receipt:
        """End the attempt well, and the request with it."""
        return self.settle(self.answered(trailers))

    def answered(self, trailers: Metadata) -> Lesson:
        """End the attempt well. `settle` ends the request by that answer."""
        dispatcher, attempt = self._dispatcher, self._attempt
        ended = dispatcher.parts.clock.monotonic()
        run = attempt.succeed(ended)
        seat = attempt.lease.seat
        if self._request.sequence_id:
            dispatcher.sequences.answered(self._request, seat.name)
        report = attempt.upstream.reports.read(trailers)
        if report.load is not None and (loads := dispatcher.parts.loads) is not None:
            early = attempt.upstream.reports_first and attempt.messages
            loads.told(seat.name, report.load, attempt.lease.departed if early else ended)
        return Lesson(
            self._receipt(run, report, ended),
            seat,
            attempt.lease.crowd_at_start.batch,
            run,
            self._view.snapshot.layout.fleet,
            self._decided_s,
            attempt.waited_s,
            attempt.sent,
            report,
            "" if self._trace is None else self._trace.trace_id,
        )

    def settle(self, lesson: Lesson) -> Receipt:
        """End the request by the answer of ``lesson`` and write its receipt; what it teaches is
        digested later."""
        dispatcher, receipt = self._dispatcher, lesson.receipt
        if self._quality is not None:
            self._quality.answered(receipt.decision)
        if self._charge is not None:
            receipt = self._charge.settle(receipt)
            lesson = lesson._replace(receipt=receipt)
        if dispatcher.parts.ledger is not None:
            dispatcher.parts.ledger.ended(receipt, RowOutcome.ANSWERED)
        if self._trace is not None:
            self._trace.ended(receipt, RowOutcome.ANSWERED, "", receipt.policy)
        dispatcher.note(lesson)
        return receipt

    def _tell_decision(self, has_failed: bool) -> None:
        """What came of the first decision, once."""
        sight, self._sight = self._sight, None
        if sight is not None:
            self._dispatcher.ended(sight, self.decision_id, has_failed)

    @property
    def _has_begun(self) -> bool:
        """Whether an endpoint holds state that the request needs."""
        return bool(self._request.sequence_id) and self._dispatcher.sequences.begun(self._request)

    def _placed(self, error: UpstreamError) -> UpstreamError:
        """``error``, with where it happened."""
        error.endpoint = self._decision.endpoint.name
        error.region = self._decision.endpoint.region
        error.attempts = self._departures
        error.decision_id = self.decision_id
        return error

    def _end(self, error: UpstreamError, now: float) -> Failed:
        attempt = self._attempt
        is_seen = not isinstance(error, UpstreamUnreachedError)
        may_have_run = is_seen and (attempt.messages > 0 or not isinstance(error, TURNED_AWAY))
        self._lose(now, is_seen, may_have_run)
        failed = attempt.fail(self._placed(error), now)
        if failed.doubtful:
            lease = attempt.lease
            self._suspect().note(lease.seat, attempt.model, lease.departed, error)
        return failed

    def _may_move(self, error: UpstreamError, doubtful: bool, now: float) -> bool:
        """Whether another endpoint may be asked, cost aside."""
        if self._attempt.time_left_s(now) <= 0.0:
            return False
        if self._tried.are_enough or self._has_begun:
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
        decide = partial(self._decide_next, error, self._spent_ms(now))
        try:
            decided = await self._for_room(decide)
        except RefusedError as refusal:
            dispatcher.refused(refusal, self.decision_id, self._departures + 1)
            return False
        except RequestError:
            # A reload may have taken the model or the origin away.
            return False
        dispatcher.stood(decided.sight, self.decision_id, self._departures + 1)
        # What room is worth was told by its first choice: this one is no free one.
        self._decision = decided.decision
        if self._quality is not None:
            self._quality.chosen(self._decision)
        if self._charge is not None and decided.ruling is not None:
            self._charge.move(decided.ruling)
        return True

    def _decide_next(self, error: UpstreamError, spent_ms: float) -> Decided:
        """The decision after ``error``. Raises as `next_choice` does."""
        self._ask_floor()
        return next_choice(
            self._dispatcher,
            self._request,
            self._expected,
            self._tried.endpoints,
            error,
            spent_ms,
            None if self._charge is None else self._charge.ruling,
        )

    def _ask_floor(self) -> None:
        """What others were served with since has changed what this one may have."""
        if self._quality is not None:
            self._quality.choose_anew()
        self._request = self._dispatcher.with_floor(self._request)

    def _decide_late(self) -> Decided:
        """The first decision after a wait: on the view of now, within what is left."""
        self._view = self._dispatcher.view
        self._ask_floor()
        now = self._dispatcher.parts.clock.monotonic()
        return self._first_choice(with_budget_left(self._request, self._spent_ms(now)), now)

    def _first_choice(self, request: Request, now: float) -> Decided:
        """Raises ShedError where other tenants come first, too."""
        self._claim.require(now)
        try:
            return first_choice(
                self._dispatcher, self._view, request, self._expected, self._barred()
            )
        except ShedError:
            self._claim.refused(now)
            raise

    def _barred(self) -> tuple[str, ...]:
        """Endpoints that it may not go to."""
        among = self._call.among
        if among is None:
            return ()
        endpoints = self._view.snapshot.layout.fleet.endpoints
        return tuple(one.name for one in endpoints if one.name not in among)

    async def _for_room(self, decide: Callable[[], Decided]) -> Decided:
        dispatcher = self._dispatcher
        return await dispatcher.waiting.for_room(
            decide, self._wait_s(), self._claim, dispatcher.parts.clock.monotonic
        )

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
                dispatcher.parts.budget,
            )
        return self._suspicion

    def _receipt(self, run: Run, report: BackendReport, ended: float) -> Receipt:
        dispatcher = self._dispatcher
        served = self._decision.served.name
        agreed = dispatcher.lessons.sizes.agreed(served)
        taken = account(
            self._request,
            self._decision,
            run,
            report,
            self._expected,
            agreed.answer or dispatcher.lessons.token_bytes.of(served),
            agreed,
        )
        ttft_ms = run.ttft_ms + self._attempt.waited_s * 1e3
        return self._built(taken, ttft_ms, ended, self._network_j())

    def _network_j(self) -> float:
        return self._dispatcher.network_j(self._request.payload_bytes)

    def _built(self, taken: Account, ttft_ms: float, ended: float, network_j: float) -> Receipt:
        """The receipt of the attempt, which ended at this monotonic time."""
        attempt, decision, view = self._attempt, self._decision, self._view
        region, snapshot = decision.endpoint.region, view.snapshot
        now = self._dispatcher.parts.clock.now()
        run_s = ended - attempt.lease.departed
        regions = snapshot.layout.fleet.regions
        receipt = build_receipt(
            self.decision_id,
            self._request,
            decision,
            snapshot.policy.name,
            regions[region],
            self._departures,
            taken,
            predict(decision, self._expected, attempt.lease.crowd_at_start, network_j, regions),
            ttft_ms,
            (ended - self._started) * 1e3,
            network_j,
            snapshot.mean_g_per_kwh(region, now - run_s, run_s),
            now,
            run_s,
        )
        if self._lost_g:
            receipt = receipt._replace(lost_gco2e=self._lost_g)
        return with_marginal(receipt, view.marginal.get(receipt.grid_zone))
