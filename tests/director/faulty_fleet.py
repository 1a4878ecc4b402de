"""A fleet of model servers that break in every way known, before a director in virtual time.

The director, its health, leases and retries, and the prober are the product's own; only servers,
callers and time are not. Whatever is random comes from one seed.
"""

import asyncio
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace

from router.app.endpoint_loads import EndpointLoads
from router.app.probing import Prober
from router.contract import Probe, UnaryReply, Upstream
from router.core.health import State
from router.core.lengths import LengthModel
from router.core.retry import RetryBudget
from router.director import Call, Director, Dispatcher, Parts, RequestLimits, View
from router.errors import CarbonRouterError, UpstreamError, UpstreamLostError
from router.model import Profile, Provenance, TaskProfile
from tests.director.support import Reports, leaf
from tests.factories import (
    NOW,
    board,
    endpoint,
    fleet,
    forecasts,
    health_settings,
    request,
    served,
    snapshot,
)

# How a server may be. ``ok`` is well; of the others, the ones that break connections or go silent
# are to be left within two seconds, the rest by what they answer.
SILENT = ("frozen",)
GONE = ("dead",)
ANSWERING = ("fault", "internal", "denied", "busy", "not_ready", "flaky", "breaking")
STUCK = ("stuck",)
FAULTS = (*SILENT, *GONE, *ANSWERING, *STUCK)
SERVICE_S = 0.2
TASK: Profile = TaskProfile(
    "task", 100.0, SERVICE_S * 1e3, 0.0, 64, 0.3, Provenance.ESTIMATED, "test"
)


@dataclass
class Server:
    """One server. ``since``: when it became what it is."""

    name: str
    mode: str = "ok"
    since: float = 0.0
    calls: dict = field(default_factory=dict)


class Budget(RetryBudget):
    """Remembers when it was asked in vain."""

    denied_at = -math.inf

    @property
    def balance(self):
        left = super().balance
        if left < 1.0:
            self.denied_at = now()
        return left


class Servers:
    """A Backend over servers that change their modes."""

    def __init__(self, names, rng):
        self.servers = {name: Server(name) for name in names}
        self.rng = rng
        self.steps = 0

    def become(self, name, mode):
        server = self.servers[name]
        if server.mode == mode:
            return
        server.mode, server.since = mode, now()
        if mode in ("dead", "breaking"):
            self._break(server)
        if mode not in ("frozen", "stuck"):
            # What it had stopped at goes on.
            for call in list(server.calls):
                if not call.done():
                    call.set_result("ok")

    def _break(self, server):
        for call in list(server.calls):
            if not call.done():
                call.set_exception(UpstreamLostError("gone"))

    async def unary(self, one, payload, metadata, timeout_s):
        self.steps += 1
        server = self.servers[one.name]
        if server.mode == "dead":
            raise leaf("refused")
        call = asyncio.get_running_loop().create_future()
        server.calls[call] = None
        try:
            async with asyncio.timeout(timeout_s):
                hangs = server.mode in ("frozen", "stuck")
                pause_s = math.inf if hangs else SERVICE_S * (0.5 + self.rng.random())
                if payload == b"bad" and not hangs:
                    pause_s = 0.01
                done, _ = await asyncio.wait([call], timeout=None if hangs else pause_s)
                if done:
                    call.result()
        except TimeoutError:
            raise leaf("timeout") from None
        finally:
            del server.calls[call]
        self._answer(server, payload)
        return UnaryReply(b"answer", (), ())

    def _answer(self, server, payload):
        mode = server.mode
        if mode == "dead" or (mode == "breaking"):
            raise leaf("lost")
        if mode == "not_ready":
            raise leaf("fault")
        if mode in ("fault", "internal", "denied", "busy"):
            raise leaf(mode)
        if mode == "flaky" and self.rng.random() < 0.4:
            raise leaf("internal")
        if payload == b"bad":
            raise leaf("internal")

    async def probe(self, one, timeout_s):
        self.steps += 1
        server = self.servers[one.name]
        if server.mode == "dead":
            return Probe.REFUSED
        if server.mode == "frozen":
            await asyncio.sleep(timeout_s)
            if server.mode == "frozen":
                return Probe.SILENT
        return Probe.NOT_READY if server.mode == "not_ready" else Probe.READY

    async def probe_model(self, one, model, version, timeout_s):
        return Probe.READY

    async def reset(self, one):
        self._break(self.servers[one.name])

    async def close(self):
        pass


def now():
    return asyncio.get_running_loop().time()


class Time:
    def now(self):
        return NOW + now()

    def monotonic(self):
        return 1000.0 + now()


