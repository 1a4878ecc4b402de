"""What every request needs of the gateway: the current view, the limits, the decision itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVarTuple

from router.contract import Clock, Observer, Places, Rng, Upstream
from router.core import kernel as k
from router.core.accounting import Run
from router.core.board import Board
from router.core.claims import fits_payload
from router.core.columns import Snapshot
from router.core.learning import most_output_tokens, prediction_of, teach_latency
from router.core.lengths import Expected, LengthModel
from router.core.pipeline import Decided, decide
from router.core.question import question_of
from router.core.refusal import SHED_RETRY_S
from router.core.retry import RetryBudget, Trials
from router.core.seat import Seat
from router.core.tokens import TokenBytesModel
from router.director.occupied import is_occupied
from router.director.sequences import Sequences
from router.director.verdicts import Verdicts
from router.director.waiting import Waiting
from router.errors import (
    DrainingError,
    NothingFeasibleError,
    RefusedError,
    RequestError,
    ShedError,
)
from router.model import UNLIMITED, Decision, Fleet, Intensity, Receipt, Request, TokensKind
from router.units import network_j

# Without any deadline: so many times the predicted run, and a constant for what nobody predicts.
_PATIENT_RUNS = 10.0
_PATIENT_S = 60.0
# What counts as seen: an estimate would teach a model what the model itself was used for.
_SEEN = (TokensKind.REPORTED, TokensKind.COUNTED)
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
    """What requests are served with; built by the composition root. ``upstreams``: by protocol."""

    upstreams: Mapping[str, Upstream]
    observer: Observer
    lengths: LengthModel
    budget: RetryBudget
    clock: Clock
    rng: Rng


class Lesson(NamedTuple):
    """What a finished request teaches and tells. ``batch_at_start``: the seat's load when the
    request went upstream; ``fleet``: the one it was decided on;
    ``decided_s``: its first decision took; ``added_s``: from its arrival to its going upstream."""

    receipt: Receipt
    seat: Seat
    batch_at_start: float
    run: Run
    fleet: Fleet
    decided_s: float
    added_s: float


class Dispatcher:
    """Takes decisions on the current view. ``view`` and ``limits`` may be replaced at any time.

    ``digest_every``: how many finished requests are learned from and counted in one go. In a row
    they run with warm caches; `digest` is called now and then for the rest. ``sequences`` and
    ``places`` are of all workers where there are several; a process alone has no ``places``.
    """

    def __init__(self, view: View, parts: Parts, limits: RequestLimits, identity: str) -> None:
        """``identity``: what makes this gateway's decision ids unique."""
        self.view = view
        self.limits = limits
        self.parts = parts
        self.sequences = Sequences()
        self.trials = Trials()
        self.verdicts = Verdicts()
        self.waiting = Waiting()
        self.draining = False
        self.digest_every = 1
        self.token_bytes = TokenBytesModel()
        self._lessons: list[Lesson] = []
        self._identity = identity
        self._count = 0
        self.places: Places | None = None

    def require_open(self) -> None:
        """Raises DrainingError once the gateway shuts down."""
        if self.draining:
            raise DrainingError("this gateway is shutting down", 0.0)

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
        return self.parts.lengths.expect(
            request.model, request.tenant, request.input_tokens, request.max_output_tokens
        )

    def look(
        self, view: View, request: Request, expected: Expected, excluded: Collection[str] = ()
    ) -> Decided:
        """What is decided on ``view`` now, without the ``excluded`` endpoints; changes nothing. A
        sequence stays where it began.

        Raises RequestError and RefusedError leaves.
        """
        pinned = self.sequences.endpoint(request)
        try:
            return decide(
                request,
                view.snapshot,
                view.board,
                expected,
                self.parts.clock.now(),
                self.parts.rng,
                self.network_j(request.payload_bytes),
                excluded,
                pinned,
            )
        except NothingFeasibleError as refusal:
            raise self._soon(refusal, view, request, expected, excluded, pinned) from None

    def look_in_order(
        self, view: View, request: Request, expected: Expected, *excluded: Collection[str]
    ) -> Decided:
        """`look` without the first of ``excluded`` to leave an endpoint; raises as for the last."""
        *better, last = excluded
        for names in better:
            try:
                return self.look(view, request, expected, names)
            except RefusedError:
                continue
        return self.look(view, request, expected, last)

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
        question = question_of(request, view.snapshot, expected, self.parts.clock.now(), 0.0)
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
            teach_latency(
                lesson.seat,
                prediction_of(
                    decision,
                    lesson.run.crowd,
                    lesson.batch_at_start,
                    # Behind an emulated server there is no prompt: it takes the caller's word.
                    decision.endpoint.emulated or fits_payload(request),
                ),
                lesson.run,
                tokens,
            )
            self.token_bytes.observe(request.model, lesson.run.answer.output_bytes, tokens)
            most = most_output_tokens(request, decision, lesson.run)
            lengths.observe(request.model, request.tenant, request.input_tokens, tokens, most)
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
        e2e_ms = float(view.snapshot.rungs[len(decision.relaxed)][k.POLICY_E2E_MS])
        if e2e_ms < UNLIMITED:
            return min(e2e_ms / 1e3, self.limits.timeout_s)
        if request.max_output_tokens < UNLIMITED:
            most = max(most, request.max_output_tokens)
        run_s = (decision.ttft_ms + most * decision.tpot_ms) / 1e3
        return min(_PATIENT_S + _PATIENT_RUNS * run_s, self.limits.timeout_s)

    def next_id(self) -> str:
        """A decision id, unique to this gateway."""
        self._count += 1
        return f"{self._identity}-{self._count:x}"

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
