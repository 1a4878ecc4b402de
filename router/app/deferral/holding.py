"""Waited-open requests that may wait: the planner of batches says when each may begin."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Final

import msgspec

from router.app.deferral.planning import Planner
from router.contract import Clock
from router.core.deferral.planning import DeferralRules
from router.deferral.values import JobKind
from router.director import Director
from router.errors import CarbonBudgetError, CarbonRouterError, ShedError
from router.gateway.holding import Waited
from router.gateway.openai.deferred.jobs import at_once_of, run_at_once_of
from router.model import Request

_LOOK_S: Final = 0.25
_NOT_HELD: Final = Waited()
_RULES: Final = DeferralRules()


class HeldRequests:
    """Of one process. `run` it for ever."""

    def __init__(
        self,
        director: Callable[[], Director],
        share: float,
        most: int,
        most_wait_s: float,
        clock: Clock,
    ) -> None:
        """``share``: of each endpoint's places that they may have; ``most``: at once;
        ``most_wait_s``: of each."""
        self._director = director
        self._planner = Planner(lambda: director().view, share)
        self._most = most
        self._most_wait_s = most_wait_s
        self._clock = clock
        self._held: dict[str, tuple[JobKind, asyncio.Event]] = {}
        self._names = itertools.count()
        # Those that wait for a carbon budget, of which there is nothing to plan.
        self._resting = 0
        self._came = asyncio.Event()
        self._stopping = asyncio.Event()

    async def hold(self, request: Request, wait_s: float) -> Waited:
        """See `router.gateway.holding.Holding`."""
        wait_s = min(wait_s, self._most_wait_s)
        spent_s = self._spent_s(request)
        if spent_s <= 0.0:
            return await self._hold(request, wait_s)
        rested = await self._wait_for_budget(spent_s, wait_s)
        if not rested.was_held or self._stopping.is_set():
            return rested
        # In the new day as others do: in the greenest hour that begins in time.
        then = await self._hold(request, wait_s - rested.waited_s)
        waited_s = rested.waited_s + then.waited_s
        at_once = then.run_at_once
        told = None if at_once is None else at_once._replace(waited_s=waited_s)
        return Waited(True, waited_s, told)

    async def _hold(self, request: Request, wait_s: float) -> Waited:
        """Until the plan releases it."""
        at_once = at_once_of(self._director(), request) if wait_s > 0.0 else None
        if at_once is None and (wait_s <= 0.0 or not self._lacks_place(request)):
            return _NOT_HELD
        if self._stopping.is_set() or len(self._held) + self._resting >= self._most:
            return _NOT_HELD
        now, ticks = self._clock.now(), self._clock.monotonic()
        # Of one that found no place nothing is known but that it waits for one.
        told = "" if at_once is None else msgspec.json.encode(at_once).decode()
        run_s = 0.0 if at_once is None else at_once.run_s
        latest = _RULES.latest_start(now + wait_s, run_s)
        if latest <= now:
            # It has no time to wait at all.
            return Waited(True)
        if at_once is None:
            # It is in no plan, which would release it then.
            wait_s = latest - now
        kind = _kind(f"held {next(self._names)}", request, now, wait_s, told)
        released = asyncio.Event()
        self._held[kind.batch_id] = (kind, released)
        self._came.set()
        try:
            async with asyncio.timeout(wait_s):
                await released.wait()
        except TimeoutError:
            # Nobody looked: the planner releases what has no time left before that.
            pass
        finally:
            self._held.pop(kind.batch_id, None)
        waited_s = self._clock.monotonic() - ticks
        return Waited(True, waited_s, run_at_once_of(told, waited_s))

    def _lacks_place(self, request: Request) -> bool:
        """Whether all that could serve it are full just now."""
        try:
            self._director().decide(request)
        except ShedError:
            return True
        except CarbonRouterError:
            return False
        return False

    def _spent_s(self, request: Request) -> float:
        """How long a carbon budget that lets wait what can has nothing for it; 0 where it has."""
        try:
            self._director().decide(request)
        except CarbonBudgetError as error:
            return (error.retry_after_s or 0.0) if error.waits else 0.0
        except CarbonRouterError:
            return 0.0
        return 0.0

    async def _wait_for_budget(self, spent_s: float, wait_s: float) -> Waited:
        """Until its next day, where that begins in time; else it is as well refused now."""
        if (
            self._stopping.is_set()
            or spent_s > wait_s
            or len(self._held) + self._resting >= self._most
        ):
            return _NOT_HELD
        ticks = self._clock.monotonic()
        self._resting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(spent_s):
                    await self._stopping.wait()
        finally:
            self._resting -= 1
        return Waited(True, self._clock.monotonic() - ticks)

    async def run(self) -> None:
        """For ever: release those that may begin."""
        while True:
            self._came.clear()
            if not self._held:
                await self._came.wait()
            self._release(self._clock.now())
            await asyncio.sleep(_LOOK_S)

    def stop(self) -> None:
        """Hold nobody any more: whoever waits begins now, while there is time to end."""
        self._stopping.set()
        for _, released in self._held.values():
            released.set()

    def _release(self, now: float) -> None:
        # Whoever was released is about to go.
        kinds = [kind for kind, released in self._held.values() if not released.is_set()]
        for kind, _ in self._planner.allot(kinds, len(kinds), now):
            self._planner.begun(kind.batch_id, kind.model)
            self._held[kind.batch_id][1].set()


def _kind(name: str, request: Request, now: float, wait_s: float, told: str) -> JobKind:
    size = float(request.payload_bytes)
    return JobKind(name, request.model, request.receipt_owner, now, now + wait_s, 1, 0, size, told)
