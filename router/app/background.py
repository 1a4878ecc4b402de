"""The gateway's background work, supervised: a task that dies is restarted, and said to be dead."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from router.app.runtime import Runtime
from router.carbon.chain.combine import LEADS_H
from router.contract import Clock, LoadSource, Rng
from router.load.poller import LoadPoller, ScrapeTimes
from router.telemetry.metrics import Metrics
from router.units import HOUR_S

_TICK_S = 0.1
_RESTART_S = (0.2, 5.0)

_log = logging.getLogger(__name__)


async def supervise(
    name: str, work: Callable[[], Awaitable[None]], runtime: Runtime, metrics: Metrics, rng: Rng
) -> None:
    """Run ``work`` for ever. A failure is logged, counted, shown in readiness, and retried."""
    pause_s, longest_s = _RESTART_S
    me = asyncio.current_task()
    loop = asyncio.get_running_loop()
    while True:
        # Some work returns after each round, some only when the fleet changes.
        recovered = loop.call_later(longest_s, runtime.dead_tasks.discard, name)
        try:
            await work()
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and (me is None or me.cancelling()):
                raise
            if _was_told_to_stop(me):
                return
            # Not told to stop: a CancelledError of the work's own would end this task unseen.
            runtime.dead_tasks.add(name)
            metrics.restarted(name)
            _log.exception("background task died, restarting", extra={"task": name})
            recovered.cancel()
            await asyncio.sleep(pause_s * (0.5 + rng.random()))
            pause_s = min(2.0 * pause_s, longest_s)
        else:
            if _was_told_to_stop(me):
                return
            runtime.dead_tasks.discard(name)
            pause_s = _RESTART_S[0]
        finally:
            recovered.cancel()


def _was_told_to_stop(task: asyncio.Task[None] | None) -> bool:
    """Also where its work took no notice: before Python 3.12 `asyncio.wait_for`, by which redis-py
    sends every command, forgets a cancellation that comes just after what it waits for."""
    return task is not None and task.cancelling() > 0


class Rounds:
    """One round of each background job; `supervise` repeats them."""

    def __init__(self, runtime: Runtime, metrics: Metrics, clock: Clock, rng: Rng) -> None:
        self._runtime = runtime
        self._metrics = metrics
        self._clock = clock
        self._rng = rng

    async def carbon(self) -> None:
        """Refresh carbon data and the snapshot, then wait: at most until the hour turns."""
        await self._runtime.refresh()
        carbon = self._runtime.carbon
        self._metrics.carbon.show(carbon.attempts())
        self._metrics.carbon.show_errors(carbon.chain.learned(), LEADS_H)
        settings = self._runtime.config.settings
        speed = settings.clock.speed if settings.clock else 1.0
        to_the_hour_s = (HOUR_S - self._clock.now() % HOUR_S) / speed
        # Just past the hour rather than just before it.
        await self._rest(max(min(settings.carbon.refresh_s, to_the_hour_s + 0.01), 0.02))

    async def _rest(self, seconds: float) -> None:
        """For so long, or until a refresh is worth the while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._runtime.carbon_due.wait()
        self._runtime.carbon_due.clear()

    async def tick(self) -> None:
        """Let unspent retries melt and stale load lapse; learn from what finished."""
        dispatcher = self._runtime.dispatcher
        if dispatcher is not None:
            dispatcher.parts.budget.tick(self._clock.monotonic())
            dispatcher.digest()
        self._runtime.loads.expire()
        await asyncio.sleep(_TICK_S)

    def loads(self, source: LoadSource) -> Callable[[], Awaitable[None]]:
        """Poll the endpoints' own metrics until the fleet changes."""

        async def run() -> None:
            runtime = self._runtime
            fleet = runtime.config.fleet
            settings = runtime.config.settings.load
            poller = LoadPoller(
                source,
                fleet.endpoints,
                runtime.loads.polled,
                self._clock,
                self._rng,
                ScrapeTimes(settings.scrape_s, settings.timeout_ms / 1e3),
                lambda endpoint, _: self._metrics.scrape_failed(endpoint),
            )
            async with asyncio.TaskGroup() as group:
                polling = group.create_task(poller.run(), name="load polls")
                while runtime.config.fleet is fleet:
                    await asyncio.sleep(settings.scrape_s)
                polling.cancel()

        return run
