"""The console of a gateway process: looks at it once a tick while somebody looks on."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from router.app.observers import LoggedRequests
from router.app.runtime import Runtime
from router.app.turns import Turns
from router.carbon.chain.combine import LEADS_H
from router.config.settings import Config
from router.console.decisions import ShownDecision, ShownDecisions, explained, explanation_document
from router.console.feed import Event, Feed
from router.console.outlooks import PastHours, grid_document
from router.console.scene import (
    Glance,
    Scope,
    decision_documents,
    fleet_document,
    may_see,
    tick_document,
)
from router.console.totals import FAMILIES, IN_FLIGHT, Rates, in_flight_of, totals_of
from router.console.traffic import OwnTotals, ReceiptTraffic
from router.console.what_if import effect_document, policy_names, what_if
from router.contract import Clock, Rng
from router.core.carbon_budgets import AccountView
from router.core.seen import DecisionKind
from router.director import Dispatcher
from router.director.recording import Certain, Recorder
from router.errors import ConfigError
from router.model import Intensity, Receipt
from router.telemetry.exposition import samples
from router.telemetry.view import Json

TICK_S: Final = 1.0
# Of one processor: a tick that takes longer is followed by a longer rest.
MOST_OF_A_CORE: Final = 0.01
_LONGEST_S: Final = 10.0
# Who comes back within so long goes on where it was.
LINGER_S: Final = 30.0
# Decisions to be opened, a second; refusals and what follows failures come first.
SHOWN_PER_S: Final = 4.0
_CERTAIN: Final = Certain(2.0, 8.0)
# Of a gateway that nobody looked at yet, which may be a busy one.
_FIRST_SHARE: Final = 0.02
# As many ticks as the line over time begins with.
_HISTORY: Final = 300


@dataclass(slots=True)
class _Audience:
    """Those who may see the same. ``empty_since``: monotonic s, inf while somebody looks on."""

    feed: Feed
    own: OwnTotals | None
    empty_since: float = math.inf
    config: Config | None = None
    policy: str = ""
    snapshot: int = -1
    zones: Json = None


class ConsoleRounds:
    """`router.console.pages.ConsoleSource` of one process; `attach` before it is asked."""

    def __init__(
        self,
        runtime: Runtime,
        registry: CollectorRegistry,
        observer: LoggedRequests,
        budgets: Callable[[], Iterable[AccountView]],
        wall: Clock,
        rng: Rng,
        workers: int = 1,
    ) -> None:
        """``wall``: whatever day is replayed; ``rng``: of its own."""
        self._runtime = runtime
        self._registry = registry
        self._observer = observer
        self._budgets = budgets
        self._wall = wall
        self._workers = workers
        self._boot = secrets.token_hex(6)
        self._audiences: dict[Scope, _Audience] = {}
        self._feeds = 0
        self._woken = asyncio.Event()
        self._rates = Rates()
        self._traffic = ReceiptTraffic()
        self._decisions = ShownDecisions(prefix=f"{self._boot}-")
        self._rng = rng
        self._past = PastHours(self._observed)
        self._history: deque[list[Json]] = deque(maxlen=_HISTORY)
        self._answered_per_s = 0.0
        self._last_tick = math.nan
        self._dispatcher: Dispatcher | None = None
        self._ledgers: Recorder | None = None
        self._recorder: Recorder | None = None
        # One at a time: each takes a core for a moment, a look that of the event loop.
        self._thinking = Turns()
        self._looking = Turns()

    def attach(self, dispatcher: Dispatcher) -> None:
        """Look at decisions of ``dispatcher``, whose recorder is the ledger's."""
        self._dispatcher = dispatcher
        self._ledgers = dispatcher.recorder

    def join(self, scope: Scope) -> Feed:
        """See `ConsoleSource`."""
        audience = self._audiences.get(scope)
        if audience is None:
            own = None if scope.is_all else OwnTotals(self._wall.now())
            # Each begins to count anew: ids of one say nothing of where another is.
            self._feeds += 1
            feed = Feed(f"{self._boot}.{self._feeds}")
            audience = self._audiences[scope] = _Audience(feed, own)
        audience.empty_since = math.inf
        self._begin()
        self._woken.set()
        return audience.feed

    def beginning(self, scope: Scope, feed: Feed) -> bytes:
        """See `ConsoleSource`."""
        events = []
        if scope.is_all and self._history:
            events.append(Event("history", list(self._history)))
        events += [
            Event(name, feed.latest[name]) for name in ("fleet", "grid") if name in feed.latest
        ]
        shown = decision_documents(self._decisions.all(), scope)
        if shown:
            events.append(Event("decisions", shown))
        # The next tick follows at once, as it has been woken for: no older one is told.
        return feed.beginning(events)

    async def state(self, scope: Scope) -> Mapping[str, object] | None:
        """See `ConsoleSource`."""
        if self._dispatcher is None:
            return None
        async with self._looking.turn() as turn:
            began = time.thread_time()
            told = await self._state(scope)
            turn.took(time.thread_time() - began)
        return told

    async def _state(self, scope: Scope) -> Mapping[str, object]:
        audience = self._audiences.get(scope)
        glance = await self._look(is_tick=False)
        tick = tick_document(glance, scope, None if audience is None else audience.own)
        if audience is not None and "tick" in audience.feed.latest:
            # What is of a while, as of the last tick; all else as it is now.
            last = audience.feed.latest["tick"]
            assert isinstance(last, dict)
            tick |= {name: last[name] for name in ("rates", "flows")}
        return {
            "format": 1,
            "boot": self._boot if audience is None else audience.feed.boot,
            "seq": 0 if audience is None else audience.feed.seq,
            "fleet": self._fleet(scope),
            "grid": self._grid(),
            "tick": tick,
            "decisions": decision_documents(self._decisions.all(), scope),
        }

    async def decision(self, scope: Scope, key: str) -> Mapping[str, object] | None:
        """See `ConsoleSource`."""
        one = self._decisions.find(key)
        if one is None or not may_see(one, scope):
            return None
        async with self._thinking.turn() as turn:
            document = await turn.aside(lambda: explanation_document(one, explained(one)))
        (row,) = decision_documents([one], scope)
        return {"decision": row, "explanation": document}

    async def what_if(self, scope: Scope, policy: str) -> Mapping[str, object]:
        """See `ConsoleSource`."""
        if policy not in policy_names():
            raise ConfigError("policy", [("", "choose one of " + ", ".join(policy_names()))])
        async with self._thinking.turn() as turn:
            mine = [one for one in self._decisions.all() if may_see(one, scope)]
            effect = await turn.aside(lambda: what_if(mine, policy))
        first = [one for one in mine if one.kept.kind is DecisionKind.FIRST]
        since = min((one.kept.sight.seen.at for one in first), default=None)
        return {"effect": effect_document(effect), "decisions": len(first), "since": since}

    async def run(self) -> None:
        """Until nobody looks on any more; then wait for somebody."""
        self._woken.clear()
        if not self._audiences:
            await self._woken.wait()
        rest_s = TICK_S
        while self._audiences:
            # Whoever comes from here on is in it, or wakes the next.
            self._woken.clear()
            began = time.thread_time()
            await self.tick()
            took_s = time.thread_time() - began
            rest_s = min(max(TICK_S, took_s / MOST_OF_A_CORE), _LONGEST_S)
            self._see_off()
            if self._audiences and not await self._rested(rest_s):
                continue
        self._end()

    async def tick(self) -> None:
        """Look once, and tell all who look on."""
        self._publish(await self._look(is_tick=True))

    async def _rested(self, seconds: float) -> bool:
        """False where somebody new came meanwhile, who is not to wait for the first tick."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return True
        # Whoever comes and goes all the time moves no more than this.
        await asyncio.sleep(TICK_S / 4.0)
        return False

    def _begin(self) -> None:
        dispatcher = self._dispatcher
        if self._recorder is not None or dispatcher is None:
            return
        # A generator of its own, and none of the ledger's share.
        self._recorder = Recorder(
            self._decisions.keep, _FIRST_SHARE, self._rng, _CERTAIN, self._ledgers
        )
        self._answered_per_s = 0.0
        dispatcher.recorder = self._recorder
        self._observer.onlooker = self._traffic.take

    def _end(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.recorder = self._ledgers
        self._observer.onlooker = None
        self._recorder = None
        self._decisions.clear()
        self._traffic = ReceiptTraffic()
        self._rates = Rates()
        self._last_tick = math.nan

    def _see_off(self) -> None:
        now = self._wall.monotonic()
        for scope, audience in list(self._audiences.items()):
            if audience.feed.onlookers:
                audience.empty_since = math.inf
            else:
                audience.empty_since = min(audience.empty_since, now)
            if now - audience.empty_since > LINGER_S:
                del self._audiences[scope]

    async def _look(self, *, is_tick: bool) -> Glance:
        """``is_tick``: what came since the last one is taken in."""
        assert self._dispatcher is not None
        self._dispatcher.digest()
        if self._workers > 1:
            # All workers' files are read: that takes a while, and no request waits for it.
            found = await asyncio.to_thread(samples, self._registry, (*FAMILIES, IN_FLIGHT))
        else:
            found = samples(self._registry, FAMILIES)
        totals = totals_of(found)
        ticks = self._wall.monotonic()
        since = self._last_tick
        seconds = ticks - since if since == since else 0.0
        rates = None
        receipts: list[Receipt] = []
        answered = 0
        if is_tick:
            rates = self._rates.take(ticks, totals)
            owners = [one.owner for one in self._audiences if one.owner is not None]
            receipts, answered = self._traffic.turn(ticks, owners)
            self._sample(answered, seconds)
            self._last_tick = ticks
        return Glance(
            at=self._runtime.clock.now(),
            wall=self._wall.now(),
            ticks=ticks,
            seconds=seconds,
            totals=totals,
            rates=rates,
            endpoints=self._runtime.config.fleet.endpoints,
            seats=self._runtime.board.seats,
            in_flight=in_flight_of(found),
            receipts=receipts,
            answered=answered,
            traffic=self._traffic,
            budgets=list(self._budgets()),
            readiness=self._runtime.readiness(),
            share=0.0 if self._recorder is None else self._recorder.share,
        )

    def _sample(self, answered: int, seconds: float) -> None:
        """Let the share of decisions follow how many there are."""
        if self._recorder is None or not seconds > 0.0:
            return
        part = 0.3 if self._answered_per_s else 1.0
        self._answered_per_s += part * (answered / seconds - self._answered_per_s)
        share = min(1.0, SHOWN_PER_S / max(self._answered_per_s, SHOWN_PER_S))
        if not 0.67 < share / max(self._recorder.share, 1e-9) < 1.5:
            self._recorder.adopt(share)

    def _publish(self, glance: Glance) -> None:
        new = self._decisions.turn()
        told = {one.key: one for one in (*new, *self._decisions.answered(glance.receipts))}
        grid: dict[str, Json] | None = None
        rates = glance.rates
        if rates is not None:
            self._history.append(
                [glance.wall, rates["gco2e_g_per_s"], rates["saved_g_per_s"],
                 rates["requests_per_s"], rates["budgets_met"]]
            )  # fmt: skip
        version, policy = self._snapshot_version(), self._policy_name()
        config = self._runtime.config
        for scope, audience in self._audiences.items():
            events = []
            if audience.own is not None:
                for receipt in glance.receipts:
                    if receipt.request.receipt_owner == scope.owner:
                        audience.own.add(receipt)
            if audience.config is not config or audience.policy != policy:
                audience.config, audience.policy = config, policy
                events.append(Event("fleet", self._fleet(scope)))
            if audience.snapshot != version:
                audience.snapshot = version
                grid = grid or self._grid()
                if grid["zones"] != audience.zones:
                    audience.zones = grid["zones"]
                    events.append(Event("grid", grid))
            mine: list[ShownDecision] = [one for one in told.values() if may_see(one, scope)]
            if mine:
                events.append(Event("decisions", decision_documents(mine, scope)))
            events.append(Event("tick", tick_document(glance, scope, audience.own)))
            audience.feed.publish(events)

    def _fleet(self, scope: Scope) -> dict[str, Json]:
        settings = self._runtime.config.settings
        assert self._dispatcher is not None
        return fleet_document(
            self._runtime.config.fleet,
            self._dispatcher.view.snapshot.policy,
            policy_names(),
            settings.clock.speed if settings.clock else 1.0,
            self._workers,
            scope,
        )

    def _grid(self) -> dict[str, Json]:
        assert self._dispatcher is not None
        return grid_document(
            self._dispatcher.view.snapshot,
            self._runtime.clock.now(),
            self._past,
            self._runtime.carbon.chain.learned(),
            LEADS_H,
        )

    def _snapshot_version(self) -> int:
        assert self._dispatcher is not None
        return self._dispatcher.view.snapshot.version

    def _policy_name(self) -> str:
        assert self._dispatcher is not None
        return self._dispatcher.view.snapshot.policy.name

    def _observed(self, zone: str, start: float) -> Intensity | None:
        return self._runtime.carbon.chain.revisions.mean(zone, start)
