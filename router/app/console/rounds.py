"""The console of a gateway process: looks at it once a tick while somebody looks on."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry

from router.app.console.audiences import Audience, Audiences
from router.app.console.sampling import Sampling
from router.app.runtime import Runtime
from router.app.turns import Turns
from router.carbon.chain.combine import LEADS_H
from router.console.decisions import ShownDecision
from router.console.deferred import deferred_document
from router.console.feed import Event, Feed
from router.console.outlooks import PastHours, grid_document
from router.console.scene import (
    FORMAT,
    Glance,
    Scope,
    decision_documents,
    fleet_document,
    may_see,
    tick_document,
)
from router.console.totals import FAMILIES, IN_FLIGHT, Rates, in_flight_of, totals_of
from router.console.what_if import policy_names
from router.contract import Clock
from router.core.carbon_budgets import AccountView
from router.deferral.planned import DeferredOutlook
from router.director import Dispatcher
from router.model import Intensity, Receipt
from router.telemetry.exposition import samples
from router.telemetry.view import Json

TICK_S: Final = 1.0
# Of one processor: a tick that takes longer is followed by a longer rest.
MOST_OF_A_CORE: Final = 0.01
_LONGEST_S: Final = 10.0
# As many ticks as the line over time begins with.
_HISTORY: Final = 300


class ConsoleRounds:
    """`router.console.pages.ConsoleFeeds` of one process; `attach` before it is asked."""

    def __init__(
        self,
        runtime: Runtime,
        registry: CollectorRegistry,
        audiences: Audiences,
        sampling: Sampling,
        budgets: Callable[[], Iterable[AccountView]],
        wall: Clock,
        workers: int = 1,
    ) -> None:
        """``wall``: whatever day is replayed."""
        self._runtime = runtime
        self._registry = registry
        self._audiences = audiences
        self._sampling = sampling
        self._budgets = budgets
        self._wall = wall
        self._workers = workers
        self._woken = asyncio.Event()
        self._rates = Rates()
        self._past = PastHours(self._observed)
        self._history: deque[list[Json]] = deque(maxlen=_HISTORY)
        self._last_tick = math.nan
        self._dispatcher: Dispatcher | None = None
        self._deferred: Callable[[], DeferredOutlook | None] | None = None
        # One at a time: each takes the event loop for a moment.
        self._looking = Turns()

    def attach(self, dispatcher: Dispatcher) -> None:
        """Look at decisions of ``dispatcher``, whose recorder is the ledger's."""
        self._dispatcher = dispatcher
        self._sampling.attach(dispatcher)

    def know_deferred(self, outlook: Callable[[], DeferredOutlook | None]) -> None:
        """There is work that waits, and a plan for it."""
        self._deferred = outlook

    def join(self, scope: Scope) -> Feed:
        """See `ConsoleFeeds`."""
        audience = self._audiences.join(scope, self._wall.now())
        self._sampling.begin()
        self._woken.set()
        return audience.feed

    def beginning(self, scope: Scope, feed: Feed) -> bytes:
        """See `ConsoleFeeds`."""
        events = []
        if scope.is_all and self._history:
            events.append(Event("history", list(self._history)))
        events += [
            Event(name, feed.latest[name])
            for name in ("fleet", "grid", "deferred")
            if name in feed.latest
        ]
        shown = decision_documents(self._sampling.decisions.all(), scope)
        if shown:
            events.append(Event("decisions", shown))
        # The next tick follows at once, as it has been woken for: no older one is told.
        return feed.beginning(events)

    async def state(self, scope: Scope) -> Mapping[str, object] | None:
        """See `ConsoleFeeds`."""
        if self._dispatcher is None:
            return None
        async with self._looking.turn() as turn:
            began = time.thread_time()
            told = await self._state(scope)
            turn.took(time.thread_time() - began)
        return told

    async def _state(self, scope: Scope) -> Mapping[str, object]:
        audience = self._audiences.find(scope)
        glance = await self._look(is_tick=False)
        tick = tick_document(glance, scope, None if audience is None else audience.own)
        if audience is not None and "tick" in audience.feed.latest:
            # What is of a while, as of the last tick; all else as it is now.
            last = audience.feed.latest["tick"]
            assert isinstance(last, dict)
            tick |= {name: last[name] for name in ("rates", "flows")}
        return {
            "format": FORMAT,
            "boot": self._audiences.boot if audience is None else audience.feed.boot,
            "seq": 0 if audience is None else audience.feed.seq,
            "fleet": self._fleet(scope),
            "grid": self._grid(),
            "tick": tick,
            "decisions": decision_documents(self._sampling.decisions.all(), scope),
            "deferred": self._deferred_of(scope),
        }

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
            self._audiences.see_off(self._wall.monotonic())
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

    def _end(self) -> None:
        self._sampling.end()
        self._rates = Rates()
        self._last_tick = math.nan

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
            owners = [one.owner for one, _ in self._audiences if one.owner is not None]
            receipts, answered = self._sampling.traffic.turn(ticks, owners)
            self._sampling.follow(answered, seconds)
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
            traffic=self._sampling.traffic,
            budgets=list(self._budgets()),
            readiness=self._runtime.readiness(),
            share=self._sampling.share,
        )

    def _publish(self, glance: Glance) -> None:
        news = self._sampling.news(glance.receipts)
        grid: dict[str, Json] | None = None
        row = _row(glance)
        if row is not None:
            self._history.append(row)
        for scope, audience in self._audiences:
            if audience.own is not None:
                for receipt in glance.receipts:
                    if receipt.request.receipt_owner == scope.owner:
                        audience.own.add(receipt)
            events = self._standing(scope, audience)
            version = self._snapshot_version()
            if audience.snapshot != version:
                audience.snapshot = version
                grid = grid or self._grid()
                if grid["zones"] != audience.zones:
                    audience.zones = grid["zones"]
                    events.append(Event("grid", grid))
            for event in events:
                audience.recent.stand(event.name, event.data)
            mine: list[ShownDecision] = [one for one in news if may_see(one, scope)]
            if mine:
                events.append(Event("decisions", decision_documents(mine, scope)))
            tick = tick_document(glance, scope, audience.own)
            events.append(Event("tick", tick))
            audience.recent.keep(glance.ticks, glance.at, tick, row if scope.is_all else None)
            audience.feed.publish(events)

    def _standing(self, scope: Scope, audience: Audience) -> list[Event]:
        """What is not as it was when this audience was told last."""
        events = []
        config, policy = self._runtime.config, self._policy_name()
        if audience.config is not config or audience.policy != policy:
            audience.config, audience.policy = config, policy
            events.append(Event("fleet", self._fleet(scope)))
        if self._deferred is not None:
            deferred = self._deferred_of(scope)
            if deferred != audience.deferred:
                audience.deferred = deferred
                events.append(Event("deferred", deferred))
        return events

    def _deferred_of(self, scope: Scope) -> dict[str, Json] | None:
        """None where no work is deferred."""
        return None if self._deferred is None else deferred_document(self._deferred(), scope)

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


def _row(glance: Glance) -> list[Json] | None:
    """Of the line over time."""
    rates = glance.rates
    if rates is None:
        return None
    return [
        glance.wall, rates["gco2e_g_per_s"], rates["saved_g_per_s"], rates["requests_per_s"],
        rates["budgets_met"],
    ]  # fmt: skip
