"""What every request needs of the gateway: the current view, the limits, the decision itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, TypeVarTuple

from router.config.settings import CarbonBudgetSettings
from router.contract import (
    AnswerJudge,
    Clock,
    Ledger,
    LoadListener,
    Observer,
    Places,
    Rng,
    Tracer,
    Upstream,
)
from router.core import kernel_rows as k
from router.core.board import Board
from router.core.budget_rulings import Judge, Ruling
from router.core.carbon_budgets import CarbonBudgets
from router.core.columns import Snapshot
from router.core.decision_ids import decision_id
from router.core.emitted import most_g
from router.core.lengths import Expected, LengthModel
from router.core.pipeline import Decided, decide
from router.core.quality_means import QualityMeans
from router.core.quality_plan import planned_quality
from router.core.question import question_of
from router.core.refusal import SHED_RETRY_S
from router.core.retry import Mistakes, RetryBudget, Trials
from router.core.shares import PlaceShares
from router.director.call import NO_PROMPT, Call, Prompt
from router.director.lessons import Lesson, Lessons
from router.director.occupied import is_occupied
from router.director.prompts import Prefixes
from router.director.recording import Recorder
from router.director.sequences import Sequences
from router.director.verdicts import Verdicts
from router.director.waiting import Waiting
from router.errors import (
    DrainingError,
    NothingFeasibleError,
    RefusedError,
    RequestError,
    ResidencyError,
    ShedError,
    UnknownModelError,
    UnsupportedMethodError,
)
from router.model import (
    UNLIMITED,
    Decision,
    Intensity,
    Request,
)
from router.units import HOUR_S, micrograms, network_j

# Without any deadline: so many times the predicted run, and a constant for what nobody predicts.
_PATIENT_RUNS = 10.0
_PATIENT_S = 60.0
# Of a decision taken on this process's view alone; in readiness by the same name.
STATE_STORE_FAILING = "state_store_failing"
# Each that is lost to another worker leaves an endpoint out that has no room.
_MAX_CLAIMS = 16

Known = TypeVarTuple("Known")


class RequestLimits(NamedTuple):
    """Bounds of one request's story. ``timeout_s``: the longest where the caller set no deadline;
    ``margin_s`` is kept of the caller's deadline for the way back; ``kwh_per_gb`` of network;
    ``max_wait_s``: for a place, before the request is shed."""

    max_attempts: int
    timeout_s: float
    margin_s: float
    kwh_per_gb: float
    max_wait_s: float = 0.0


class View(NamedTuple):
    """What decisions are taken on: replaced as a whole, never changed in place.

    ``marginal``: per grid zone the marginal intensity now, for receipts alone.
    """

    snapshot: Snapshot
    board: Board
    marginal: Mapping[str, Intensity] = MappingProxyType({})


class Parts(NamedTuple):
    """What requests are served with; built by the composition root. ``upstreams``: by protocol;
    ``loads``: who is told of load that came with answers, ``ledger``: of how every attempt ended,
    ``tracer``: of every request, ``judge``: who says whether an answer of an alias is good enough;
    None: nobody."""

    upstreams: Mapping[str, Upstream]
    observer: Observer
    lengths: LengthModel
    budget: RetryBudget
    clock: Clock
    rng: Rng
    loads: LoadListener | None = None
    ledger: Ledger | None = None
    tracer: Tracer | None = None
    judge: AnswerJudge | None = None


def _within(expected: Expected, longest: float, is_stated: bool) -> Expected:
    """What the ``longest`` context of a model has room for: an estimate refuses nobody, whether a
    prompt is too long is for the server to say. ``is_stated``: so the prompt's length is none.
    """
    input_tokens, mean, quantile = expected
    if input_tokens + quantile <= longest:
        return expected
    if not is_stated:
        input_tokens = max(1.0, min(input_tokens, max(longest - quantile, longest / 2.0)))
    room = max(1.0, longest - input_tokens)
    return Expected(input_tokens, min(mean, room), min(quantile, room))


def with_told(view: View, decision: Decision) -> Decision:
    """``decision``, with what is told of its latency."""
    seat = view.board.seats[decision.endpoint.name]
    waits = seat.batch + 1.0 > decision.served.profile.max_batch
    return decision._replace(told=seat.margins.told(decision, waits))


class Dispatcher:
    """Takes decisions on the current view. ``view`` and ``limits`` may be replaced at any time.

    ``lessons``: of finished requests; `digest` is called now and then for those that are kept.
    ``sequences`` and ``places`` are of all workers where there are several; a process alone has no
    ``places``.
    ``budgets``: carbon budgets, none of them until others are put in its place. ``store_fails``:
    whether what gateways share cannot be had just now. ``recorder``: keeps decisions for the
    record, None where nobody reads one. ``escalating``: cascades that wait for room.
    """

    def __init__(self, view: View, parts: Parts, limits: RequestLimits, identity: str) -> None:
        """``identity``: what makes this gateway's decision ids unique."""
        self.view = view
        self.limits = limits
        self.parts = parts
        self.sequences = Sequences()
        self.trials = Trials()
        self.mistakes = Mistakes()
        self.verdicts = Verdicts()
        self.waiting = Waiting()
        self.shares = PlaceShares()
        self.means = QualityMeans()
        self.draining = False
        self.escalating = 0
        self.lessons = Lessons(parts.observer, parts.lengths)
        self._prefixes = Prefixes(parts.rng)
        self._identity = identity
        self._count = 0
        self.places: Places | None = None
        self.recorder: Recorder | None = None
        self.store_fails: Callable[[], bool] = lambda: False
        self.budgets = CarbonBudgets(CarbonBudgetSettings(), view.snapshot.policy.signal)

    def require_open(self) -> None:
        """Raises DrainingError once the gateway shuts down."""
        if self.draining:
            raise DrainingError("this gateway is shutting down", 0.0)

    def require_protocol(self, call: Call) -> None:
        """Raises UnknownModelError for a model that is not served over the call's protocol."""
        spoken = self.view.snapshot.layout.protocols.get(call.request.model, call.protocol)
        if spoken != call.protocol:
            raise UnknownModelError(
                f"model {call.request.model!r} is served over {spoken} by this gateway, not over "
                f"{call.protocol}"
            )

    def require_named(self, call: Call) -> None:
        """Raises UnsupportedMethodError for an alias in a call whose payload nobody here changes:
        its server would be asked for a model that it does not have."""
        if call.named is None and call.request.model in self.view.snapshot.layout.fleet.aliases:
            raise UnsupportedMethodError(
                f"{call.request.model!r} is an alias, which stands for other models only where the "
                "gateway itself carries the request; name one of its variants here"
            )

    def with_floor(self, request: Request) -> Request:
        """``request``, for an alias with the floor that its tenant and the operator agreed on, of
        each request and for the mean."""
        snapshot = self.view.snapshot
        alias = snapshot.layout.fleet.aliases.get(request.model)
        if alias is None:
            return request
        floor, mean = alias.floors_of(request.tenant)
        if mean:
            now = self.parts.clock.now()
            plan = partial(planned_quality, alias, snapshot, now)
            of_mean = self.means.floor(alias, request.tenant, now, snapshot.version, plan)
            floor = max(floor, of_mean)
        return request._replace(agreed_floor=floor)

    def may_run(self, view: View, request: Request) -> list[int]:
        """The candidates, by row, that lie where ``request`` may run. Raises RequestError leaves,
        and ResidencyError where there is none."""
        question = question_of(
            request, view.snapshot, view.board, self.expect(request), self.parts.clock.now(), 0.0
        )
        labels = question.columns.candidates.labels
        rows = [row for row, label in enumerate(labels) if label & question.residency]
        if not rows:
            raise ResidencyError(f"{request.model!r} runs nowhere that this request allows")
        return rows

    def model_ready(self, model: str, version: str) -> bool:
        """Whether requests are taken, and an endpoint that serves the model is in service.

        One that is busy for a moment counts: a fleet under load sheds, it does not go away. Raises
        UnknownModelError.
        """
        try:
            candidates = self.view.snapshot.layout.find(model, version)
        except NothingFeasibleError:
            return False
        seats = self.view.board.seats
        return not self.draining and any(
            seats[endpoint.name].serves((served.name, served.version))
            for endpoint, served in zip(candidates.endpoints, candidates.served, strict=True)
        )

    def expect(self, request: Request) -> Expected:
        """Tokens to expect of ``request``. Raises UnknownModelError."""
        if (request.model, request.version) not in self.view.snapshot.columns:
            self.view.snapshot.layout.find(request.model, request.version)
        expected = self.parts.lengths.expect(
            request.model, request.tenant, request.input_tokens, request.max_output_tokens
        )
        if request.prompt_bytes:
            known = self.lessons.prompt_bytes.of(request.model, request.tenant)
            tokens = known.tokens(request.prompt_bytes)
            tokens += self.view.board.templates.of_model(request.model)
            expected = expected._replace(input_tokens=tokens)
        longest = self.view.snapshot.layout.contexts[request.model]
        is_stated = request.input_tokens == request.input_tokens
        return _within(expected, longest, is_stated and not request.prompt_bytes)

    def with_prefix(
        self, request: Request, expected: Expected, prompt: Prompt = NO_PROMPT
    ) -> Request:
        """``request``, with what its prompt begins with where servers of its model keep prompts."""
        if prompt is NO_PROMPT or request.model not in self.view.board.keeping:
            return request
        found = self._prefixes.of(
            prompt, request.payload_bytes, expected.input_tokens, request.tenant
        )
        return request if found is None else request._replace(prefix=found)

    def judge(
        self, view: View, request: Request, expected: Expected, admitted: Ruling | None = None
    ) -> Judge | None:
        """What carbon budgets say of a decision on ``request``; None where there are none.

        ``admitted``: what they said when it was let in, which holds wherever it goes.
        """
        if not self.budgets.budgets:
            return None
        return partial(self._judged, view, request, expected, admitted)

    def _judged(
        self,
        view: View,
        request: Request,
        expected: Expected,
        admitted: Ruling | None,
        decision: Decision,
    ) -> Ruling | None:
        ask_ug = micrograms(
            most_g(
                decision,
                expected,
                view.board.seats[decision.endpoint.name].crowd(),
                self.network_j(request.payload_bytes),
                view.snapshot.layout.fleet.regions[decision.endpoint.region],
            )
        )
        if admitted is not None:
            return admitted._replace(ask_ug=ask_ug)
        return self.budgets.judge(request, ask_ug, self.parts.clock.now())

    def look(
        self,
        view: View,
        request: Request,
        expected: Expected,
        excluded: Collection[str] = (),
        admitted: Ruling | None = None,
    ) -> Decided:
        """What is decided on ``view`` now, without the ``excluded`` endpoints; changes nothing. A
        sequence stays where it began. ``admitted``: as of `judge`.

        Raises RequestError and RefusedError leaves.
        """
        pinned = self.sequences.endpoint(request)
        choose = decide if self.recorder is None else self.recorder.decide
        try:
            decided = choose(
                request,
                view.snapshot,
                view.board,
                expected,
                self.parts.clock.now(),
                self.parts.rng,
                self.network_j(request.payload_bytes),
                excluded,
                pinned,
                self.judge(view, request, expected, admitted),
                self.parts.clock.monotonic(),
            )
        except NothingFeasibleError as refusal:
            soon = self._soon(refusal, view, request, expected, excluded, pinned)
            soon.sight = refusal.sight
            raise soon from None
        decided = decided._replace(decision=with_told(view, decided.decision))
        return decided.flagged(STATE_STORE_FAILING) if self.store_fails() else decided

    def look_in_order(
        self,
        view: View,
        request: Request,
        expected: Expected,
        admitted: Ruling | None,
        *excluded: Collection[str],
    ) -> Decided:
        """`look` without the first of ``excluded`` to leave an endpoint; raises as for the last."""
        *better, last = excluded
        for names in better:
            try:
                return self.look(view, request, expected, names, admitted)
            except RefusedError:
                continue
        return self.look(view, request, expected, last, admitted)

    def _soon(
        self,
        refusal: NothingFeasibleError,
        view: View,
        request: Request,
        expected: Expected,
        excluded: Collection[str] = (),
        pinned: str = "",
    ) -> RefusedError:
        """``refusal``, or that there is but no place just now, or no sequence any more."""
        held_by = f"the endpoint that holds sequence {request.sequence_id!r}"
        clock = self.parts.clock
        question = question_of(
            request, view.snapshot, view.board, expected, clock.now(), 0.0, clock.monotonic()
        )
        if is_occupied(question, view.board, excluded, pinned):
            what = held_by if pinned else f"what could serve {request.model!r}"
            text = f"{what} takes no more requests until it has answered one"
            return ShedError(text, refusal.retry_after_s)
        seat = view.board.seats.get(pinned)
        if pinned and (seat is None or not view.board.serves(seat, request.model)):
            text = f"{held_by} is out: begin the sequence anew"
            return NothingFeasibleError(text, refusal.retry_after_s)
        return refusal

    def doubt_lengths(self, view: View, request: Request) -> None:
        """Where lengths as learned refuse what the prior would not: they may be wrong, and nothing
        that succeeds is left to say so."""
        lengths = self.parts.lengths
        prior = lengths.prior(request.model, request.input_tokens, request.max_output_tokens)
        try:
            self.look(view, request, prior)
        except (RefusedError, RequestError):
            return
        lengths.doubt(request.model, request.tenant)

    def note(self, lesson: Lesson) -> None:
        """Keep what a finished request teaches until the next `digest`."""
        if self.lessons.note(lesson):
            self.digest()

    def digest(self) -> None:
        """Learn from, and tell the observer of, every request finished since the last time."""
        self.lessons.digest(self.view.snapshot, self.view.board)

    def network_j(self, payload_bytes: int) -> float:
        """Joules to carry a request's bytes (SCIENCE, section 1: kWh per GB)."""
        return network_j(payload_bytes, self.limits.kwh_per_gb)

    def timeout_s(self, deadline_s: float | None) -> float:
        """Seconds that upstream work may take."""
        if deadline_s is None:
            return self.limits.timeout_s
        return max(0.0, deadline_s - self.limits.margin_s)

    def patience_s(self, view: View, request: Request, decision: Decision, most: float) -> float:
        """Seconds that a request without a deadline may take: the policy's budget where it has
        one that the decision could keep, else many times the predicted run of ``most`` tokens.
        """
        e2e_ms = float(view.snapshot.params(decision)[k.POLICY_E2E_MS])
        if e2e_ms < UNLIMITED:
            return min(e2e_ms / 1e3, self.limits.timeout_s)
        if request.max_output_tokens < UNLIMITED:
            most = max(most, request.max_output_tokens)
        run_s = (decision.ttft_ms + most * decision.tpot_ms) / 1e3
        return min(_PATIENT_S + _PATIENT_RUNS * run_s, self.limits.timeout_s)

    def next_id(self) -> str:
        """A decision id, unique to this gateway, and not to be guessed from another one."""
        self._count += 1
        hour = int(self.parts.clock.now() // HOUR_S)
        return decision_id(self._identity, self._count, self.parts.rng.random(), max(hour, 0))

    def departed(self, sight: object, decision_id: str) -> object:
        """``sight``, for `ended`: see `Recorder.departed`."""
        if sight is None or self.recorder is None:
            return None
        self.recorder.departed(sight, decision_id)
        return sight

    def ended(self, sight: object, decision_id: str, has_failed: bool) -> None:
        """What came of a first decision: see `Recorder.ended`."""
        if self.recorder is not None:
            now = self.parts.clock.monotonic()
            self.recorder.ended(sight, decision_id, has_failed, now)

    def stood(self, sight: object, decision_id: str, attempt: int) -> None:
        """A decision that follows a failure was acted on: see `Recorder.stood`."""
        if sight is not None and self.recorder is not None:
            self.recorder.stood(sight, decision_id, attempt)

    def refused(self, error: RefusedError, decision_id: str = "", attempt: int = 1) -> None:
        """A request goes nowhere: see `Recorder.refused`."""
        if error.sight is not None and self.recorder is not None:
            self.recorder.refused(error, decision_id, attempt)

    def claimed(self, decide: Callable[[*Known], Decided], *known: *Known) -> Decided:
        """A decision whose place the other workers see as taken, so the caller takes the seat
        before it waits. ``decide``: decides anew each time, on what is ``known``.

        Raises RequestError and RefusedError leaves.
        """
        places = self.places
        if places is None:
            return decide(*known)
        now = self.parts.clock.monotonic()
        places.refresh(now)
        for _ in range(_MAX_CLAIMS):
            try:
                decided = decide(*known)
            except RefusedError:
                # What was full a moment ago may not be: nobody is refused on an old view.
                places.refresh(now, at_once=True)
                decided = decide(*known)
            endpoint = decided.decision.endpoint
            if places.claim(endpoint.name, endpoint.max_in_flight):
                return decided
        raise ShedError(
            f"other workers took every place for {decided.decision.served.name!r} meanwhile",
            SHED_RETRY_S,
        )
