"""The Protocols behind which every vendor, store and clock stands. Imports nothing outward."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from router.errors import UpstreamError
from router.model import (
    Decision,
    Endpoint,
    Forecast,
    FoundEndpoint,
    HttpJudge,
    Intensity,
    Load,
    Receipt,
    Request,
    RowOutcome,
    RulesJudge,
    Signal,
)

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]


class Clock(Protocol):
    """The only way to learn the time. Built once, in app."""

    def now(self) -> float:
        """Unix seconds UTC; a replay may run it faster than the wall."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back, always at wall speed, for measuring durations."""
        ...


class Rng(Protocol):
    """The only way to be random. ``random.Random`` satisfies it."""

    def random(self) -> float:
        """Uniform in [0, 1)."""
        ...


class CarbonSource(Protocol):
    """Intensity as a source knows it; never invents a value."""

    name: str
    signal: Signal

    async def read(self, grid_zones: Sequence[str], now: float) -> Mapping[str, Intensity]:
        """The latest value per grid zone known at ``now``; a zone without one is left out.

        Raises DataError when the source as a whole cannot answer.
        """
        ...


@runtime_checkable
class ForecastSource(Protocol):
    """A published forecast, as the publisher issued it."""

    name: str
    signal: Signal

    async def forecast(
        self, grid_zones: Sequence[str], now: float, horizon_h: int
    ) -> Mapping[str, Forecast]:
        """The newest forecast per grid zone covering ``now`` .. ``now + horizon_h`` hours."""
        ...


class Forecaster(Protocol):
    """Turns what was observed into now and the coming hours; pure, no I/O."""

    def observe(self, grid_zone: str, intensity: Intensity) -> None:
        """Take in one observation; an older or repeated one changes nothing."""
        ...

    def learn(self, grid_zone: str, past: Sequence[Intensity]) -> None:
        """Take in a history, oldest first: cheaper than to observe one after the other."""
        ...

    def forget(self, grid_zone: str) -> None:
        """Begin anew with a grid zone: what was observed was of a wrong time."""
        ...

    def forecast(self, grid_zone: str, now: float, horizon_h: int) -> Forecast:
        """Slots from the one containing ``now`` on. Raises MissingIntensityError without data."""
        ...


class Probe(StrEnum):
    """What came of asking a server whether it is ready. UNKNOWN: it answered, but not that."""

    READY = "ready"
    NOT_READY = "not_ready"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    SILENT = "silent"


class UnaryReply(NamedTuple):
    """A backend's answer, as bytes."""

    payload: bytes
    initial_metadata: Metadata
    trailers: Metadata


class UpstreamStream(Protocol):
    """One request's answers from one backend."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Messages in order; ends when the backend ends. Raises UpstreamError leaves."""
        ...

    def initial_metadata(self) -> Metadata:
        """What came before the first message; empty before that, and where the transport has
        none to pass on."""
        ...

    def trailers(self) -> Metadata:
        """Trailing metadata; empty before the end."""
        ...

    def cancel(self) -> None:
        """Stop upstream work at once. Safe to call twice and after the end."""
        ...


