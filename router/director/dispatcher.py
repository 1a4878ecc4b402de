"""What every request needs of the gateway: the current view, the limits, the decision itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, TypeVarTuple

from router.config.settings import CarbonBudgetSettings
from router.contract import (
    BackendReport,
    Clock,
    LoadListener,
    Observer,
    Places,
    Rng,
    Upstream,
)
from router.core import kernel_rows as k
from router.core.accounting import AgreedSizes, Run, answer_size
from router.core.board import Board
from router.core.carbon_budgets import CarbonBudgets, Judge, Ruling
from router.core.claims import fits_payload
from router.core.columns import Snapshot
from router.core.decision_ids import decision_id
from router.core.emitted import most_g
from router.core.learning import most_output_tokens, prediction_of, teach_latency
from router.core.lengths import Expected, LengthModel
from router.core.pipeline import Decided, decide
from router.core.prefix_index import PrefixIndex
from router.core.prefixes import CHUNK_BYTES
from router.core.question import question_of
from router.core.refusal import SHED_RETRY_S
from router.core.reports import prompt_size
from router.core.retry import Mistakes, RetryBudget, Trials
from router.core.seat import Seat
from router.core.shares import PlaceShares
from router.core.token_sizes import LEAST_ENDPOINTS, TokenSizes
from router.core.tokens import PromptBytesModel, TokenBytesModel
from router.director.call import NO_PROMPT, Call, Prompt
from router.director.occupied import is_occupied
from router.director.prompts import Prefixes
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
)
from router.model import (
    UNLIMITED,
    CachedKind,
    Decision,
    Fleet,
    Intensity,
    Prefix,
    Receipt,
    Request,
    TokensKind,
)
from router.units import micrograms, network_j

# Without any deadline: so many times the predicted run, and a constant for what nobody predicts.
_PATIENT_RUNS = 10.0
_PATIENT_S = 60.0
# What counts as seen: an estimate would teach a model what the model itself was used for.
_SEEN = (TokensKind.REPORTED, TokensKind.COUNTED)
# What was cached as predicted, but for so much of it, says how quick the rest was read.
_CACHED_AS_EXPECTED = 0.1
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
    ``loads``: who is told of load that came with answers, None: nobody."""

    upstreams: Mapping[str, Upstream]
    observer: Observer
    lengths: LengthModel
    budget: RetryBudget
    clock: Clock
    rng: Rng
    loads: LoadListener | None = None


class Lesson(NamedTuple):
    """What a finished request teaches and tells. ``batch_at_start``: the seat's load when the
    request went upstream; ``fleet``: the one it was decided on;
    ``decided_s``: its first decision took; ``added_s``: from its arrival to its going upstream;
    ``sent``: its prompt, where servers of its model keep prompts; ``told``: what was reported of
    it, believed or not."""

    receipt: Receipt
    seat: Seat
    batch_at_start: float
    run: Run
    fleet: Fleet
    decided_s: float
    added_s: float
    sent: SentPrompt | None = None
    told: BackendReport | None = None


class SizesSeen(NamedTuple):
    """Sizes of tokens in bytes of answers, pieces of streams and bytes of prompts."""

    answer: TokenSizes
    stream: TokenSizes
    prompt: TokenSizes

    def agreed(self, model: str) -> AgreedSizes:
        """What endpoints agree on."""
        return AgreedSizes(
            self.answer.agreed(model), self.stream.agreed(model), self.prompt.agreed(model)
        )

    def observe(self, request: Request, endpoint: str, run: Run, told: BackendReport) -> None:
        """What ``endpoint`` stated of one request, whether it was believed or not."""
        model, answer = request.model, run.answer
        tokens = told.output_tokens
        tokens = answer.output_tokens if tokens != tokens else tokens
        if answer.output_bytes > 0.0:
            self.answer.observe(model, endpoint, answer.output_bytes, tokens)
        else:
            self.stream.observe(model, endpoint, float(run.messages), tokens)
        prompt = told.input_tokens
        prompt = answer.input_tokens if prompt != prompt else prompt
        self.prompt.observe(model, endpoint, prompt_size(request), prompt)


class SentPrompt(NamedTuple):
    """A prompt that went to candidate ``row`` of those in ``prefixes``, which ought to have had
    ``cached_tokens`` of it. ``ours``: the share of this gateway in what ran there."""

    prefixes: PrefixIndex
    row: int
    cached_tokens: float
    prefix: Prefix
    ours: float

    def read(self) -> None:
        """The server began to answer, so it has all of it."""
        self.prefixes.read(self.row, self.prefix, self.ours)

    def answered(self, receipt: Receipt) -> None:
        """Learn from what the answer says of it, if anything."""
        # Of a prompt that cannot be as long as was said, more was expected than there is.
        can_be = self.prefix.block_tokens <= CHUNK_BYTES
        if receipt.cached_kind is CachedKind.REPORTED and can_be:
            exact = not math.isnan(receipt.request.input_tokens)
            self.prefixes.report(self.row, self.cached_tokens, receipt.cached_tokens, exact)


