"""Which requests are traced, and the spans of those that are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from router.contract import Clock, Metadata, RequestTrace
from router.model import Decision, Receipt, Request, RowOutcome
from router.telemetry.tracing import attributes, trace_context
from router.telemetry.tracing import conventions as names
from router.telemetry.tracing.conventions import Conventions
from router.telemetry.tracing.span import Attributes, Span
from router.telemetry.tracing.trace_context import SAMPLED, TraceParent

_NS: Final = 1e9
_ID_BITS: Final = 64
_TRACE_BITS: Final = 128
_LOW: Final = (1 << _ID_BITS) - 1
# Who refuses, or goes away, has not failed.
_FAILED: Final = (RowOutcome.FAILED, RowOutcome.MOVED)


class RandomBits(Protocol):
    """``random.Random`` satisfies it."""

    def getrandbits(self, k: int, /) -> int:
        """A whole number of ``k`` random bits."""
        ...


class TraceOptions(NamedTuple):
    """``ratio``: of traces that begin here, 0 to 1; what another began is kept where that one keeps
    it. ``tenant``: as of `router.telemetry.tenants`."""

    ratio: float
    tenant: str
    convention: Conventions


class TurnedAway(NamedTuple):
    """A request that was refused before any director saw it. ``request``: None where it was not
    understood; ``is_stranger``: nobody knows who calls; ``after_s``: from its arrival."""

    metadata: Metadata
    protocol: str
    streamed: bool
    request: Request | None
    reason: str
    is_stranger: bool
    after_s: float


class RequestTracer:
    """`contract.Tracer`. ``put``: takes each finished span, and never blocks; ``clock``: the wall,
    whatever day is replayed; ``bits``: of one process alone."""

    def __init__(
        self,
        options: TraceOptions,
        put: Callable[[Span], None],
        clock: Clock,
        bits: RandomBits,
    ) -> None:
        self.options = options
        self.put = put
        self.clock = clock
        self.bits = bits
        # As OpenTelemetry's TraceIdRatioBased: who samples further on by the same ratio agrees.
        self._bound = round(options.ratio * (1 << _ID_BITS))

    def begin(
        self, request: Request, metadata: Metadata, protocol: str, streamed: bool
    ) -> RequestTrace | None:
        """See `contract.Tracer`."""
        parent = trace_context.read(metadata)
        if parent is not None:
            if not parent.sampled:
                return None
            return SampledRequest(self, request, metadata, protocol, streamed, parent)
        trace_id = self.new_id(_TRACE_BITS)
        root = TraceParent(trace_id, 0, SAMPLED if trace_id & _LOW < self._bound else 0)
        if root.sampled:
            return SampledRequest(self, request, metadata, protocol, streamed, root)
        return UnsampledRequest(trace_context.traceparent(trace_id, self.new_id(), 0))

    def turned_away(self, turned: TurnedAway) -> tuple[str, str]:
        """Tell of a request that no director saw, by one span; its trace and span in hexadecimal,
        "" where none is kept."""
        parent = trace_context.read(turned.metadata)
        if parent is not None and not parent.sampled:
            return "", ""
        # A trace may be continued for a stranger, but that a stranger wants it kept is no reason.
        draws = parent is None or turned.is_stranger
        if draws and self.bits.getrandbits(_ID_BITS) >= self._bound:
            return "", ""
        parent = parent or TraceParent(self.new_id(_TRACE_BITS), 0, SAMPLED)
        name, _, made = attributes.call_attributes(
            turned.metadata, turned.protocol, turned.streamed, self.options.convention
        )
        if turned.request is not None:
            made |= attributes.request_attributes(turned.request, self.options.tenant)
        span_id = self.new_id()
        now_ns = round(self.clock.now() * _NS)
        self.put(
            Span(
                name,
                parent.trace_id,
                span_id,
                parent.span_id,
                parent.span_id != 0,
                parent.flags,
                parent.state,
                True,
                now_ns - round(max(turned.after_s, 0.0) * _NS),
                now_ns,
                False,
                _told(made, RowOutcome.REFUSED, turned.reason),
            )
        )
        return f"{parent.trace_id:032x}", f"{span_id:016x}"

    def new_id(self, bits: int = _ID_BITS) -> int:
        """Never 0, which stands for none."""
        return self.bits.getrandbits(bits) or 1


class UnsampledRequest:
    """Of a trace that would have begun here: that it is not kept is told further on, or servers
    would each begin one of their own."""

    __slots__ = ("_header", "span_id", "trace_id")

    def __init__(self, header: str) -> None:
        self.trace_id = self.span_id = ""
        self._header = header

    def departs(self, decision: Decision, metadata: Metadata) -> Metadata:
        """See `contract.RequestTrace`."""
        return trace_context.passed_on(metadata, self._header, "")

    def moved(self, receipt: Receipt, reason: str) -> None:
        """Nothing is kept of it."""

    def ended(self, receipt: Receipt | None, outcome: RowOutcome, reason: str, policy: str) -> None:
        """Nothing is kept of it."""


class SampledRequest:
    """A span of its own and one for each attempt, put when they have ended."""

    __slots__ = (
        "_attempt_began",
        "_attempt_id",
        "_attempts",
        "_began",
        "_call",
        "_decision",
        "_name",
        "_operation",
        "_parent",
        "_request",
        "_span_id",
        "_tracer",
        "_zero_s",
        "span_id",
        "trace_id",
    )

    def __init__(
        self,
        tracer: RequestTracer,
        request: Request,
        metadata: Metadata,
        protocol: str,
        streamed: bool,
        parent: TraceParent,
    ) -> None:
        """``parent``: of a root its span's id is 0."""
        clock = tracer.clock
        self._tracer = tracer
        self._request = request
        self._parent = parent
        self._span_id = tracer.new_id()
        self.span_id = f"{self._span_id:016x}"
        self._began = clock.monotonic()
        # All of one request is measured by one clock: an attempt never begins before its request.
        self._zero_s = clock.now() - self._began
        self._name, self._operation, self._call = attributes.call_attributes(
            metadata, protocol, streamed, tracer.options.convention
        )
        self._attempts = 0
        self._attempt_id = 0
        self._attempt_began = 0.0
        self._decision: Decision | None = None
        self.trace_id = f"{parent.trace_id:032x}"

    def departs(self, decision: Decision, metadata: Metadata) -> Metadata:
        """See `contract.RequestTrace`."""
        self._attempts += 1
        self._decision = decision
        self._attempt_id = self._tracer.new_id()
        self._attempt_began = self._tracer.clock.monotonic()
        parent = self._parent
        header = trace_context.traceparent(parent.trace_id, self._attempt_id, parent.flags)
        return trace_context.passed_on(metadata, header, parent.state)

    def moved(self, receipt: Receipt, reason: str) -> None:
        """See `contract.RequestTrace`."""
        self._put_attempt(receipt, RowOutcome.MOVED, reason)

    def ended(self, receipt: Receipt | None, outcome: RowOutcome, reason: str, policy: str) -> None:
        """See `contract.RequestTrace`."""
        if self._decision is not None:
            self._put_attempt(receipt, outcome, reason)
        options = self._tracer.options
        made = self._call | attributes.request_attributes(self._request, options.tenant)
        made[names.POLICY] = policy
        if receipt is not None:
            made |= attributes.decision_attributes(receipt.decision)
            made |= attributes.receipt_attributes(receipt)
            made |= attributes.outcome_attributes(receipt)
        self._put(
            self._name,
            self._span_id,
            self._parent.span_id,
            True,
            self._began,
            _told(made, outcome, reason),
            outcome in _FAILED,
        )

    def _put_attempt(self, receipt: Receipt | None, outcome: RowOutcome, reason: str) -> None:
        decision, self._decision = self._decision, None
        if decision is None:
            return
        request, operation = self._request, self._operation
        of_model = attributes.model_attributes(
            request, decision, operation, self._tracer.options.convention
        )
        made = self._call | attributes.server_attributes(decision) | of_model
        # Of a server.
        made.pop(names.HTTP_ROUTE, None)
        made |= attributes.decision_attributes(decision)
        made[names.ATTEMPT] = self._attempts
        if receipt is not None:
            made |= attributes.receipt_attributes(receipt)
        self._put(
            f"{operation} {request.model}" if of_model and operation else self._name,
            self._attempt_id,
            self._span_id,
            False,
            self._attempt_began,
            _told(made, outcome, reason),
            outcome in _FAILED,
        )

    def _put(
        self,
        name: str,
        span_id: int,
        parent_id: int,
        is_server: bool,
        began: float,
        made: Attributes,
        failed: bool,
    ) -> None:
        tracer, parent = self._tracer, self._parent
        tracer.put(
            Span(
                name,
                parent.trace_id,
                span_id,
                parent_id,
                is_server and parent_id != 0,
                parent.flags,
                parent.state,
                is_server,
                round((self._zero_s + began) * _NS),
                round((self._zero_s + tracer.clock.monotonic()) * _NS),
                failed,
                made,
            )
        )


def _told(made: Attributes, outcome: RowOutcome, reason: str) -> Attributes:
    made[names.OUTCOME] = str(outcome)
    if reason:
        made[names.REASON] = reason
        made[names.ERROR_TYPE] = reason
    return made
