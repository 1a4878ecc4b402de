"""Rows of the ledger about what the fleet and the gateway draw, whoever asks for it.

Endpoints are looked at by one process of all gateways: the first worker of the one that holds the
lease, where they share a store. While that cannot be reached nobody looks once the lease has ended:
a row that is missing is seen, one that is there twice is not. Each process tells its own joules.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from router.app.energy_meters import WATTS_S, EnergyMeters, MeterReader
from router.app.leases import StoreLease
from router.app.runtime import Runtime
from router.config.ledger import LedgerSettings
from router.contract import StateStore
from router.core.columns import Snapshot
from router.core.seat import Seat
from router.load.energy_meter import NO_READING, MeterReading, drawn_j
from router.model import Region
from router.units import HOUR_S

if TYPE_CHECKING:
    from router.ledger.energy_spans import EndpointSpan, SpanGrid
    from router.ledger.receipt_cells import Cells

# What a process that is killed has not told.
SPAN_S: Final = 300.0
# Between two looks, beside the requests of this process, which are seen as they come and go; of a
# large fleet as many fewer as keep them cheap.
_LOOK_S: Final = 0.1
_LOOKS_PER_S: Final = 2000.0
_LEASE: Final = "ledger/energy"


class EnergyRounds:
    """One a process. ``run`` is one round, repeated in the background."""

    def __init__(
        self,
        settings: LedgerSettings,
        runtime: Runtime,
        put: Callable[[Cells], None],
        looks: bool,
        store: StateStore | None,
        holder: str,
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        """``looks``: whether this process looks at endpoints, if no other gateway does; ``cpu_s``:
        processor time that it has taken."""
        self._settings = settings
        self._runtime = runtime
        self._put = put
        self._looks = looks
        self._lease = StoreLease(store, _LEASE, holder, runtime.clock) if store else None
        self._cpu_s = cpu_s
        self._spans: dict[str, EndpointSpan] = {}
        self._meters = EnergyMeters(runtime.clock)
        # By endpoint, as its span began.
        self._read: Mapping[str, MeterReading] = {}
        self._is_looking = self._is_lost = self._has_begun = False
        self._since = runtime.clock.now()
        self._cpu_from = cpu_s()

    async def run(self, meter: MeterReader) -> None:
        """Wait, then look; at the end of a span tell it."""
        if not self._has_begun:
            await self._start(meter)
        endpoints = len(self._runtime.config.fleet.endpoints)
        await asyncio.sleep(max(_LOOK_S, endpoints / _LOOKS_PER_S))
        await self._renew()
        self.look()
        now = self._runtime.clock.now()
        over = now - self._since >= SPAN_S or now // HOUR_S != self._since // HOUR_S
        if over or now < self._since:
            await self.tell(meter)

    async def add_watts(self, meter: MeterReader) -> None:
        """Wait, then read the watts of endpoints whose watts are added up."""
        await asyncio.sleep(WATTS_S)
        if self._is_looking:
            await self._meters.sample(meter, self._runtime.config.fleet.endpoints)

    def look(self) -> None:
        """At every endpoint: whether it is there, and what other processes have at it."""
        if not self._is_looking:
            return
        ticks, seats = self._runtime.clock.monotonic(), self._runtime.board.seats
        if self._runtime.peers is not None:
            # As of the last decision here, which may be long ago.
            self._runtime.peers.refresh(ticks, at_once=True)
        for name, span in self._spans.items():
            seat = seats.get(name)
            span.see(None if seat is None else _requests(seat), ticks)

    def _changed(self, seat: Seat) -> None:
        """A request came or went there."""
        span = self._spans.get(seat.name)
        if span is not None and self._is_looking:
            span.see(_requests(seat), self._runtime.clock.monotonic())

    async def tell(self, meter: MeterReader) -> None:
        """The span ends here, and another begins."""
        from router.ledger.energy_spans import SpanGrid, gateway_cells

        self.look()
        clock, runtime = self._runtime.clock, self._runtime
        spans, was_lost = list(self._spans.values()), self._is_lost
        self._is_looking, self._is_lost = self._may_look(), False
        read = await self._readings(meter, bool(spans) or self._is_looking)
        since, now = self._since, clock.now()
        if since // HOUR_S != now // HOUR_S and now > since:
            # What came a moment after the hour belongs to no other span.
            now = (since // HOUR_S + 1) * HOUR_S
        self._since = now if now >= since else clock.now()
        until = max(now, since)
        snapshot = runtime.dispatcher.view.snapshot if runtime.dispatcher else None
        regions = runtime.config.fleet.regions
        for span in spans:
            region = regions.get(span.endpoint.region)
            if region is not None:
                grid = _grid(snapshot, region, since, until)
                # Of one that was lost in the middle the rest is told by who looks now.
                metered_j = math.nan if was_lost else self._drawn_j(span.endpoint.name, read)
                self._put(span.cells(since, until, region, grid, metered_j))
        cpu_s = self._cpu_s()
        own = regions.get(self._settings.gateway_region)
        grid = SpanGrid(math.nan, None) if own is None else _grid(snapshot, own, since, until)
        self._put(
            gateway_cells(
                since, until, cpu_s - self._cpu_from, self._settings.gateway_w_per_core, own, grid
            )
        )
        self._cpu_from = cpu_s
        self._begin(read)

    def _drawn_j(self, endpoint: str, read: Mapping[str, MeterReading]) -> float:
        """By its meter, since the span began; NaN where that is not known."""
        return drawn_j(self._read.get(endpoint, NO_READING), read.get(endpoint, NO_READING))

    def _begin(self, read: Mapping[str, MeterReading]) -> None:
        from router.ledger.energy_spans import EndpointSpan

        self._spans, self._read = {}, read
        seats = self._runtime.board.seats
        for endpoint in self._runtime.config.fleet.endpoints:
            seat = seats.get(endpoint.name)
            if seat is not None:
                seat.watch(self._changed if self._is_looking else None)
            if self._is_looking:
                self._spans[endpoint.name] = EndpointSpan(endpoint)
        self.look()

    async def close(self, meter: MeterReader) -> None:
        """The last span ends; others may look."""
        if self._has_begun:
            await self.tell(meter)
        if self._lease is not None:
            await self._lease.release()

    async def _start(self, meter: MeterReader) -> None:
        self._has_begun = True
        await self._renew()
        self._is_looking = self._may_look()
        read = await self._readings(meter, self._is_looking)
        self._since = self._runtime.clock.now()
        self._begin(read)

    def _may_look(self) -> bool:
        return self._looks and (self._lease is None or self._lease.is_held)

    async def _renew(self) -> None:
        if self._lease is None or not self._looks:
            return
        if not await self._lease.renew() and self._is_looking:
            # Another looks now: what was seen is told at the end of the span, no more is added.
            self.look()
            self._is_looking, self._is_lost = False, True

    async def _readings(self, meter: MeterReader, wanted: bool) -> Mapping[str, MeterReading]:
        if not wanted:
            return {}
        return await self._meters.readings(meter, self._runtime.config.fleet.endpoints)


def _requests(seat: Seat) -> float | None:
    """Requests of these gateways there; None where it is out. Not what a page says that strangers
    have: for a moment that is what was ours."""
    return float(seat.in_flight + seat.peers) if seat.health.is_there else None


def _grid(snapshot: Snapshot | None, region: Region, since: float, until: float) -> SpanGrid:
    from router.ledger.energy_spans import SpanGrid

    if snapshot is None or region.name not in snapshot.layout.fleet.regions:
        return SpanGrid(math.nan, None)
    mean = snapshot.mean_g_per_kwh(region.name, since, until - since)
    return SpanGrid(mean, snapshot.intensity(region.name, since))