class Backend(Protocol):
    """The transport to endpoints of one protocol. Cancelling a call cancels it upstream."""

    async def unary(
        self, endpoint: Endpoint, payload: bytes, metadata: Metadata, timeout_s: float
    ) -> UnaryReply:
        """One request, one answer. Raises UpstreamError leaves."""
        ...

    def stream(
        self, endpoint: Endpoint, payload: bytes, metadata: Metadata, timeout_s: float
    ) -> UpstreamStream:
        """One request, 0..n answers."""
        ...

    async def ask(
        self, endpoint: Endpoint, method: str, payload: bytes, metadata: Metadata, timeout_s: float
    ) -> UnaryReply:
        """One question about the server or a model; ``method``: as the protocol names it.

        Raises UpstreamError leaves.
        """
        ...

    async def probe(self, endpoint: Endpoint, timeout_s: float) -> Probe:
        """Ask the server whether it is ready."""
        ...

    async def probe_model(
        self, endpoint: Endpoint, model: str, version: str, timeout_s: float
    ) -> Probe:
        """Ask the server whether it has a model ready."""
        ...

    async def reset(self, endpoint: Endpoint) -> None:
        """Give up the connections to an endpoint: calls there end with UpstreamLostError, later
        ones connect anew."""
        ...

    async def prune(self, addresses: Collection[str]) -> None:
        """Close the connections to every address that is not among ``addresses``, at once."""
        ...

    async def redirect(self, address: str, hosts: Sequence[str]) -> None:
        """New calls to ``address`` go to ``hosts``; returns when the others have ended."""
        ...

    async def renew(self, address: str) -> None:
        """Connections to ``address`` are made anew, as it is to be reached by now: new calls use
        those, calls under way finish. Returns when they have, or after a while."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class FindingsListener(Protocol):
    """Who is told what a place of discovery has. Must not block."""

    def found(self, endpoints: Sequence[FoundEndpoint]) -> None:
        """All that is there now, in place of what was told before."""
        ...

    def failed(self, why: str) -> None:
        """It cannot be told what is there; what was told last is the best that is known."""
        ...


class EndpointFinder(Protocol):
    """A place where endpoints are found that come and go."""

    async def run(self, listener: FindingsListener) -> None:
        """Tell ``listener`` what is there, and whenever that changes or cannot be told. Ends only
        by being cancelled: what fails is tried again, ever more rarely, for ever."""
        ...


class LoadSource(Protocol):
    """What endpoints say of their own load."""

    async def read(self, endpoint: Endpoint, now: float) -> Load:
        """Raises DataError when the endpoint's metrics cannot be read: never a zero instead."""
        ...


class StateStore(Protocol):
    """What several gateways share: memory is the embedded default, Redis what processes share.

    Keys, counters, holds and rooms are apart: one name may stand in each. Every call is one round
    trip at most and atomic by itself; a store that cannot answer raises StateStoreError. Nothing
    on the way of a request waits for one.
    """

    async def put(self, key: str, value: bytes, ttl_s: float, now: float) -> None:
        """Store until ``now + ttl_s``; infinite: until it is replaced, for what nobody renews."""
        ...

    async def put_all(self, values: Mapping[str, bytes], ttl_s: float, now: float) -> None:
        """As `put` of each; when it fails, some of them may be stored."""
        ...

    async def get(self, key: str, now: float) -> bytes | None:
        """The value, or None when absent or expired."""
        ...

    async def scan(self, prefix: str, now: float) -> Mapping[str, bytes]:
        """Every live key that starts with ``prefix``; takes several round trips."""
        ...

    async def add(self, counter: str, amount: int, ttl_s: float, now: float) -> int:
        """What ``counter`` comes to with ``amount`` (of either sign) added; an absent or expired
        one is 0. It lives until ``now + ttl_s`` from the last call on."""
        ...

    async def acquire(self, name: str, holder: str, ttl_s: float, now: float) -> int:
        """Become or stay the only holder of ``name`` for ``ttl_s``; 0 when another holds it.

        Else a fencing token: the same as long as a holder stays without a break, larger than any
        before with each that becomes it, so that what an earlier holder still writes is told.
        """
        ...

    async def release(self, name: str, holder: str) -> None:
        """Give ``name`` up if ``holder`` holds it; else nothing."""
        ...

    async def exchange(
        self, room: str, member: str, row: bytes, ttl_s: float, now: float
    ) -> Mapping[str, bytes]:
        """Put ``member``'s row into ``room`` until ``now + ttl_s``, then read the room: every live
        row by member, its own among them.

        Of two members that exchange, the later one reads the earlier one's row.
        """
        ...

    async def leave(self, room: str, member: str) -> None:
        """Take ``member``'s row out of ``room``, if there is one."""
        ...

    async def close(self) -> None:
        """Give up what it holds open; it is not used afterwards."""
        ...