def _read_share(receipt: Receipt) -> float:
    """Of the tokens of its prompt that the prediction of its latency took to be read, those that
    were; NaN where that is not known.

    Where nobody says, only one of which nothing ought to be cached is known to be read whole.
    """
    expected = receipt.decision.cached_tokens
    if receipt.cached_kind is not CachedKind.REPORTED:
        return 1.0 if expected == 0.0 else math.nan
    if abs(receipt.cached_tokens - expected) <= _CACHED_AS_EXPECTED * expected:
        return 1.0
    tokens = receipt.input_tokens
    if not tokens > 0.0:
        return math.nan
    return max(tokens - receipt.cached_tokens, 1.0) / max(tokens - expected, 1.0)


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


class Dispatcher:
    """Takes decisions on the current view. ``view`` and ``limits`` may be replaced at any time.

    ``digest_every``: how many finished requests are learned from and counted in one go. In a row
    they run with warm caches; `digest` is called now and then for the rest. ``sequences`` and
    ``places`` are of all workers where there are several; a process alone has no ``places``.
    ``budgets``: carbon budgets, none of them until others are put in its place. ``store_fails``:
    whether what gateways share cannot be had just now.
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
        self.draining = False
        self.digest_every = 1
        self.token_bytes = TokenBytesModel()
        # As several endpoints say: none of them can move these.
        self.sizes = SizesSeen(TokenSizes(), TokenSizes(), TokenSizes())
        # The same of prompts, where their text is known and servers say how many tokens it had.
        self.prompt_bytes = PromptBytesModel()
        self._prefixes = Prefixes(parts.rng)
        self._lessons: list[Lesson] = []
        self._identity = identity
        self._count = 0
        self.places: Places | None = None
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
        candidates = self.view.snapshot.layout.find(model, version)
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
            known = self.prompt_bytes.of(request.model, request.tenant)
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
        try:
            decided = decide(
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
            raise self._soon(refusal, view, request, expected, excluded, pinned) from None
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
        if pinned and (seat is None or not seat.serves_any_version(request.model)):
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
        self._lessons.append(lesson)
        if len(self._lessons) >= self.digest_every:
            self.digest()

    def digest(self) -> None:
        """Learn from, and tell the observer of, every request finished since the last time."""
        lessons, self._lessons = self._lessons, []
        observer, lengths = self.parts.observer, self.parts.lengths
        for lesson in lessons:
            receipt = lesson.receipt
            request, decision = receipt.request, receipt.decision
            tokens = receipt.output_tokens if receipt.tokens_kind in _SEEN else math.nan
            read_share = _read_share(receipt)
            self._learn_template(receipt)
            by_size = self._tokens_by_size(lesson)
            teach_latency(
                lesson.seat,
                prediction_of(
                    decision,
                    lesson.run.crowd,
                    lesson.batch_at_start,
                    # Behind an emulated server there is no prompt: it takes the caller's word.
                    (decision.endpoint.emulated or fits_payload(request))
                    and read_share == read_share,
                    read_share,
                ),
                lesson.run,
                # What all agree on is no guess of this gateway's: it teaches as a count does.
                tokens if tokens == tokens or by_size == 0.0 else by_size,
                by_size,
            )
            if lesson.told is not None:
                self.sizes.observe(request, lesson.seat.name, lesson.run, lesson.told)
            if lesson.sent is not None:
                lesson.sent.answered(receipt)
            self.token_bytes.observe(request.model, lesson.run.answer.output_bytes, tokens)
            most = most_output_tokens(request, decision, lesson.run)
            prompt_tokens = receipt.input_tokens
            if self._is_new(self.sizes.prompt, request, lesson.seat.name):
                prompt_tokens = math.nan
            template = self.view.board.templates.of_model(request.model)
            self.prompt_bytes.observe(
                request.model, request.tenant, float(request.prompt_bytes), prompt_tokens - template
            )
            if prompt_tokens != prompt_tokens:
                prompt_tokens = request.input_tokens
            lengths.observe(request.model, request.tenant, prompt_tokens, tokens, most)
            observer.decided(lesson.decided_s)
            observer.finished(receipt, lesson.added_s)

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
        return decision_id(self._identity, self._count, self.parts.rng.random())

    def _tokens_by_size(self, lesson: Lesson) -> float:
        """Tokens of an answer by what its model's endpoints agree on; NaN where they do not; 0 of
        one of several endpoints that has not said enough to be compared with the others."""
        request, run = lesson.receipt.request, lesson.run
        size, of_token = answer_size(run, self.sizes.agreed(request.model))
        if of_token is not None:
            return of_token.tokens(size)
        seen = self.sizes.answer if run.answer.output_bytes > 0.0 else self.sizes.stream
        return 0.0 if self._is_new(seen, request, lesson.seat.name) else math.nan

    def _is_new(self, sizes: TokenSizes, request: Request, endpoint: str) -> bool:
        """Whether ``endpoint``, one of several of the model, has said too little to be compared."""
        columns = self.view.snapshot.columns.get((request.model, request.version))
        if columns is None or len(columns.candidates.endpoints) < LEAST_ENDPOINTS:
            return False
        return sizes.is_new(request.model, endpoint)

    def _learn_template(self, receipt: Receipt) -> None:
        """What a server had cached of a prompt that it was not known to have any of."""
        decision, templates = receipt.decision, self.view.board.templates
        served = decision.served
        place = (decision.endpoint.name, served.name, served.version)
        known = decision.cached_tokens <= templates.tokens(*place)
        if receipt.cached_kind is CachedKind.REPORTED and known:
            templates.observe(*place, receipt.cached_tokens)

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
