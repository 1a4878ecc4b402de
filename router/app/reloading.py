"""SIGHUP: the file is read again, and put in force or refused; either is told and counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from router.app.retirement import Retirement
from router.app.runtime import Runtime
from router.errors import CarbonRouterError
from router.peers.rows import Reload
from router.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)


class Reloader:
    """One a process. ``told``: how each reload went, and why it was refused, beside the metrics and
    readiness."""

    def __init__(
        self,
        runtime: Runtime,
        config_path: Path,
        metrics: Metrics,
        told: Callable[[Reload, str], None],
    ) -> None:
        self._runtime = runtime
        self._config_path = config_path
        self._metrics = metrics
        self._told = told
        self._hangup = asyncio.Event()

    def ask(self) -> None:
        """Let the file be read again as soon as may be; the handler of SIGHUP."""
        self._hangup.set()

    async def run(self, retirement: Retirement) -> None:
        """Reload whenever asked, for ever; servers that a reload takes away are seen off."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._hangup.wait()
                self._hangup.clear()
                before, seats = self._runtime.config.fleet, self._runtime.board.seats
                if await self.reload():
                    group.create_task(retirement.see_off(before, seats), name="retirement")

    async def reload(self) -> bool:
        """Put the file in force as it is now; False when it is refused. Never raises."""
        try:
            ignored = await self._runtime.reload(self._config_path)
        except (CarbonRouterError, OSError) as error:
            _log.error("reload refused, the old configuration stays: %s", error)
            self._end(Reload.REFUSED, str(error))
            return False
        except Exception as error:
            # Whatever a file may provoke, requests are served as before.
            _log.exception("reload failed, the old configuration stays")
            self._end(Reload.REFUSED, f"the reload failed ({type(error).__name__}): see the log")
            return False
        config = self._runtime.config
        _log.info("reloaded", extra={"policy": config.policy.name, "needs_restart": list(ignored)})
        self._end(Reload.APPLIED, "")
        return True

    def _end(self, how: Reload, refused: str) -> None:
        self._runtime.reload_refused = refused
        self._metrics.reloaded(how.name.lower(), self._runtime.clock.now())
        self._told(how, refused)
