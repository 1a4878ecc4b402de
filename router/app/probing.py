"""Asks servers whether they are ready: each in its turn, at once where requests wait in silence.

A server that froze, or a path that swallows everything, breaks no connection: only silence tells.
So one with requests in flight that stays quiet is probed, is out when it does not answer that
either, and what hangs there is given up, so that it can move while its callers still wait. In
peace a probe every ``probe_s`` is enough, which is what keeps a large fleet cheap.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence

from router.app.runtime import Runtime
from router.contract import Clock, Observer, Probe, Rng, Upstream
from router.core.health import PROBE_SHARE, Cause, State
from router.core.seat import Seat
from router.model import Endpoint

TICK_S = 0.1
# At a time; what is more waits for a later tick, the longest overdue first. Where requests wait in
# silence many may be asked at once, since a region may freeze as a whole.
_MOST_PROBES = 64
_MOST_URGENT = 1024
# A tick so late means that the gateway itself stood still, and heard nothing meanwhile.
_LATE_S = 0.25

_log = logging.getLogger(__name__)


class Prober:
    """Probes the fleet in force. ``run`` ends only by being cancelled."""

    def __init__(
        self,
        runtime: Runtime,
        upstreams: Mapping[str, Upstream],
        observer: Observer,
        clock: Clock,
        rng: Rng,
    ) -> None:
        self._runtime = runtime
        self._upstreams = upstreams
        self._observer = observer
        self._clock = clock
        self._rng = rng
        self._under_way = 0
        self._stood_still_at = -math.inf
        # Which of a server's models is asked for next.
        self._turns: dict[str, int] = {}

    async def run(self) -> None:
        """Look at every endpoint each TICK_S, and probe those that are due."""
        self._under_way = 0
        for seat in self._runtime.board.seats.values():
            seat.health.probe_out = False
        async with asyncio.TaskGroup() as probes:
            before = self._clock.monotonic()
            while True:
                now = self._clock.monotonic()
                self._runtime.board.tick(now)
                if now - before > TICK_S + _LATE_S:
                    self._stand_still(now)
                before = now
                for endpoint, seat in self._due(now):
                    seat.health.probe_begins(now)
                    self._under_way += 1
                    probes.create_task(self._probe(endpoint, seat), name=f"probe {endpoint.name}")
                await asyncio.sleep(TICK_S)

    def _due(self, now: float) -> Sequence[tuple[Endpoint, Seat]]:
        board = self._runtime.board
        urgent: list[tuple[Endpoint, Seat]] = []
        others: list[tuple[Endpoint, Seat]] = []
        for endpoint in self._runtime.config.fleet.endpoints:
            seat = board.seats[endpoint.name]
            if seat.health.probe_due(now):
                (urgent if seat.in_flight else others).append((endpoint, seat))
        for due in (urgent, others):
            due.sort(key=lambda pair: pair[1].health.overdue_s(now), reverse=True)
        urgent = urgent[: max(_MOST_URGENT - self._under_way, 0)]
        return urgent + others[: max(_MOST_PROBES - self._under_way - len(urgent), 0)]

    def _stand_still(self, now: float) -> None:
        self._stood_still_at = now
        for seat in self._runtime.board.seats.values():
            seat.health.excuse(now)

    async def _probe(self, endpoint: Endpoint, seat: Seat) -> None:
        timeout_s = PROBE_SHARE * self._runtime.config.settings.health.detect_s
        asked_at = self._clock.monotonic()
        try:
            try:
                backend = self._upstreams[endpoint.protocol].backend
                answer = await backend.probe(endpoint, timeout_s)
            except BaseException:
                seat.health.probe_is_void(self._clock.monotonic())
                raise
            if answer in (Probe.READY, Probe.UNKNOWN) and not self._runtime.loads.healthy(
                endpoint.name
            ):
                # It answers, and tells on its metrics page that its engines do not run.
                answer = Probe.NOT_READY
            await self._take(endpoint, seat, answer, asked_at)
            if answer in (Probe.READY, Probe.UNKNOWN):
                await self._probe_model(endpoint, seat, timeout_s)
        finally:
            self._under_way -= 1

    async def _probe_model(self, endpoint: Endpoint, seat: Seat, timeout_s: float) -> None:
        """One model a probe, by turns: a server may be ready and have lost one of them."""
        turn = self._turns.get(endpoint.name, 0)
        self._turns[endpoint.name] = turn + 1
        served = endpoint.models[turn % len(endpoint.models)]
        outlier = seat.outliers.get((served.name, served.version))
        backend = self._upstreams[endpoint.protocol].backend
        answer = await backend.probe_model(endpoint, served.name, served.version, timeout_s)
        if outlier is None or answer not in (Probe.READY, Probe.NOT_READY):
            return
        ready = answer is Probe.READY
        if ready != outlier.ready:
            outlier.ready = ready
            told = "model is ready again" if ready else "model is not ready: taken out"
            _log.warning(told, extra={"endpoint": endpoint.name, "model": served.name})
            seat.publish_load()

    async def _take(self, endpoint: Endpoint, seat: Seat, answer: Probe, asked_at: float) -> None:
        now, health = self._clock.monotonic(), seat.health
        if answer is Probe.SILENT and asked_at <= self._stood_still_at:
            health.probe_is_void(now)
            return
        last = answer is Probe.SILENT and self._runtime.board.is_last(seat)
        was_out = health.state is State.EJECTED
        ejected = health.probe_ends(now, answer, self._rng.random(), seat.longest_run_s, last)
        seat.publish_load()
        self._runtime.board.readmit(seat, now)
        if was_out and health.state is not State.EJECTED:
            state = str(health.state)
            _log.warning("endpoint is back", extra={"endpoint": endpoint.name, "state": state})
        if not ejected:
            return
        self._observer.ejected(endpoint.name)
        cause = str(health.cause)
        _log.warning("endpoint is out", extra={"endpoint": endpoint.name, "cause": cause})
        if seat.in_flight and health.cause is not Cause.NOT_READY:
            await self._upstreams[endpoint.protocol].backend.reset(endpoint)
