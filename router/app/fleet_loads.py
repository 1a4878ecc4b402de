"""What this process knows of the load of all gateways, and its part of every endpoint's places.

One exchange through the store tells the others what it has and reads what they have; it is made
every 75 ms or so, and sooner where a request went out or found no place; more rarely where rows are
large (`router.peers.exchange_pace`). Requests never wait for it: they read numbers that it left.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Final

from router.app.runtime import Runtime
from router.contract import Places, Rng, StateStore
from router.director import Dispatcher
from router.errors import StateStoreError
from router.peers.exchange_pace import LEAST_TTL_S, PROCESS_BYTES_PER_S, ExchangePace, pace_of
from router.peers.gateway_rows import Defect
from router.peers.gateways import GatewayLoads, PlaceStanding
from router.peers.members import SeenMembers
from router.telemetry.admin import Reason
from router.telemetry.fleet_loads import FleetLoadMetrics

ROOM: Final = "loads"
# Alone, it looks for the store this often.
_ALONE_S: Final = 0.25
# Of a row's life, how long its answer is waited for: this process has to know that the store fails
# before its claims lapse, or it has no place at all meanwhile.
_WORTH: Final = 0.75


class GatewayPlaces:
    """`contract.Places` over the workers of this gateway, where there are several, and over all
    gateways."""

    def __init__(self, gateways: GatewayLoads, workers: Places | None) -> None:
        self._gateways = gateways
        self._workers = workers

    def refresh(self, now: float, at_once: bool = False) -> None:
        """See `contract.Places`."""
        self._gateways.look(now, at_once)
        if self._workers is not None:
            self._workers.refresh(now, at_once)

    def claim(self, endpoint: str, max_in_flight: int) -> bool:
        """See `contract.Places`."""
        if not self._gateways.claim(endpoint):
            return False
        return self._workers is None or self._workers.claim(endpoint, max_in_flight)


class FleetLoads:
    """One process's exchanges."""

    def __init__(
        self,
        store: StateStore,
        identity: str,
        group: str,
        runtime: Runtime,
        rng: Rng,
        metrics: FleetLoadMetrics,
        seen: SeenMembers | None = None,
    ) -> None:
        """``identity``: of this process among all; ``group``: of the gateway whose worker it is;
        ``seen``: as of `GatewayLoads`."""
        self._store = store
        self._runtime = runtime
        self._clock = runtime.clock
        self._rng = rng
        self._metrics = metrics
        self._soon = asyncio.Event()
        self._stands = asyncio.Event()
        self.gateways = GatewayLoads(identity, group, LEAST_TTL_S, self._soon.set, seen)
        self._members: list[str] = []
        # By the last exchange that was answered.
        self._moved_bytes = 0
        self._ignored: Counter[Defect] = Counter()
        redis = runtime.config.settings.state.redis
        self._bytes_per_s = redis.load_bytes_per_s if redis else PROCESS_BYTES_PER_S

    def join(self, dispatcher: Dispatcher) -> None:
        """Places are shared with all gateways from here on."""
        self.gateways.adopt(self._runtime.board)
        self._runtime.gateways = self.gateways
        dispatcher.places = GatewayPlaces(self.gateways, dispatcher.places)

    async def run(self) -> None:
        """One exchange, and a rest; to be repeated."""
        began = self._clock.monotonic()
        pace = await self._exchange()
        self.gateways.ttl_s = pace.ttl_s
        gateways = self.gateways
        self._metrics.show(gateways.standing, gateways.members, gateways.claimed, gateways.lifts)
        gap_s = pace.gap_s
        if self.gateways.standing is PlaceStanding.ALONE:
            self.gateways.fade(self._clock.monotonic())
            gap_s = _ALONE_S
        period_s = max(pace.period_s * (2.0 + 2.0 * self._rng.random()) / 3.0, gap_s)
        left_s = began + gap_s - self._clock.monotonic()
        if left_s > 0.0:
            await asyncio.sleep(left_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, began + period_s - self._clock.monotonic())):
                await self._soon.wait()
        self._soon.clear()

    async def stand(self, at_most_s: float = 2.0 * LEAST_TTL_S) -> None:
        """Wait until it is known by what places are had, and there are some: before the first
        request may come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._stands.wait()

    async def leave(self) -> None:
        """Take this process's row out of the store, if that can be done at once."""
        for member in self._members:
            with contextlib.suppress(StateStoreError):
                await self._store.leave(ROOM, member)

    def notes(self) -> Sequence[Reason]:
        """What readiness says of it."""
        if self.gateways.standing is not PlaceStanding.ALONE:
            if not self._ignored:
                return ()
            why = ", ".join(f"{count} for {one}" for one, count in sorted(self._ignored.items()))
            detail = (
                f"rows of load are not used ({why}): whoever wrote them is not counted, and its "
                "requests are not seen; version: gateways of another release"
            )
            return (Reason("gateway_rows_ignored", detail, False),)
        members = self.gateways.seen.count
        part = f"1/{members}" if members > 1 else "all"
        detail = (
            "other gateways' requests are not seen: this process uses "
            f"{part} of each endpoint's places, and more where it has no other"
        )
        return (Reason("gateways_unseen", detail, False),)

    async def _exchange(self) -> ExchangePace:
        """One exchange, and how long to rest after it."""
        gateways, clock = self.gateways, self._clock
        began = clock.monotonic()
        message = gateways.message(began)
        if message.member not in self._members:
            self._members = [*self._members[-3:], message.member]
        sent = clock.monotonic()
        try:
            async with asyncio.timeout(_WORTH * message.ttl_s):
                rows = await self._store.exchange(
                    ROOM, message.member, message.row, message.ttl_s, clock.now()
                )
        except (StateStoreError, TimeoutError):
            gateways.failed(message.sent_at, clock.monotonic())
            moved, worked_s = self._moved_bytes, sent - began
        else:
            answered = clock.monotonic()
            reading = gateways.read(rows, message.sent_at, answered, clock.now())
            self._ignored = Counter(reading.defects)
            for defect in reading.defects:
                self._metrics.ignored(defect)
            self._doubt(reading.doubted, answered)
            worked_s = sent - began + clock.monotonic() - answered
            moved = len(message.row) + sum(map(len, rows.values()))
            self._moved_bytes = moved
        if not self._stands.is_set() and self._has_come_to_stand():
            self._stands.set()
        return pace_of(moved, gateways.members, worked_s, message.ttl_s, self._bytes_per_s)

    def _has_come_to_stand(self) -> bool:
        gateways = self.gateways
        if gateways.standing is PlaceStanding.SHARED:
            return gateways.has_its_part
        return gateways.standing is PlaceStanding.ALONE

    def _doubt(self, endpoints: Sequence[str], now: float) -> None:
        """Others hold them for out of service: a probe will tell."""
        for name in endpoints:
            seat = self._runtime.board.seats.get(name)
            if seat is not None:
                seat.health.doubt(now)


def share_loads(
    store: StateStore | None,
    identity: str,
    group: str,
    runtime: Runtime,
    rng: Rng,
    metrics: FleetLoadMetrics,
    seen: SeenMembers | None = None,
) -> FleetLoads | None:
    """What a process shares of its load; None where there is no store to share it through."""
    if store is None:
        return None
    loads = FleetLoads(store, identity, group, runtime, rng, metrics, seen)
    runtime.notes.append(loads.notes)
    return loads
