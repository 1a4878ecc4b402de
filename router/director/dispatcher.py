"""What every request needs of the gateway: the current view, the limits, the decision itself."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from router.contract import Backend, Claims, Clock, Observer, ReportReader, Rng, SequencePins
from router.core.accounting import Run
from router.core.board import Board, Factors, Seat
from router.core.columns import Snapshot
from router.core.energy import J_PER_KWH
from router.core.health import State
from router.core.learning import prediction_of, teach_latency
from router.core.lengths import Expected, LengthModel
from router.core.pins import Pins
from router.core.pipeline import decide
from router.core.retry import RetryThrottle
from router.errors import DrainingError, NothingFeasibleError, RefusedError, ShedError
from router.model import Decision, Fleet, Intensity, Receipt, Request

BYTES_PER_GB = 1e9
# Each that is lost to another worker leaves an endpoint out that has no room.
_MAX_CLAIMS = 16
_SHED_RETRY_S = 1.0


class Limits(NamedTuple):
    """Bounds of one request's story. ``timeout_s`` applies where the caller set no deadline;
    ``margin_s`` is kept of the caller's deadline for the way back; ``kwh_per_gb`` of network."""

    max_attempts: int
    timeout_s: float
    margin_s: float
    kwh_per_gb: float


class View(NamedTuple):
    """What decisions are taken on: replaced as a whole, never changed in place.

    ``marginal``: per grid zone the marginal intensity now, for receipts alone.
    """

    snapshot: Snapshot
    board: Board
    marginal: Mapping[str, Intensity] = MappingProxyType({})


class Parts(NamedTuple):
    """What requests are served with; built by the composition root."""

    backend: Backend
    reports: ReportReader
    observer: Observer
    lengths: LengthModel
    throttle: RetryThrottle
    clock: Clock
    rng: Rng


class Lesson(NamedTuple):
    """What a finished request teaches and tells. ``factors``: of the seat's latency error when the
    request went upstream, ``batch_at_start`` its load then; ``fleet``: the one it was decided on;
    ``decided_s``: its first decision took; ``added_s``: from its arrival to its going upstream."""

    receipt: Receipt
    seat: Seat
    factors: Factors
    batch_at_start: float
    run: Run
    fleet: Fleet
    decided_s: float
    added_s: float


class Dispatcher:
    """Takes decisions on the current view. ``view`` and ``limits`` may be replaced at any time.

    ``digest_every``: how many finished requests are learned from and counted in one go. In a row
    they run with warm caches; `digest` is called now and then for the rest. ``pins``, ``claims``:
    of all workers where there are several; a process alone has no claims to make.
    """

    def __init__(self, view: View, parts: Parts, limits: Limits, identity: str) -> None:
        """``identity``: what makes this gateway's decision ids unique."""
        self.view = view
        self.limits = limits
        self.parts = parts
        self.draining = False
        self.digest_every = 1
        self._lessons: list[Lesson] = []
        self._identity = identity
        self._count = 0
        self.pins: SequencePins = Pins()
        self.claims: Claims | None = None

    def require_open(self) -> None:
        """Raises DrainingError once the gateway shuts down."""
        if self.draining:
            raise DrainingError("this gateway is shutting down", 0.0)

    def expect(self, request: Request) -> Expected:
        """Tokens to expect of ``request``. Raises UnknownModelError."""
        if (request.model, request.version) not in self.view.snapshot.columns:
            self.view.snapshot.layout.find(request.model, request.version)
        return self.parts.lengths.expect(
            request.model, request.tenant, request.input_tokens, request.max_output_tokens
        )

    def admit(
        self, view: View, request: Request, expected: Expected, tried: tuple[str, ...] = ()
    ) -> Decision:
        """Decide on ``view`` for a request that is to go there now: its sequence stays there, and
        the other workers see its place as taken, so the caller takes the seat before it waits.

        Raises RequestError and RefusedError leaves.
        """
        try:
            decision = self._claimed(view, request, expected, tried)
        except NothingFeasibleError:
            pinned = self._pinned(request)
            if pinned and not _rests(view.board.seats.get(pinned)):
                # The endpoint cannot go on with the sequence: begun anew, it is free to move.
                self.pins.drop(request.model, request.sequence_id)
            raise
        if request.sequence_id:
            self.pins.keep(request.model, request.sequence_id, decision.endpoint.name)
        return decision

    def pick(
        self, view: View, request: Request, expected: Expected, tried: tuple[str, ...] = ()
    ) -> Decision:
        """Decide on ``view``; a sequence stays on the endpoint where it began.

        Raises RequestError and RefusedError leaves.
        """
        return decide(
            request,
            view.snapshot,
            view.board,
            expected,
            self.parts.clock.now(),
            self.parts.rng,
            self.network_j(request.payload_bytes),
            tried,
            self._pinned(request),
        )

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
            request, decision, tokens = receipt.request, receipt.decision, receipt.output_tokens
            teach_latency(
                lesson.seat,
                prediction_of(decision, lesson.factors, lesson.run.batch, lesson.batch_at_start),
                lesson.run,
                tokens,
                _seen_rtt_ms(decision, lesson.fleet),
            )
            lengths.observe(request.model, request.tenant, request.input_tokens, tokens)
            observer.decided(lesson.decided_s)
            observer.finished(receipt, lesson.added_s)

    def network_j(self, payload_bytes: int) -> float:
        """Joules to carry a request's bytes (SCIENCE, section 1: kWh per GB)."""
        return payload_bytes / BYTES_PER_GB * self.limits.kwh_per_gb * J_PER_KWH

    def timeout_s(self, deadline_s: float | None) -> float:
        """Seconds that upstream work may take."""
        if deadline_s is None:
            return self.limits.timeout_s
        return max(0.0, deadline_s - self.limits.margin_s)

    def next_id(self) -> str:
        """A decision id, unique to this gateway."""
        self._count += 1
        return f"{self._identity}-{self._count:x}"

    def _pinned(self, request: Request) -> str:
        if not request.sequence_id:
            return ""
        return self.pins.find(request.model, request.sequence_id)

    def _claimed(
        self, view: View, request: Request, expected: Expected, tried: tuple[str, ...]
    ) -> Decision:
        claims = self.claims
        if claims is None:
            return self.pick(view, request, expected, tried)
        now = self.parts.clock.monotonic()
        claims.refresh(now)
        for _ in range(_MAX_CLAIMS):
            try:
                decision = self.pick(view, request, expected, tried)
            except RefusedError:
                # What was full a moment ago may not be: nobody is refused on an old view.
                claims.refresh(now, at_once=True)
                decision = self.pick(view, request, expected, tried)
            if claims.claim(decision.endpoint.name, decision.endpoint.max_in_flight):
                return decision
        raise ShedError(
            f"other workers took every place for {request.model!r} meanwhile", _SHED_RETRY_S
        )


def _rests(seat: Seat | None) -> bool:
    """Whether an endpoint is only busy or on probation: what it holds of a sequence is not lost."""
    if seat is None or seat.health.state is State.EJECTED:
        return False
    return not seat.health.admits(seat.in_flight)


def _seen_rtt_ms(decision: Decision, fleet: Fleet) -> float:
    """Round trip between this gateway and the endpoint, as the RTT table has it."""
    if not fleet.gateway_origin:
        return decision.rtt_ms
    return fleet.rtt_ms[fleet.gateway_origin][decision.endpoint.region]
