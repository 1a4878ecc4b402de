"""A director over scripted upstreams and hands that are set by the test: no sockets, no waiting."""

import asyncio
import math
from types import SimpleNamespace

from router.contract import AnswerSize, BackendReport, Probe, UnaryReply, Upstream
from router.core.lengths import LengthModel
from router.core.retry import RetryBudget
from router.director import NO_PROMPT, Call, Director, Dispatcher, Parts, RequestLimits, View
from router.errors import (
    UpstreamBusyError,
    UpstreamDeniedError,
    UpstreamFaultError,
    UpstreamInternalError,
    UpstreamLostError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamTooLargeError,
    UpstreamUnreachedError,
)
from tests.factories import (
    NOW,
    Dice,
    board,
    endpoint,
    fleet,
    forecasts,
    request,
    snapshot,
)

NOTHING_TOLD = BackendReport(math.nan, math.nan, math.nan)
LEAVES = {
    "fault": UpstreamFaultError("broken"),
    "internal": UpstreamInternalError("sorry"),
    "lost": UpstreamLostError("gone"),
    "denied": UpstreamDeniedError("no such model"),
    "busy": UpstreamBusyError("later"),
    "rejected": UpstreamRejectedError("your tensor"),
    "too_large": UpstreamTooLargeError("your tensor"),
    "timeout": UpstreamTimeoutError("too late"),
}


def leaf(name):
    """A fresh error of the tree: the director writes on those it sees."""
    if name in ("refused", "unseen"):
        return UpstreamUnreachedError(name, refused=name == "refused")
    model = LEAVES[name]
    return type(model)(str(model))


class Hands:
    """A clock that moves when told to."""

    def __init__(self):
        self.wall = NOW
        self.ticks = 1000.0

    def now(self):
        return self.wall

    def monotonic(self):
        return self.ticks

    def advance(self, seconds):
        self.wall += seconds
        self.ticks += seconds


class Watch:
    """An observer that remembers."""

    def __init__(self):
        self.decisions = []
        self.receipts = []
        self.retries = []
        self.ejections = []
        self.verdicts = []

    def decided(self, seconds, trace_id=""):
        self.decisions.append(seconds)

    def finished(self, receipt, added_latency_s, trace_id=""):
        self.receipts.append((receipt, added_latency_s))

    def retried(self, reason):
        self.retries.append(reason)

    def ejected(self, endpoint_name):
        self.ejections.append(endpoint_name)

    def judged(self, alias, verdict):
        self.verdicts.append((alias, str(verdict)))


class Kept:
    """A ledger that remembers: (outcome, reason, receipt) of attempts, and of what went nowhere
    with the request in the receipt's place."""

    def __init__(self):
        self.rows = []

    def ended(self, receipt, outcome, reason=""):
        self.rows.append((outcome, reason, receipt))

    def turned_away(self, request, outcome, reason, policy, finished_at, e2e_ms):
        self.rows.append((outcome, reason, request))

    @property
    def told(self):
        return [(str(outcome), reason) for outcome, reason, _ in self.rows]


class Reports:
    """What backends report, by the trailer ``report``; nothing without it. Answers are bytes of
    text that state no count, and tell of a failure where they begin with it."""

    def read(self, trailers):
        return next((value for key, value in trailers if key == "report"), NOTHING_TOLD)

    def failure(self, message, streamed):
        told = message.removeprefix(b"failed: ")
        return None if told == message else UpstreamInternalError(told.decode())

    def pieces(self, message):
        return 1

    def size(self, message, streamed):
        return AnswerSize(float(len(message)), math.nan)


def report(energy_j=math.nan, marginal_energy_j=math.nan, output_tokens=math.nan, **prompt):
    """Trailers with which `Reports` reads these figures."""
    told = BackendReport(energy_j, marginal_energy_j, output_tokens, **prompt)
    return (("report", told),)


class Says:
    """A behaviour: ``messages`` (of a unary call: the first), then ``error`` or a good end.

    ``pauses_s``: by how much the clock moves before each message; ``end_s`` before the end.
    ``turns``: how often the event loop gets a turn at each await point.
    """

    def __init__(
        self, *messages, error=None, trailers=(), initial=(), pauses_s=(), end_s=0.0, turns=1
    ):
        self.messages = messages
        self.error = error
        self.trailers = trailers
        self.initial = initial
        self.pauses_s = pauses_s
        self.end_s = end_s
        self.turns = turns


def fails(name, end_s=0.0, **changes):
    return Says(error=leaf(name), end_s=end_s, **changes)