class SequencePins(Protocol):
    """Which endpoint holds the state of which sequence; on the hot path, so nothing waits."""

    def find(self, model: str, sequence_id: str) -> str:
        """The endpoint that holds a sequence; "" when none does."""
        ...

    def keep(self, model: str, sequence_id: str, endpoint: str) -> None:
        """From now on ``endpoint`` holds the sequence."""
        ...

    def drop(self, model: str, sequence_id: str) -> None:
        """Nobody holds the sequence any more."""
        ...


class Places(Protocol):
    """Places at endpoints that several processes share; on the hot path, so nothing waits."""

    def refresh(self, now: float, at_once: bool = False) -> None:
        """Take in what the others hold, a moment old or ``at_once``; ``now``: monotonic, s."""
        ...

    def claim(self, endpoint: str, max_in_flight: int) -> bool:
        """Whether there is room for one more request; if so it is taken at once."""
        ...


class StatedLoad(NamedTuple):
    """What an answer says of its server's load: requests that run and wait there, and the used
    share of its cache, 0 to 1. Within bounds; NaN of what it does not say, or says out of them."""

    running: float
    queued: float
    kv_fraction: float


class StatedTimes(NamedTuple):
    """Where a server says that one request's time went, by its own clock, ms; NaN of what it does
    not say. One after the other: ``queue_ms`` until it began with the request, ``reading_ms`` from
    then until the first token, ``decoding_ms`` from that to the last."""

    queue_ms: float = math.nan
    reading_ms: float = math.nan
    decoding_ms: float = math.nan


UNTIMED = StatedTimes()


class BackendReport(NamedTuple):
    """What a backend said of one request's cost; NaN where it said nothing usable.

    ``energy_j``: attributional IT joules; ``marginal_energy_j``: short-run marginal IT joules.
    ``input_tokens``: of the whole prompt; ``cached_tokens``: of the prompt, not read.
    Figures are as they came, checked by nobody. ``malformed``: something in it was no figure.
    ``load``: of the server, beside what the request cost; None where it says nothing of it.
    ``times``: where the request's time went.
    """

    energy_j: float
    marginal_energy_j: float
    output_tokens: float
    malformed: bool = False
    cached_tokens: float = math.nan
    input_tokens: float = math.nan
    load: StatedLoad | None = None
    times: StatedTimes = UNTIMED


class AnswerSize(NamedTuple):
    """What an answer tells of its length without being decoded; NaN where it does not.

    ``output_bytes``: of its output; ``output_tokens``: as it states itself, and ``cached_tokens``:
    of the prompt, not read; ``input_tokens``: of the whole prompt; ``times``: where its time went.
    """

    output_bytes: float
    output_tokens: float
    cached_tokens: float = math.nan
    input_tokens: float = math.nan
    times: StatedTimes = UNTIMED


class ReportReader(Protocol):
    """Finds what a backend itself says of a request's cost and length; never raises."""

    def read(self, trailers: Metadata) -> BackendReport:
        """All NaN when there is none."""
        ...

    def failure(self, message: bytes, streamed: bool) -> UpstreamError | None:
        """What an answer under status OK says that went wrong, or is none: None of a good one."""
        ...

    def pieces(self, message: bytes) -> int:
        """How many pieces of output a streamed message brings; 0 of one that brings none."""
        ...

    def size(self, message: bytes, streamed: bool) -> AnswerSize:
        """Of one answer."""
        ...


class StatedModel(NamedTuple):
    """What a server says of a model that it is to serve. ``listed``: whether it names it, None
    where it names none; ``context_tokens``: input plus output that it takes, NaN where it does not
    say, or says what is no such length."""

    listed: bool | None
    context_tokens: float


class ModelCatalogue(Protocol):
    """What servers say of their models, beside whether they are ready."""

    async def models(self, endpoint: Endpoint, timeout_s: float) -> Mapping[str, StatedModel]:
        """By name, of each that the endpoint is to serve. Raises UpstreamError leaves."""
        ...


