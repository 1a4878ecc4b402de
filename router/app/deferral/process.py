"""Deferred work of one gateway process: built by its settings, closed when the process ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from router.app.deferral.draining import Drain, Runner
from router.app.deferral.holding import HeldRequests
from router.app.deferral.kept_mark import KeptMark
from router.app.deferral.planning import Planner
from router.app.deferral.room import WantedModel, room_of
from router.app.deferral.room_ahead import Asleep, none_asleep
from router.app.shared_state import build_link
from router.config.deferral import DeferralSettings
from router.config.settings import Config
from router.contract import Clock, Rng
from router.core.deferral.needs import WaitingNeeds
from router.deferral.blobs import Blobs, FolderBlobs
from router.deferral.planned import DeferredOutlook
from router.deferral.queue import DeferredQueue
from router.deferral.redis.store import RedisQueue
from router.deferral.sqlite.store import SqliteQueue
from router.deferral.sqlite.workers import boot_id
from router.director import Director, View
from router.errors import ConfigError, DeferralFullError, DeferralStoreError
from router.extras import need
from router.gateway.openai.deferred.api import DeferredParts
from router.telemetry.deferral import DeferralMetrics

_FILES: Final = "files"
# Of files that are kept by URL, while they are written.
_ASIDE: Final = "aside"
_CLOCK: Final = "clock"


def _queue(
    config: Config,
    settings: DeferralSettings,
    blobs: Blobs,
    identity: str,
    clock: Clock,
    environ: Mapping[str, str],
) -> DeferredQueue:
    redis = config.settings.state.redis
    if not settings.is_shared or redis is None:
        return SqliteQueue(settings.dir, identity, settings.lease_s, clock.monotonic)
    link = build_link(config, environ)
    return RedisQueue(link, redis.prefix, blobs.name(), identity, settings.lease_s)


def _blobs(config: Config, settings: DeferralSettings) -> Blobs:
    if settings.files is None:
        return FolderBlobs(settings.dir / _FILES)
    with need("parquet", "files by URL", file=str(config.file), key="deferral.files"):
        from router.deferral.stored_blobs import stored_blobs
    return stored_blobs(settings.files, settings.dir / _ASIDE)


class ProcessDeferral:
    """Build it inside a running event loop. ``parts``: for the front that callers ask;
    ``most_waiting``: of its requests, for a better variant at once."""

    def __init__(
        self,
        config: Config,
        identity: str,
        clock: Clock,
        rng: Rng,
        metrics: DeferralMetrics,
        environ: Mapping[str, str],
    ) -> None:
        """``identity``: of this process among all that ever were. Raises ConfigError where the
        folder cannot be used, or a password not be read."""
        settings = config.settings.deferral
        assert settings is not None
        self._share = settings.share
        self._clock = clock
        key = "deferral.dir"
        try:
            settings.dir.mkdir(mode=0o700, exist_ok=True)
            key = "deferral.dir" if settings.files is None else "deferral.files"
            blobs = _blobs(config, settings)
            key = "deferral.dir"
            self._queue = _queue(config, settings, blobs, identity, clock, environ)
        except (OSError, DeferralFullError, DeferralStoreError) as error:
            # Of a URL not a word: there may be a password in it.
            where = f"{settings.dir}: " if key == "deferral.dir" else ""
            raise ConfigError(str(config.file), [(key, f"{where}{error}")]) from None
        most_bytes = config.settings.server.max_message_mib * 2**20
        marks = KeptMark(settings.dir / _CLOCK, boot_id())
        self._drain = Drain(self._queue, blobs, settings, most_bytes, clock, rng, metrics, marks)
        self.parts = DeferredParts(self._queue, blobs, settings, clock.now, self._drain.came)
        self.max_tries = settings.max_tries
        # The other half is for those that could run.
        self.most_waiting = settings.max_concurrent // 2
        self._planner: Planner | None = None
        metrics.begun()

    def work(
        self, runner: Runner, view: Callable[[], View], asleep: Asleep = none_asleep
    ) -> dict[str, Callable[[], Awaitable[None]]]:
        """The background jobs, by name. ``view``: in force; ``asleep``: replicas that would serve
        if they were asked to."""
        self._planner = planner = Planner(view, self._share, asleep)
        return {"deferral": lambda: self._drain.run(runner, planner)}

    def holding(self, director: Callable[[], Director]) -> HeldRequests | None:
        """Of requests that may wait while they are held open; None where none may."""
        settings = self.parts.settings
        if not settings.flex_wait_s:
            return None
        return HeldRequests(
            director, self._share, settings.flex_max_held, settings.flex_wait_s, self._clock
        )

    def outlook(self) -> DeferredOutlook | None:
        """What the plan says of all that waits; None while nothing does."""
        return None if self._planner is None else self._planner.outlook()

    def needs(self) -> WaitingNeeds:
        """What the plan needs of replicas."""
        return WaitingNeeds() if self._planner is None else self._planner.needs()

    def among(self, view: View, model: str, is_urgent: bool) -> frozenset[str] | None:
        """The endpoints that have room for one more deferred request of ``model``, of an alias
        those of all variants; where it is urgent, for any. None where nobody serves it."""
        asked = WantedModel(model)
        room = room_of(view, [asked], 1.0 if is_urgent else self._share)
        endpoints = room.endpoints[asked]
        if endpoints is None:
            return None
        return frozenset(name for name in endpoints if room.places[name] > 0)

    async def stop(self, grace_s: float) -> None:
        """See `Drain.stop`."""
        await self._drain.stop(grace_s)

    async def close(self) -> None:
        """What is still claimed is given back."""
        await self._queue.close()
