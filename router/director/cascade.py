"""A request for an alias whose answers are judged: the least grams first, a better variant where
that answer is not accepted.

Each answer ends an attempt well, and teaches as any does. Until a better one is there the one that
was not accepted is kept: it stands where no better variant can answer within what is left of the
request's budgets, or where one tried and failed. So a judge costs no caller an answer. A request
that can wait does so, for a place at a better variant.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from router.contract import AnswerJudge, JudgedAnswer, UnaryReply, Verdict
from router.core import kernel_rows as k
from router.core.pipeline import Decided
from router.director.call import Call
from router.director.choice import with_budget_left
from router.director.dispatcher import Dispatcher
from router.director.journey import Journey
from router.director.lessons import Lesson
from router.director.telling import tell_moved
from router.errors import (
    CarbonRouterError,
    JudgeError,
    NothingFeasibleError,
    RefusedError,
    RequestError,
    ShedError,
    UpstreamError,
)
from router.http_api import PATH
from router.model import Alias, HttpJudge, Receipt, RulesJudge
from router.units import MS_PER_S

# Flags of decisions, and so of receipts. The answer of a better variant than the first;
ESCALATED = "escalated"
# an answer that was not accepted, and stands; the reason, too, of a row whose answer did not;
NOT_ACCEPTED = "not_accepted"
# an answer of which nobody said whether it is good enough, and which stands.
NOT_JUDGED = "not_judged"

# How long what can wait waits for a place at a better variant, and how often it looks; seconds.
_MOST_WAIT_S = 300.0
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Judging:
    """By whom answers of an ``alias`` are judged, and by what ``rules`` of its."""

    alias: Alias
    judge: AnswerJudge
    rules: RulesJudge | HttpJudge


def judging(dispatcher: Dispatcher, call: Call) -> Judging | None:
    """Of a call with one answer; None where nobody judges that."""
    judge = dispatcher.parts.judge
    if judge is None:
        return None
    alias = dispatcher.view.snapshot.layout.fleet.aliases.get(call.request.model)
    if alias is None or alias.judge is None:
        return None
    return Judging(alias, judge, alias.judge)


class Cascade(Journey):
    """A journey of which `improved` may make another, after it was answered."""

    def __init__(self, dispatcher: Dispatcher, call: Call, by: Judging) -> None:
        """Raises DrainingError and UnknownModelError."""
        super().__init__(dispatcher, call, streamed=False)
        self._by = by
        # Of an answer that was not accepted, while a better one is asked for.
        self._kept: Lesson | None = None

    async def improved(self, reply: UnaryReply, lesson: Lesson) -> tuple[UnaryReply, Lesson]:
        """``reply``, whose attempt `answered` ended, or that of a better variant; with what is to
        be settled."""
        flags: tuple[str, ...] = ()
        while True:
            chosen = lesson.receipt.decision.variant
            better = math.nan if chosen is None else self._by.alias.above(chosen.quality)
            if better != better:
                break
            verdict = await self._verdict(reply, lesson)
            self._dispatcher.parts.observer.judged(self._by.alias.name, verdict)
            if verdict is Verdict.NONE:
                flags = (NOT_JUDGED,)
            if verdict is not Verdict.NOT_ACCEPTED:
                break
            if not await self._escalates(lesson, better):
                flags = (NOT_ACCEPTED,)
                break
            try:
                better_reply = await answer_of(self)
            except CarbonRouterError:
                flags = (NOT_ACCEPTED,)
                break
            reply, lesson = better_reply, self.answered(better_reply.trailers)
        return reply, self._as_settled(lesson, flags)

    async def _verdict(self, reply: UnaryReply, lesson: Lesson) -> Verdict:
        call, chosen = self._call, lesson.receipt.decision.variant
        path = next((str(value) for key, value in call.metadata if key == PATH), "")
        asked = JudgedAnswer(
            self._by.alias.name,
            "" if chosen is None else chosen.model,
            path.partition("?")[0],
            call.payload,
            reply.payload,
        )
        left_s = self._left_s()
        try:
            if left_s <= 0.0:
                raise JudgeError("no time is left to judge the answer in")
            accepted = await self._by.judge.accepts(self._by.rules, asked, left_s)
        except JudgeError:
            return Verdict.NONE
        except BaseException as error:
            self._leave(lesson, error)
            raise
        return Verdict.ACCEPTED if accepted else Verdict.NOT_ACCEPTED

    def _leave(self, lesson: Lesson, error: BaseException) -> None:
        """Its caller left before it was known whether the answer of ``lesson`` stands."""
        self._charge_for(lesson)
        self._give_up(lesson.receipt, error)

    def _left_s(self) -> float:
        """Until the request ought to be answered."""
        now = self._dispatcher.parts.clock.monotonic()
        budget_s = self._request.budget.e2e_ms / MS_PER_S
        return min(self._timeout_s, budget_s) - (now - self._started)

    async def _escalates(self, lesson: Lesson, quality: float) -> bool:
        """Whether the request goes on to a variant of at least ``quality``: within what is left of
        its budgets, and at once but for one that can wait."""
        charge, floor = self._charge, self._request.agreed_floor
        if charge is not None and charge.ruling.any_quality:
            # Its grams are spent: what is left is for the small ones.
            return False
        before = self._request
        self._request = before._replace(agreed_floor=max(floor, quality))
        decided = await self._place(lesson)
        if decided is None:
            self._request = before
            return False
        dispatcher = self._dispatcher
        dispatcher.stood(decided.sight, self.decision_id, self._departures + 1)
        if self._kept is not None:
            self._pass_over()
        self._kept = lesson
        self._lost_g += _grams(lesson)
        self._decision = decided.decision
        # An endpoint that failed it before may serve this variant.
        self._tried.allow_again()
        if charge is not None and decided.ruling is not None:
            charge.move(decided.ruling)
        return True

    async def _place(self, lesson: Lesson) -> Decided | None:
        """At a better variant; None where there is none. What can wait waits a while where all of
        them are full: its answer is worth more than when it comes."""
        try:
            return self._next()
        except (NothingFeasibleError, ShedError):
            pass
        except (RefusedError, RequestError):
            # What a policy excludes, or a jurisdiction, time alone does not change.
            return None
        dispatcher = self._dispatcher
        if dispatcher.escalating >= self._call.most_waiting:
            return None
        dispatcher.escalating += 1
        try:
            return await self._place_later(lesson)
        finally:
            dispatcher.escalating -= 1

    async def _place_later(self, lesson: Lesson) -> Decided | None:
        clock = self._dispatcher.parts.clock
        # NaN of what cannot wait, and so is what it is compared with. Its deadline is by a clock
        # that may step; how long it has waited is not.
        can_wait_s = self._request.can_wait_until - clock.now()
        until = clock.monotonic() + min(can_wait_s, _MOST_WAIT_S, self._left_s() / 2.0)
        while clock.monotonic() + _LOOK_S <= until and self._is_full():
            try:
                await asyncio.sleep(_LOOK_S)
            except BaseException as error:
                self._leave(lesson, error)
                raise
            if self._call.room is not None:
                self._call = self._call._replace(among=self._call.room())
            try:
                return self._next()
            except (NothingFeasibleError, ShedError):
                continue
            except (RefusedError, RequestError):
                return None
        return None

    def _is_full(self) -> bool:
        """Whether nothing is amiss with those that could serve the request but want of room."""
        view = self._dispatcher.view
        try:
            candidates = view.snapshot.layout.find_for(self._request)
        except (RefusedError, RequestError):
            return False
        return bool(view.board.live(candidates.model, candidates.version)[k.ELIGIBLE].any())

    def _next(self) -> Decided:
        dispatcher = self._dispatcher
        now = dispatcher.parts.clock.monotonic()
        self._view = dispatcher.view
        decided = dispatcher.claimed(
            dispatcher.look,
            self._view,
            with_budget_left(self._request, self._spent_ms(now)),
            self._expected,
            self._barred(),
            None if self._charge is None else self._charge.ruling,
        )
        return decided.flagged(ESCALATED)

    def _give_up(self, lost: Receipt | None, error: BaseException) -> None:
        if self._kept is not None:
            if isinstance(error, CarbonRouterError):
                # The request ends by the answer that is kept.
                tell_moved(self._dispatcher, self._trace, lost, error.reason)
                return
            self._pass_over()
        super()._give_up(lost, error)

    def _may_move(self, error: UpstreamError, doubtful: bool, now: float) -> bool:
        """One better variant that failed is enough: an answer is there."""
        return self._kept is None and super()._may_move(error, doubtful, now)

    def _pass_over(self) -> None:
        """The answer that was kept is not the one that the caller gets."""
        kept, self._kept = self._kept, None
        if kept is not None:
            self._charge_for(kept)
            tell_moved(self._dispatcher, self._trace, kept.receipt, NOT_ACCEPTED)
            self._dispatcher.note(kept._replace(is_last=False))

    def _charge_for(self, lesson: Lesson) -> None:
        if self._charge is not None:
            self._charge.cut_short(lesson.receipt)

    def _as_settled(self, lesson: Lesson, flags: tuple[str, ...]) -> Lesson:
        """What the request ends by; how long it took, judging included."""
        if self._kept is lesson:
            self._lost_g -= _grams(lesson)
            self._kept = None
        else:
            self._pass_over()
        receipt = lesson.receipt
        decision = receipt.decision
        now = self._dispatcher.parts.clock.monotonic()
        return lesson._replace(
            receipt=receipt._replace(
                decision=decision._replace(flags=(*decision.flags, *flags)),
                attempts=self._departures,
                e2e_ms=self._spent_ms(now),
                lost_gco2e=self._lost_g,
            )
        )


def _grams(lesson: Lesson) -> float:
    """0 of what nobody knows, which no sum can hold."""
    return lesson.receipt.gco2e if math.isfinite(lesson.receipt.gco2e) else 0.0


async def answer_of(journey: Journey) -> UnaryReply:
    """The answer of a request that was admitted, or goes on; its attempt is still to be ended.

    Raises RequestError, RefusedError or UpstreamError leaves.
    """
    while True:
        async with journey as attempt:
            reply = await attempt.unary()
            attempt.heard(reply.payload, streamed=False)
        if not attempt.ended:
            return reply