class World:
    """``favourites``: endpoints of the greenest region; ``others``: of the next two."""

    def __init__(self, seed, favourites=2, others=4, max_in_flight=200):
        self.rng = random.Random(seed)
        regions = ["near"] * favourites + ["mid", "far"] * (others // 2)
        names = [f"{region}-{index}" for index, region in enumerate(regions)]
        model = served(profile=TASK)
        self.fleet = fleet(
            *(
                endpoint(name, region, model, max_in_flight=max_in_flight)
                for name, region in zip(names, regions, strict=True)
            ),
            rtt_ms={"home": {"near": 10.0, "mid": 20.0, "far": 30.0}},
        )
        self.names = names
        self.backend = Servers(names, self.rng)
        self.snapshot = snapshot(self.fleet, carbon=forecasts(near=100, mid=200, far=300))
        self.board = board(self.snapshot, base_ejection_s=10.0, failure_percentage=10.0)
        self.budget = Budget(0.2, 10.0)
        self.retries = Counter()
        self.charged = 0
        self.lost = []
        self.ended_as = Counter()
        self.sent = Counter()
        self.answered = Counter()
        self.clock = Time()
        upstreams = {"oip": Upstream(self.backend, Reports())}
        self.dispatcher = Dispatcher(
            View(self.snapshot, self.board),
            Parts(
                upstreams, self, LengthModel(self.fleet.priors, 0.95), self.budget, self.clock,
                self.rng, ledger=self,
            ),
            RequestLimits(3, 900.0, 0.005, 0.001),
            identity="gw",
        )  # fmt: skip
        self.director = Director(self.dispatcher)
        settings = SimpleNamespace(health=health_settings())
        runtime = SimpleNamespace(
            board=self.board,
            config=SimpleNamespace(fleet=self.fleet, settings=settings),
            # No pages are read.
            loads=EndpointLoads(self.clock),
        )
        self.prober = Prober(runtime, upstreams, self, self.clock, self.rng)

    # The observer

    def decided(self, seconds, trace_id=""):
        pass

    def finished(self, receipt, added_latency_s, trace_id=""):
        pass

    def retried(self, reason):
        self.retries[reason] += 1

    def ejected(self, name):
        pass

    # The ledger

    def ended(self, receipt, outcome, reason=""):
        self.ended_as[outcome] += 1
        assert receipt.energy_j >= 0.0 and receipt.gco2e >= 0.0 and receipt.run_s >= 0.0

    def turned_away(self, request, outcome, reason, policy, finished_at, e2e_ms):
        self.ended_as[outcome] += 1

    # Traffic

    async def caller(self, tenant, rate, until, bad_share=0.0):
        """An open loop of requests with 10 s each."""
        async with asyncio.TaskGroup() as requests:
            while now() < until:
                await asyncio.sleep(self.rng.expovariate(rate))
                bad = self.rng.random() < bad_share
                requests.create_task(self._one(tenant, bad))

    async def _one(self, tenant, bad):
        self.sent[tenant] += 1
        payload = b"bad" if bad else b"good"
        sent_at = now()
        try:
            answer = await self.director.infer(Call(request(tenant=tenant), payload, (), 10.0))
        except CarbonRouterError as error:
            if not bad:
                attempts = error.attempts if isinstance(error, UpstreamError) else 0
                trials = self.dispatcher.trials.allowed("llama", tenant)
                spent = self.budget.denied_at >= sent_at or not trials or attempts == 3
                self.lost.append((sent_at, type(error).__name__, attempts, spent))
            return
        name = answer.receipt.decision.endpoint.name
        self.answered[name] += 1

    async def ticking(self):
        while True:
            await asyncio.sleep(0.1)
            self.budget.tick(self.clock.monotonic())
            self.dispatcher.digest()

    async def breaking(self, until, at_once=2, every_s=4.0, modes=FAULTS):
        """Break servers, ``at_once`` at most, and mend them."""
        while now() < until:
            await asyncio.sleep(self.rng.expovariate(1.0 / every_s))
            broken = [s.name for s in self.backend.servers.values() if s.mode != "ok"]
            if broken and (len(broken) >= at_once or self.rng.random() < 0.4):
                self.backend.become(self.rng.choice(broken), "ok")
            else:
                # The favourites more often: that is where it hurts.
                name = self.rng.choice(self.names[:2] * 3 + self.names)
                self.backend.become(name, self.rng.choice(modes))
        for name in self.names:
            self.backend.become(name, "ok")

    async def live(self, *stories):
        """The stories beside the prober and the ticks, until all of them ended."""
        async with asyncio.TaskGroup() as background:
            jobs = [
                background.create_task(self.prober.run()),
                background.create_task(self.ticking()),
            ]
            async with asyncio.TaskGroup() as group:
                for story in stories:
                    group.create_task(story)
            for job in jobs:
                job.cancel()

    @property
    def states(self):
        return {name: seat.state for name, seat in self.board.seats.items()}

    def healthy(self):
        return set(self.states.values()) == {State.HEALTHY}