class Upstream(NamedTuple):
    """How the endpoints of one protocol are reached, and how what they say is read.

    ``reports_first``: whether a stream's report comes before its messages, rather than after.
    ``catalogue``: None where servers of the protocol do not say what their models take.
    """

    backend: Backend
    reports: ReportReader
    reports_first: bool = False
    catalogue: ModelCatalogue | None = None


class JudgedAnswer(NamedTuple):
    """An answer of a ``variant`` of an ``alias``, with its ``request``: the JSON of both, as they
    travel over the API of ``path``."""

    alias: str
    variant: str
    path: str
    request: bytes | memoryview
    answer: bytes | memoryview


class Verdict(StrEnum):
    """What became of an answer's judging. NONE: nobody could say."""

    ACCEPTED = "accepted"
    NOT_ACCEPTED = "not_accepted"
    NONE = "none"


class AnswerJudge(Protocol):
    """Says whether an answer is good enough. What it takes itself is in no figure here."""

    async def accepts(
        self, judge: RulesJudge | HttpJudge, judged: JudgedAnswer, timeout_s: float
    ) -> bool:
        """By the ``judge`` that the alias names. Raises JudgeError where there is no verdict."""
        ...


class LoadListener(Protocol):
    """Who is told of load that came with an answer. Must not block: called on the hot path."""

    def told(self, endpoint: str, load: StatedLoad, since: float) -> None:
        """The server said so at ``since`` (monotonic, s) or later."""
        ...


class Ledger(Protocol):
    """Where it is kept what every attempt, and every request, came to. Must not block, and never
    raises: called on the hot path."""

    def ended(self, receipt: Receipt, outcome: RowOutcome, reason: str = "") -> None:
        """An attempt ended. ``reason``: from the error tree, of what is not answered."""
        ...

    def turned_away(
        self,
        request: Request,
        outcome: RowOutcome,
        reason: str,
        policy: str,
        finished_at: float,
        e2e_ms: float,
    ) -> None:
        """A request ended before it went anywhere, at this unix time; ``policy``: that decided."""
        ...


class RequestTrace(Protocol):
    """One request, as a trace tells of it: each attempt departs and ends, then the request ends,
    once. Never raises and never blocks: called on the hot path.

    ``trace_id``, ``span_id``: hexadecimal, "" where nothing of it is kept.
    """

    trace_id: str
    span_id: str

    def departs(self, decision: Decision, metadata: Metadata) -> Metadata:
        """An attempt goes to its endpoint; what ``metadata`` of the call is to be there, so that
        what the endpoint does is part of it."""
        ...

    def moved(self, receipt: Receipt, reason: str) -> None:
        """It failed, for a reason of the error tree, and another follows."""
        ...

    def ended(self, receipt: Receipt | None, outcome: RowOutcome, reason: str, policy: str) -> None:
        """The request ended, and with it the attempt under way; ``receipt``: of that, None where
        there was none. ``policy``: that decided."""
        ...


class Tracer(Protocol):
    """Makes traces of requests; its answer is random, and depends on what the caller does."""

    def begin(
        self, request: Request, metadata: Metadata, protocol: str, streamed: bool
    ) -> RequestTrace | None:
        """``metadata``, ``protocol``: of the call that it came by; ``streamed``: it has any number
        of answers. None where nothing is to be told of it, and its headers stay as they are."""
        ...


class Observer(Protocol):
    """Who is told of what happens to requests. Must not block: called on the hot path."""

    def decided(self, seconds: float, trace_id: str = "") -> None:
        """A decision took ``seconds``. ``trace_id``: of its request, "" where none is kept."""
        ...

    def finished(self, receipt: Receipt, added_latency_s: float, trace_id: str = "") -> None:
        """A request was answered; ``added_latency_s``: from its arrival until it went upstream."""
        ...

    def retried(self, reason: str) -> None:
        """A request moves on to another endpoint because of an error with this reason."""
        ...

    def ejected(self, endpoint: str) -> None:
        """An endpoint was taken out."""
        ...

    def judged(self, alias: str, verdict: Verdict) -> None:
        """Something was said, or was to be said, of an answer of one of its variants."""
        ...