class Upstreams:
    """A Backend that behaves as scripted, by endpoint name; a list is worked off call by call."""

    def __init__(self, clock, **script):
        self.clock = clock
        self.script = {name: value if isinstance(value, list) else [value] for name, value in
                       script.items()}  # fmt: skip
        self.calls = []
        self.streams = []
        self.running = 0
        self.on_call = lambda name: None

    @property
    def asked(self):
        """Names of the endpoints asked, in order."""
        return [call.endpoint for call in self.calls]

    async def unary(self, the_endpoint, payload, metadata, timeout_s):
        return await self.ask(the_endpoint, "unary", payload, metadata, timeout_s)

    async def ask(self, the_endpoint, method, payload, metadata, timeout_s):
        says = self._next(the_endpoint, method, payload, metadata, timeout_s)
        self.running += 1
        try:
            await self._wait(says, says.end_s)
            if says.error is not None:
                raise says.error
            return UnaryReply(says.messages[0], says.initial, says.trailers)
        finally:
            self.running -= 1

    def stream(self, the_endpoint, payload, metadata, timeout_s):
        says = self._next(the_endpoint, "stream", payload, metadata, timeout_s)
        stream = Stream(self, says)
        self.streams.append(stream)
        return stream

    async def probe(self, the_endpoint, timeout_s):
        return Probe.READY

    async def probe_model(self, the_endpoint, model, version, timeout_s):
        return Probe.READY

    async def reset(self, the_endpoint):
        pass

    async def close(self):
        pass

    def _next(self, the_endpoint, method, payload, metadata, timeout_s):
        name = the_endpoint.name
        self.calls.append(
            SimpleNamespace(
                endpoint=name, method=method, payload=payload, metadata=metadata,
                timeout_s=timeout_s,
            )
        )  # fmt: skip
        self.on_call(name)
        steps = self.script[name]
        says = steps.pop(0) if len(steps) > 1 else steps[0]
        if isinstance(says, Exception):
            raise says
        return says

    async def _wait(self, says, seconds):
        for _ in range(says.turns):
            await asyncio.sleep(0)
        self.clock.advance(seconds)


class Stream:
    """One scripted upstream stream; ``open`` until it ended or was cancelled."""

    def __init__(self, upstreams, says):
        self._upstreams = upstreams
        self._says = says
        self._trailers = ()
        self._ended = False
        self.cancelled = False
        self.started = False

    @property
    def open(self):
        return self.started and not (self.cancelled or self._ended)

    async def __aiter__(self):
        self.started = True
        says = self._says
        try:
            pauses_s = (*says.pauses_s, *(0.0 for _ in says.messages))
            for message, pause_s in zip(says.messages, pauses_s, strict=False):
                await self._upstreams._wait(says, pause_s)
                yield message
            await self._upstreams._wait(says, says.end_s)
            if says.error is not None:
                raise says.error
            self._trailers = says.trailers
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self._ended = True

    def initial_metadata(self):
        return ()

    def trailers(self):
        return self._trailers

    def cancel(self):
        self.cancelled = True


class Room:
    """A director and all that it was built from. Endpoints: ``a``, ``b``, ``c``, least grams
    first, each in a region of its own."""

    def __init__(self, script=None, the_fleet=None, the_policy=None, carbon=None, **options):
        self.clock = Hands()
        self.backend = Upstreams(self.clock, **(script or {}))
        self.watch = Watch()
        self.ledger = Kept()
        self.fleet = the_fleet or three()
        self.snapshot = snapshot(self.fleet, the_policy, LADDER if carbon is None else carbon)
        self.board = board(self.snapshot, **options.pop("health", {}))
        limits = RequestLimits(3, 900.0, 0.005, 0.001)._replace(**options.pop("limits", {}))
        budget = options.pop("budget", RetryBudget(0.2, 10.0))
        tracer, judge = options.pop("tracer", None), options.pop("judge", None)
        assert not options, options
        self.lengths = LengthModel(self.fleet.priors, self.snapshot.policy.quantile)
        self.dispatcher = Dispatcher(
            View(self.snapshot, self.board),
            Parts(
                {"oip": Upstream(self.backend, Reports())}, self.watch, self.lengths, budget,
                self.clock, Dice(), ledger=self.ledger, tracer=tracer,
                judge=judge,
            ),
            limits,
            identity="gw",
        )  # fmt: skip
        self.director = Director(self.dispatcher)

    def seat(self, name):
        return self.board.seats[name]

    def out(self, name):
        """Take an endpoint out as a probe does that finds it not ready."""
        seat = self.seat(name)
        seat.health.probe_ends(self.clock.monotonic(), Probe.NOT_READY, 0.5, 0.0)
        seat.publish_load()

    def on_probation(self, name):
        """Let an endpoint prove itself, as after a connection that broke."""
        self.seat(name).health.lose(self.clock.monotonic())
        self.seat(name).publish_load()
        self.clock.advance(0.01)

    def outlier(self, name, model=("llama", "")):
        """What is known of how an endpoint answers of a model."""
        return self.seat(name).outliers[model]

    @property
    def in_flight(self):
        return {name: seat.in_flight for name, seat in self.board.seats.items() if seat.in_flight}

    async def infer(
        self, deadline_s=None, payload=b"ask", metadata=(), prompt=NO_PROMPT, **changes
    ):
        return await self.director.infer(
            Call(request(**changes), payload, metadata, deadline_s, prompt)
        )

    def stream(self, deadline_s=None, payload=b"ask", metadata=(), **changes):
        return self.director.stream(Call(request(**changes), payload, metadata, deadline_s))

    async def collect(self, deadline_s=None, **changes):
        """The routed stream after its end, and its messages."""
        routed = self.stream(deadline_s, **changes)
        return routed, [message async for message in routed]


def three(**changes):
    """Endpoints a, b and c in the regions near, mid and far, 10, 20 and 30 ms away."""
    names = {"a": "near", "b": "mid", "c": "far"}
    rtt_ms = {"home": {"near": 10.0, "mid": 20.0, "far": 30.0}}
    made = [endpoint(name, region, **changes) for name, region in names.items()]
    return fleet(*made, rtt_ms=rtt_ms)


LADDER = forecasts(near=100, mid=200, far=300)
ANSWER = Says(b"answer")
