"""How many replicas are wanted, of one gateway process: built by its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from router.app.scaling.command import Command
from router.app.scaling.looks import LOOK_S, Scaling
from router.app.scaling.telling import HintRounds, HintTaker, scaling_lease
from router.app.scaling.webhook import Webhook
from router.config.settings import Config, ScalingSettings
from router.contract import Clock, StateStore
from router.core.deferral.needs import WaitingNeeds
from router.core.wake_times import WakeTimes
from router.director import View
from router.state.usual_load import UsualLoadStore
from router.state.wake_times import WakeTimeStore
from router.telemetry.admin import Reason
from router.telemetry.scaling import ScalingMetrics


def takers_of(
    settings: ScalingSettings, wall: Clock, environ: Mapping[str, str]
) -> list[HintTaker]:
    """Who is told. Blocks. Raises ConfigError for files and variables that cannot be used."""
    takers: list[HintTaker] = []
    if settings.webhook is not None:
        takers.append(Webhook(settings.webhook, wall, environ))
    if settings.command is not None:
        takers.append(Command(settings.command, environ))
    return takers


def has_scaling(config: Config) -> bool:
    """Whether anybody is told, or asks."""
    return config.settings.scaling is not None or config.settings.server.scaler is not None


class ProcessScaling:
    """``demand``: for whoever asks. ``speaks``: whether it is this worker that tells for all."""

    def __init__(
        self,
        config: Config,
        view: Callable[[], View],
        waiting: Callable[[], WaitingNeeds],
        speaks: bool,
        store: StateStore | None,
        identity: str,
        clock: Clock,
        wall: Clock,
        metrics: ScalingMetrics,
        environ: Mapping[str, str],
    ) -> None:
        """``clock``: of carbon data; ``wall``: by which leases and certificates end. Blocks. Raises
        ConfigError as `takers_of`."""
        settings = config.settings.scaling or ScalingSettings()
        self.demand = Scaling(view, clock, WakeTimes(settings.wake_s), waiting)
        self._rounds = HintRounds(
            self.demand,
            takers_of(settings, wall, environ),
            settings.every_s,
            view,
            WakeTimeStore(config.settings.state.file, store),
            UsualLoadStore(config.settings.state.file, store),
            scaling_lease(store, identity, wall) if speaks else None,
            identity,
            clock,
            metrics,
        )

    def work(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """The background jobs, by name."""
        return {"scaling": self.demand.run, "scaling hints": self._tell}

    def notes(self) -> Sequence[Reason]:
        """What readiness says of it."""
        return self._rounds.notes()

    async def close(self) -> None:
        """Others may tell."""
        await self._rounds.close()

    async def _tell(self) -> None:
        await self._rounds.look()
        await asyncio.sleep(LOOK_S)
