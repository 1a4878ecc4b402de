"""Asks servers what their models take: once at the start, after each trouble, and now and then.

A request needs nothing of it: what is not known yet is as the operator configured it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

from router.app.runtime import Runtime
from router.contract import Clock, Rng, Upstream
from router.errors import UpstreamError
from router.model import Endpoint

TICK_S = 1.0
# A server says the same for as long as it runs, and one that was replaced mostly was in trouble.
REREAD_S = 300.0
# After one that did not answer, or not that.
RETRY_S = 30.0
TIMEOUT_S = 5.0
# So that a fleet is not asked in one burst.
_JITTER = 0.2
_MOST_AT_ONCE = 16


class ModelReader:
    """Of one process. ``run`` ends only by being cancelled."""

    def __init__(
        self, runtime: Runtime, upstreams: Mapping[str, Upstream], clock: Clock, rng: Rng
    ) -> None:
        self._runtime = runtime
        self._upstreams = upstreams
        self._clock = clock
        self._rng = rng
        # By (name, address): when it was asked last, and when to ask it again.
        self._asked_at: dict[tuple[str, str], float] = {}
        self._due_at: dict[tuple[str, str], float] = {}
        self._under_way: set[tuple[str, str]] = set()
        # That these are of.
        self._fleet = runtime.config.fleet

    async def run(self) -> None:
        """Look every TICK_S who is to be asked; put in force what changed."""
        self._under_way.clear()
        async with asyncio.TaskGroup() as asking:
            while True:
                for endpoint in self._due(self._clock.monotonic()):
                    self._under_way.add(_key(endpoint))
                    asking.create_task(self._ask(endpoint), name=f"models {endpoint.name}")
                if not self._runtime.is_restated:
                    await self._runtime.restate()
                await asyncio.sleep(TICK_S)

    def _due(self, now: float) -> list[Endpoint]:
        board, fleet = self._runtime.board, self._runtime.config.fleet
        if fleet is not self._fleet:
            self._fleet = fleet
            self._forget({_key(endpoint) for endpoint in fleet.endpoints})
        due = []
        for endpoint in fleet.endpoints:
            key = _key(endpoint)
            if self._upstreams[endpoint.protocol].catalogue is None or key in self._under_way:
                continue
            health = board.seats[endpoint.name].health
            # What came back may be another process, with another model.
            again = health.troubled_at > self._asked_at.get(key, math.inf)
            if health.is_there and (again or now >= self._due_at.get(key, -math.inf)):
                due.append(endpoint)
        return due[: max(_MOST_AT_ONCE - len(self._under_way), 0)]

    def _forget(self, stays: set[tuple[str, str]]) -> None:
        """Of endpoints that come and go under ever new names."""
        for known in (self._asked_at, self._due_at):
            for key in known.keys() - stays:
                del known[key]

    async def _ask(self, endpoint: Endpoint) -> None:
        key, now = _key(endpoint), self._clock.monotonic()
        catalogue = self._upstreams[endpoint.protocol].catalogue
        assert catalogue is not None
        self._asked_at[key] = now
        pause_s = RETRY_S
        try:
            async with asyncio.timeout(TIMEOUT_S):
                said = await catalogue.models(endpoint, TIMEOUT_S)
        except (UpstreamError, TimeoutError):
            # Whether it is there is for probes to tell.
            pass
        else:
            pause_s = REREAD_S
            self._runtime.stated.take(endpoint, said)
        finally:
            self._under_way.discard(key)
            spread = 1.0 - _JITTER + 2.0 * _JITTER * self._rng.random()
            self._due_at[key] = now + pause_s * spread


def _key(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.name, endpoint.address
