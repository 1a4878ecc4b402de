"""Endpoints that come and go: what the places of discovery tell is put in force, some at a time.

Many small changes become one: a fleet takes a moment to build, in which requests are served on the
one before. Whatever happens to a place, what it told last stays; requests on an endpoint that went
end there.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from router.app.retirement import Retirement
from router.app.runtime import Runtime
from router.config.discovery_settings import DiscoverySettings
from router.contract import EndpointFinder
from router.errors import CarbonRouterError
from router.model import Endpoint, FoundEndpoint
from router.telemetry.admin import Reason
from router.telemetry.discovery import DiscoveryMetrics

# What comes within so long is one change.
GATHER_S: Final = 0.1
# A change is followed by another after so many times as long as it took.
_REST: Final = 10.0
# A place whose finder died is looked at again; they bring their own pauses for what may go wrong.
_REVIVE_S: Final = 5.0
_CHECK_S: Final = 1.0
_SHOWN: Final = 10
_MAX_DETAIL: Final = 2000

_log = logging.getLogger(__name__)


class _Watch:
    """One place: a `contract.FindingsListener`."""

    def __init__(self, settings: DiscoverySettings, discovery: Discovery) -> None:
        self.settings = settings
        self.task: asyncio.Task[None] | None = None
        # Of what was told last; None before that.
        self.told: int | None = None
        self.told_at = -math.inf
        self.why = ""
        self._discovery = discovery

    def found(self, endpoints: Sequence[FoundEndpoint]) -> None:
        """See `contract.FindingsListener`."""
        self.told, self.why = len(endpoints), ""
        self._discovery.take(self, endpoints)

    def failed(self, why: str) -> None:
        """See `contract.FindingsListener`."""
        self._discovery.lose(self, why)


class Discovery:
    """Of one process. ``run`` ends only by being cancelled; ``stand`` may be awaited beside it."""

    def __init__(
        self,
        runtime: Runtime,
        build: Callable[[DiscoverySettings], EndpointFinder],
        metrics: DiscoveryMetrics,
        adopted: Callable[[], None],
    ) -> None:
        """``build``: may raise ConfigError; ``adopted``: told of another fleet in force."""
        self._runtime = runtime
        self._build = build
        self._metrics = metrics
        self._adopted = adopted
        self._watches: dict[str, _Watch] = {}
        self._due = asyncio.Event()
        self._stands = asyncio.Event()
        runtime.notes.append(self.notes)

    async def run(self, retirement: Retirement) -> None:
        """Look at every place that is configured, and put in force what they tell."""
        self._watches = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._fit(group)
                if self._due.is_set():
                    await asyncio.sleep(GATHER_S)
                    self._due.clear()
                    began = self._runtime.clock.monotonic()
                    await self._apply(retirement, group)
                    took_s = self._runtime.clock.monotonic() - began
                    self._show()
                    await asyncio.sleep(_REST * max(took_s, 0.0))
                else:
                    self._show()
                    await self._rest()

    async def stand(self, at_most_s: float) -> None:
        """Wait until what each place has to tell is in force, or that it can tell nothing now."""
        try:
            async with asyncio.timeout(at_most_s):
                if self._runtime.config.settings.discovery:
                    await self._stands.wait()
        except TimeoutError:
            _log.warning("discovery takes over %g s; serving what is known", at_most_s)

    def take(self, watch: _Watch, endpoints: Sequence[FoundEndpoint]) -> None:
        """``watch`` told of all that is there."""
        watch.told_at = self._runtime.clock.monotonic()
        self._runtime.found[watch.settings.name] = tuple(endpoints)
        self._due.set()

    def lose(self, watch: _Watch, why: str) -> None:
        """``watch`` cannot tell."""
        name, why = watch.settings.name, why[:_MAX_DETAIL]
        self._metrics.failed(name)
        if not watch.why:
            watch.told_at = self._runtime.clock.monotonic() if watch.told is not None else -math.inf
        # The same again changes nothing.
        if why != watch.why:
            self._due.set()
            _log.warning("discovery failed, what was found stays: %s", why, extra={"place": name})
        watch.why = why

    def notes(self) -> list[Reason]:
        """What is wrong with it, for readiness; models without an endpoint are told apart."""
        found = []
        now = self._runtime.clock.monotonic()
        for name, watch in self._watches.items():
            if watch.told is None:
                why = watch.why or "it did not answer so far"
                detail = f"{name}: nothing was found yet: {why}"
                found.append(Reason("discovery_unread", detail[:_MAX_DETAIL], False))
            elif watch.why:
                age_s = now - watch.told_at
                detail = f"{name}: what was found {age_s:.0f} s ago stays: {watch.why}"
                found.append(Reason("discovery_stale", detail[:_MAX_DETAIL], False))
        left_out = self._runtime.left_out
        if left_out:
            some = "; ".join(f"{one.place}: {one.name}: {one.why}" for one in left_out[:_SHOWN])
            detail = f"{len(left_out)} that were found are not routed to: {some}"
            found.append(Reason("discovery_left_out", detail[:_MAX_DETAIL], False))
        return found

    def _fit(self, group: asyncio.TaskGroup) -> None:
        """Look at the places that are configured now, and at no others."""
        wanted = {one.name: one for one in self._runtime.config.settings.discovery}
        self._metrics.know(wanted)
        for name, watch in list(self._watches.items()):
            if wanted.get(name) != watch.settings and watch.task is not None:
                watch.task.cancel()
                del self._watches[name]
        for name in self._runtime.found.keys() - wanted.keys():
            del self._runtime.found[name]
            self._due.set()
        for name, settings in wanted.items():
            if name not in self._watches:
                watch = self._watches[name] = _Watch(settings, self)
                watch.task = group.create_task(self._look(watch), name=f"discovery {name}")

    async def _look(self, watch: _Watch) -> None:
        while True:
            try:
                await self._build(watch.settings).run(watch)
            except CarbonRouterError as error:
                watch.failed(str(error))
            except Exception as error:
                _log.exception(
                    "discovery died, looking again", extra={"place": watch.settings.name}
                )
                watch.failed(f"it died ({type(error).__name__}): see the log")
            await asyncio.sleep(_REVIVE_S)

    async def _apply(self, retirement: Retirement, group: asyncio.TaskGroup) -> None:
        runtime = self._runtime
        before, seats = runtime.config.fleet, runtime.board.seats
        try:
            changed = await runtime.adopt_found()
        except CarbonRouterError as error:
            _log.error("what was found is not in force, the fleet before stays: %s", error)
            self._metrics.changed("refused")
        else:
            if changed:
                self._metrics.changed("applied")
                self._adopted()
                _tell(before.endpoints, runtime.config.fleet.endpoints)
                group.create_task(retirement.see_off(before, seats), name="retirement")
        if all(watch.told is not None or watch.why for watch in self._watches.values()):
            self._stands.set()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(_CHECK_S):
                await self._due.wait()
        except TimeoutError:
            pass

    def _show(self) -> None:
        now = self._runtime.clock.monotonic()
        left_out = Counter(one.place for one in self._runtime.left_out)
        endpoints: dict[tuple[str, str], int] = {}
        for name, watch in self._watches.items():
            told = watch.told or 0
            endpoints[name, "left_out"] = left_out[name]
            endpoints[name, "routed"] = max(0, told - left_out[name])
        ages_s = {
            name: now - watch.told_at if watch.why or watch.told is None else 0.0
            for name, watch in self._watches.items()
        }
        self._metrics.show(endpoints, ages_s)


def _tell(before: Sequence[Endpoint], after: Sequence[Endpoint]) -> None:
    was, now = {one.name: one for one in before}, {one.name: one for one in after}
    came, went = sorted(now.keys() - was.keys()), sorted(was.keys() - now.keys())
    moved = sorted(name for name in now.keys() & was.keys() if now[name] != was[name])
    _log.info(
        "fleet changed",
        extra={
            "endpoints": len(now),
            "came": came[:_SHOWN],
            "went": went[:_SHOWN],
            "changed": moved[:_SHOWN],
            "came_count": len(came),
            "went_count": len(went),
        },
    )
