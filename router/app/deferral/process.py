"""Deferred work of one gateway process: built by its settings, closed when the process ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from router.app.deferral.draining import Drain, Runner
from router.app.deferral.planning import Planner
from router.app.deferral.room import room_of
from router.config.settings import Config
from router.contract import Clock, Rng
from router.deferral.blobs import Blobs
from router.deferral.sqlite.store import SqliteQueue
from router.director import View
from router.errors import ConfigError, DeferralFullError, DeferralStoreError
from router.gateway.openai.deferred.api import DeferredParts
from router.telemetry.deferral import DeferralMetrics

_FILES: Final = "files"


class ProcessDeferral:
    """Build it inside a running event loop. ``parts``: for the front that callers ask."""

    def __init__(
        self, config: Config, identity: str, clock: Clock, rng: Rng, metrics: DeferralMetrics
    ) -> None:
        """``identity``: of this process among all that ever were. Raises ConfigError where the
        folder cannot be used."""
        settings = config.settings.deferral
        assert settings is not None
        self._share = settings.share
        try:
            self._queue = SqliteQueue(settings.dir, identity, settings.lease_s, clock.monotonic)
            blobs = Blobs(settings.dir / _FILES)
        except (OSError, DeferralFullError, DeferralStoreError) as error:
            problem = f"{settings.dir}: {error}"
            raise ConfigError(str(config.file), [("deferral.dir", problem)]) from None
        most_bytes = config.settings.server.max_message_mib * 2**20
        self._drain = Drain(self._queue, blobs, settings, most_bytes, clock, rng, metrics)
        self.parts = DeferredParts(self._queue, blobs, settings, clock.now, self._drain.came)
        self.max_tries = settings.max_tries
        metrics.begun()

    def work(
        self, runner: Runner, view: Callable[[], View]
    ) -> dict[str, Callable[[], Awaitable[None]]]:
        """The background jobs, by name. ``view``: in force."""

        planner = Planner(view, self._share)
        return {"deferral": lambda: self._drain.run(runner, planner)}

    def among(self, view: View, model: str, is_urgent: bool) -> frozenset[str] | None:
        """The endpoints that have room for one more deferred request of ``model``; where it is
        urgent, for any. None where nobody serves it."""
        room = room_of(view, [model], 1.0 if is_urgent else self._share)
        endpoints = room.endpoints[model]
        if endpoints is None:
            return None
        return frozenset(name for name in endpoints if room.places[name] > 0)

    async def stop(self, grace_s: float) -> None:
        """See `Drain.stop`."""
        await self._drain.stop(grace_s)

    async def close(self) -> None:
        """What is still claimed is given back."""
        await self._queue.close()
